import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { after, before, test } from 'node:test'
import { TestDaemon, until } from './daemon.ts'

/** Names and types of the answers, from the Engine API's definition (scripts/distill-api.ts). */
interface Schema { $ref?: string, type?: string, properties?: Record<string, Schema>, items?: Schema, additionalProperties?: Schema | boolean, allOf?: Schema[], required?: string[], enum?: unknown[], 'x-nullable'?: boolean }
interface Definition { paths: Record<string, Record<string, { responses: Record<string, { schema?: Schema }> }>>, definitions: Record<string, Schema> }
const definition = JSON.parse(readFileSync(new URL('engine-api.json', import.meta.url), 'utf8')) as Definition

function resolve(schema: Schema): Schema {
  if (schema.$ref) return resolve(definition.definitions[schema.$ref.split('/').at(-1)!]!)
  if (!schema.allOf) return schema
  const parts = schema.allOf.map(resolve)
  if (parts.every(({ type, properties }) => type !== 'object' && !properties)) return Object.assign({}, ...parts) as Schema
  return { type: 'object', properties: Object.assign({}, ...parts.map(({ properties }) => properties), schema.properties), required: parts.flatMap(({ required }) => required ?? []) }
}

/** Fields that the newest API no longer has, for clients that ask for an older one. */
const legacy = /\.(Containers|VirtualSize|GraphDriver|NFd|NGoroutines|IndexServerAddress|RegistryConfig|LayersSize|BuildCache|Volumes|Images|Comment|Parent|DockerVersion|Container|ContainerConfig|Config\..*|Bridge|HairpinMode|LinkLocalIPv6Address|LinkLocalIPv6PrefixLen|SecondaryIPAddresses|SecondaryIPv6Addresses|EndpointID|Gateway|GlobalIPv6Address|GlobalIPv6PrefixLen|IPAddress|IPPrefixLen|IPv6Gateway|MacAddress|KernelMemory\w*|GoVersion|GitCommit|BuildTime|Experimental\w*|ClusterAdvertise|ClusterStore|DeviceCgroupRules|Capabilities|networks.*|SystemStatus|CPUCfsPeriod|CPUCfsQuota)$/

/** What in a value is not as its schema says: a type, a missing field, a field that nobody defined. */
function differences(value: unknown, given: Schema, path: string): string[] {
  const schema = resolve(given)
  const { type } = schema
  if (value === null || value === undefined) return schema['x-nullable'] || type === 'array' || type === 'object' || type === undefined ? [] : [`${path}: null where ${type} is wanted`]
  if (type === 'array') return Array.isArray(value) ? value.flatMap((item, at) => differences(item, schema.items ?? {}, `${path}[${at}]`)) : [`${path}: no array`]
  if (type === 'object' || schema.properties) {
    if (typeof value !== 'object' || Array.isArray(value)) return [`${path}: no object`]
    const { properties = {}, additionalProperties, required = [] } = schema
    return [
      ...required.filter((name) => !(name in value)).map((name) => `${path}.${name}: missing`),
      ...Object.entries(value).flatMap(([name, item]) => {
        const own = properties[name] ?? (typeof additionalProperties === 'object' ? additionalProperties : undefined)
        if (own) return differences(item, own, `${path}.${name}`)
        return additionalProperties || !schema.properties || legacy.test(`${path}.${name}`) ? [] : [`${path}.${name}: not defined`]
      }),
    ]
  }
  const fits = type === undefined || (type === 'integer' ? Number.isInteger(value) : type === 'number' ? typeof value === 'number' : typeof value === type)
  if (!fits) return [`${path}: ${JSON.stringify(value)} where ${type} is wanted`]
  return schema.enum && !schema.enum.includes(value) ? [`${path}: ${JSON.stringify(value)} is none of ${JSON.stringify(schema.enum)}`] : []
}

