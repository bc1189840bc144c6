import assert from 'node:assert/strict'
import { mkdirSync, rmSync } from 'node:fs'
import { createServer } from 'node:http'
import { after, before, test } from 'node:test'
import { succeeded, type Said } from './daemon.ts'
import { TestHost } from './hosts.ts'

const host = new TestHost()
const name = `berth-test-${process.pid}`
const socket = `/run/docker/plugins/${name}.sock`
const calls: { method: string, body: any }[] = []
/** Methods that fail, with what they say. */
const failing = new Map<string, string>()

/** A plugin that makes a bridge for each network and a pair of links for each endpoint, and gives out addresses of
 * 10.55.0.0/24 from .100 on. */
let next = 100
const answers: Record<string, (body: any) => object> = {
  'Plugin.Activate': () => ({ Implements: ['NetworkDriver', 'IpamDriver'] }),
  'NetworkDriver.GetCapabilities': () => ({ Scope: 'local' }),
  'NetworkDriver.CreateNetwork': ({ NetworkID, IPv4Data }) => on(`ip link add p${NetworkID.slice(0, 8)} type bridge; ip addr add ${IPv4Data[0].Gateway} dev p${NetworkID.slice(0, 8)}; ip link set p${NetworkID.slice(0, 8)} up`),
  'NetworkDriver.DeleteNetwork': ({ NetworkID }) => on(`ip link del p${NetworkID.slice(0, 8)}`),
  'NetworkDriver.CreateEndpoint': () => ({ Interface: {} }),
  'NetworkDriver.DeleteEndpoint': () => ({}),
  'NetworkDriver.EndpointOperInfo': () => ({ Value: {} }),
  'NetworkDriver.Join': ({ NetworkID, EndpointID }) => {
    on(`ip link add h${EndpointID.slice(0, 8)} type veth peer name c${EndpointID.slice(0, 8)}; ip link set h${EndpointID.slice(0, 8)} master p${NetworkID.slice(0, 8)} up`)
    return { InterfaceName: { SrcName: `c${EndpointID.slice(0, 8)}`, DstPrefix: 'plug' }, Gateway: '10.55.0.1', StaticRoutes: [{ Destination: '10.77.0.0/16', RouteType: 0, NextHop: '10.55.0.1' }] }
  },
  'NetworkDriver.Leave': () => ({}),
  'NetworkDriver.ProgramExternalConnectivity': () => ({}),
  'NetworkDriver.RevokeExternalConnectivity': () => ({}),
  'IpamDriver.GetDefaultAddressSpaces': () => ({ LocalDefaultAddressSpace: 'here', GlobalDefaultAddressSpace: 'everywhere' }),
  'IpamDriver.RequestPool': ({ Pool }) => ({ PoolID: 'the-pool', Pool: Pool || '10.55.0.0/24' }),
  'IpamDriver.ReleasePool': () => ({}),
  'IpamDriver.RequestAddress': ({ Address, Options }) => ({ Address: `${Options?.RequestAddressType ? '10.55.0.1' : Address || `10.55.0.${next++}`}/24` }),
  'IpamDriver.ReleaseAddress': () => ({}),
}
function on(script: string): object {
  const { code, err } = host.onHost('sh', '-ec', script)
  return code === 0 ? {} : { Err: err }
}
const server = createServer((request, response) => {
  const chunks: Buffer[] = []
  request.on('data', (chunk: Buffer) => chunks.push(chunk))
  request.on('end', () => {
    const method = request.url!.slice(1)
    const body = JSON.parse(Buffer.concat(chunks).toString() || '{}')
    calls.push({ method, body })
    const Err = failing.get(method)
    response.end(JSON.stringify(Err ? { Err } : answers[method]!(body)))
  })
})

before(async () => {
  mkdirSync('/run/docker/plugins', { recursive: true })
  await new Promise<void>((resolve) => server.listen(socket, resolve))
  await host.start()
  await host.importStarter()
})
after(async () => {
  await host[Symbol.asyncDispose]()
  server.close()
  rmSync(socket, { force: true })
})