const daemon = new TestDaemon()
let running = ''
let stopped = ''
let rich = ''
before(async () => {
  await daemon.start()
  await daemon.importStarter()
  const create = async (name: string, Cmd: string[]): Promise<string> => (await daemon.call('POST', `/containers/create?name=${name}`, { Image: 'starter', Cmd, Labels: { a: 'b' }, ExposedPorts: { '80/tcp': {}, '81/tcp': {} }, HostConfig: { PortBindings: { '80/tcp': [{ HostIp: '127.0.0.1', HostPort: '0' }] }, Memory: 64 << 20, Binds: ['/tmp:/mnt:ro'] } })).body.Id
  running = await create('running', ['sleep', '1000'])
  stopped = await create('stopped', ['sh', '-c', 'echo > /new; exit 3'])
  rich = (await daemon.call('POST', '/containers/create?name=rich', {
    Image: 'starter', Cmd: ['sleep', '1000'], Tty: true, OpenStdin: true, User: '0', Env: ['A=b'], Healthcheck: { Test: ['CMD-SHELL', 'true'], Interval: 100_000_000, Retries: 2 }, StopTimeout: 2, Volumes: { '/anonymous': {} },
    HostConfig: {
      Binds: ['named:/named:ro'], Tmpfs: { '/tmpfs': 'size=1m' }, Mounts: [{ Type: 'tmpfs', Target: '/other', TmpfsOptions: { SizeBytes: 1 << 20 } }, { Type: 'volume', Source: 'second', Target: '/second', VolumeOptions: { NoCopy: true, Labels: { l: '1' } } }],
      RestartPolicy: { Name: 'on-failure', MaximumRetryCount: 2 }, LogConfig: { Type: 'local', Config: { 'max-size': '1m' } }, Ulimits: [{ Name: 'nofile', Soft: 100, Hard: 200 }], CapAdd: ['NET_ADMIN'], CapDrop: ['CHOWN'], SecurityOpt: ['no-new-privileges'],
      Devices: [{ PathOnHost: '/dev/null', PathInContainer: '/dev/x', CgroupPermissions: 'rwm' }], Sysctls: { 'net.ipv4.ip_forward': '1' }, ExtraHosts: ['a:1.2.3.4'], Dns: ['1.1.1.1'], PidsLimit: 50, NanoCpus: 500_000_000, ReadonlyRootfs: true, Init: true, ShmSize: 1 << 20, GroupAdd: ['10'],
    },
  })).body.Id
  for (const id of [running, stopped, rich]) {
    const { status, text } = await daemon.call('POST', `/containers/${id}/start`)
    assert.equal(status, 204, text)
  }
  await until('it is checked', async () => (await daemon.call('GET', `/containers/${rich}/json`)).body.State.Health.Status === 'healthy')
  await daemon.call('POST', `/containers/${stopped}/wait`)
})
after(() => daemon[Symbol.asyncDispose]())

/** Method, the definition's path, the path that is asked for, the body. */
const requests: [string, string, () => string, object?][] = [
  ['GET', '/version', () => '/version'], ['GET', '/info', () => '/info'], ['GET', '/system/df', () => '/system/df'],
  ['GET', '/containers/json', () => '/containers/json?all=1&size=1'], ['GET', '/containers/{id}/json', () => `/containers/${running}/json?size=1`], ['GET', '/containers/{id}/json', () => `/containers/${stopped}/json`], ['GET', '/containers/{id}/json', () => `/containers/${rich}/json?size=1`],
  ['GET', '/containers/{id}/top', () => `/containers/${running}/top`], ['GET', '/containers/{id}/stats', () => `/containers/${running}/stats?stream=0`], ['GET', '/containers/{id}/stats', () => `/containers/${stopped}/stats?stream=0`], ['GET', '/containers/{id}/changes', () => `/containers/${stopped}/changes`],
  ['POST', '/containers/{id}/wait', () => `/containers/${stopped}/wait`], ['POST', '/containers/{id}/update', () => `/containers/${running}/update`, { Memory: 32 << 20, MemorySwap: 64 << 20 }],
  ['POST', '/containers/create', () => '/containers/create', { Image: 'starter', Cmd: ['true'] }], ['POST', '/containers/{id}/exec', () => `/containers/${running}/exec`, { Cmd: ['true'] }],
  ['GET', '/images/json', () => '/images/json'], ['GET', '/images/{name}/json', () => '/images/starter/json'], ['GET', '/images/{name}/history', () => '/images/starter/history'],
  ['POST', '/networks/create', () => '/networks/create', { Name: 'made', IPAM: { Config: [{ Subnet: '10.99.0.0/24', IPRange: '10.99.0.128/25', Gateway: '10.99.0.1', AuxiliaryAddresses: { a: '10.99.0.5' } }] }, Options: { 'com.docker.network.driver.mtu': '1400' }, Labels: { a: 'b' } }],
  ['POST', '/volumes/create', () => '/volumes/create', { Name: 'made', Labels: { a: 'b' }, DriverOpts: { type: 'tmpfs', device: 'tmpfs', o: 'size=1m' } }], ['GET', '/volumes', () => '/volumes'], ['GET', '/volumes/{name}', () => '/volumes/named'], ['POST', '/volumes/prune', () => '/volumes/prune?filters={"all":["true"]}'],
  ['GET', '/networks', () => '/networks'], ['GET', '/networks/{id}', () => '/networks/bridge'], ['GET', '/networks/{id}', () => '/networks/made'], ['POST', '/networks/prune', () => '/networks/prune'],
  ['POST', '/commit', () => `/commit?container=${stopped}&repo=made`, {}], ['DELETE', '/images/{name}', () => '/images/made'], ['POST', '/containers/prune', () => '/containers/prune'], ['POST', '/images/prune', () => '/images/prune'], ['POST', '/build/prune', () => '/build/prune'],
]

for (const [method, path, url, body] of requests) {
  test(`the answer to ${method} ${path} is as the API defines it`, async () => {
    const { status, body: answer } = await daemon.call(method, url(), body)
    const { schema } = definition.paths[path]![method.toLowerCase()]!.responses[String(status)] ?? assert.fail(`status ${status}: ${JSON.stringify(answer)}`)
    assert.deepEqual(differences(answer, schema!, ''), [])
  })
}

test('events are as the API defines them', async () => {
  const { text } = await daemon.call('GET', `/events?since=1&until=${Date.now() / 1000}`)
  const events = text.trim().split('\n').map((line) => JSON.parse(line) as unknown)
  assert.ok(events.length > 20)
  const { schema } = definition.paths['/events']!['get']!.responses['200']!
  const odd = /^\.(status|id|from): not defined$/ // which older clients read
  assert.deepEqual([...new Set(events.flatMap((event) => differences(event, schema!, '')))].filter((difference) => !odd.test(difference)), [])
})

test('the answer about an exec is as the API defines it', async () => {
  const { body: { Id } } = await daemon.call('POST', `/containers/${running}/exec`, { Cmd: ['true'] })
  await daemon.call('POST', `/exec/${Id}/start`, { Detach: false }) // answers once it has ended: before, the exit code is null
  const { body } = await daemon.call('GET', `/exec/${Id}/json`)
  assert.deepEqual(differences(body, definition.paths['/exec/{id}/json']!['get']!.responses['200']!.schema!, ''), [])
})

test('an error has a message, and the status that the API defines', async () => {
  for (const [method, path, status] of [['GET', '/containers/nope/json', 404], ['POST', `/containers/${running}/start`, 304], ['POST', '/containers/create?name=running', 400], ['GET', '/images/nope/json', 404], ['DELETE', `/containers/${running}`, 409], ['GET', '/networks/nope', 404], ['DELETE', '/networks/bridge', 403], ['POST', '/networks/bridge/connect', 400], ['GET', '/nope', 404], ['GET', '/v1.10/info', 400]] as const) {
    const answer = await daemon.call(method, path)
    assert.equal(answer.status, status, `${method} ${path}: ${answer.text}`)
    if (status !== 304) assert.equal(typeof answer.body.message, 'string')
  }
})