/** The client beside this process, which must answer meanwhile. */
async function berth(...args: string[]): Promise<Said> {
  return await host.cliBeside(args)
}
const ok = async (...args: string[]): Promise<string> => succeeded(await berth(...args), args).trim()
const called = (method: string): any[] => calls.filter((call) => call.method === method).map(({ body }) => body)

test('a network of a plugin: it makes the links, and is told of all that happens', async () => {
  await ok('network', 'create', '-d', name, '--subnet', '10.55.0.0/24', '-o', 'colour=green', 'plugged')
  assert.equal(called('NetworkDriver.CreateNetwork')[0].Options['com.docker.network.generic'].colour, 'green')
  await ok('run', '-d', '--name', 'inside', '--network', 'plugged', '-p', '8200:80', 'starter', 'sleep', '1000')
  assert.match(await ok('exec', 'inside', 'ip', 'addr'), /inet 10\.55\.0\.2\/24 .* plug0/)
  assert.match(await ok('exec', 'inside', 'ip', 'route'), /default via 10\.55\.0\.1 dev plug0 \n10\.55[^]*10\.77\.0\.0\/16 via 10\.55\.0\.1/)
  assert.match(await ok('exec', 'inside', 'ping', '-c1', '-W2', '10.55.0.1'), /1 packets received/)
  assert.deepEqual(called('NetworkDriver.ProgramExternalConnectivity')[0].Options['com.docker.network.portmap'][0], { Proto: 6, IP: '', Port: 80, HostIP: '0.0.0.0', HostPort: 8200, HostPortEnd: 8200 })
  await host.stop('SIGKILL')
  await host.start()
  assert.equal(called('NetworkDriver.CreateNetwork').length, 1)
  await ok('rm', '-f', 'inside')
  assert.deepEqual([called('NetworkDriver.Leave').length, called('NetworkDriver.DeleteEndpoint').length], [1, 1])
  await ok('network', 'rm', 'plugged')
  assert.equal(called('NetworkDriver.DeleteNetwork').length, 1)
})

test('what a plugin refuses is said in its words, and nothing is left', async () => {
  failing.set('NetworkDriver.CreateNetwork', 'no more networks')
  assert.match((await berth('network', 'create', '-d', name, 'refused')).err, /NetworkDriver\.CreateNetwork: no more networks/)
  failing.clear()
  await ok('network', 'create', '-d', name, '--subnet', '10.55.0.0/24', 'again')
  failing.set('NetworkDriver.Join', 'no more room')
  const deleted = called('NetworkDriver.DeleteEndpoint').length
  assert.match((await berth('run', '--rm', '--network', 'again', 'starter', 'true')).err, /no more room/)
  assert.equal(called('NetworkDriver.DeleteEndpoint').length, deleted + 1)
  failing.clear()
  assert.equal((await berth('run', '--rm', '--network', 'again', 'starter', 'true')).code, 0)
  await ok('network', 'rm', 'again')
  assert.match((await berth('network', 'create', '-d', 'nobody', 'x')).err, /plugin "nobody" not found/)
  assert.match((await berth('network', 'create', '--ipam-driver', 'nobody', 'x')).err, /plugin "nobody" not found/)
})

test('a plugin chooses subnets, and gives out addresses', async () => {
  await ok('network', 'create', '--ipam-driver', name, '--ipam-opt', 'taste=sweet', 'given')
  assert.equal(called('IpamDriver.RequestPool')[0].Options.taste, 'sweet')
  assert.equal(await ok('network', 'inspect', '-f', '{{.IPAM.Driver}} {{(index .IPAM.Config 0).Subnet}} {{(index .IPAM.Config 0).Gateway}}', 'given'), `${name} 10.55.0.0/24 10.55.0.1`)
  assert.match(await ok('run', '--rm', '--network', 'given', 'starter', 'ip', 'addr'), /inet 10\.55\.0\.100\/24/)
  assert.match(await ok('run', '--rm', '--network', 'given', '--ip', '10.55.0.7', 'starter', 'ip', 'addr'), /inet 10\.55\.0\.7\/24/)
  assert.deepEqual(called('IpamDriver.ReleaseAddress').map(({ Address }) => Address), ['10.55.0.100', '10.55.0.7'])
  await ok('network', 'rm', 'given')
  assert.equal(called('IpamDriver.ReleasePool').length, 1)
})
