import assert from 'node:assert/strict'
import { spawn, type ChildProcess } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { succeeded } from './daemon.ts'
import { TestHost, execute } from './hosts.ts'

/** Three hosts on one wire, 203.0.113.1 to .3, and a store at .254. */
const hosts = [1, 2, 3].map((number) => ({ number, host: new TestHost() }))
const directory = mkdtempSync(join(tmpdir(), 'berth-store-'))
const at = (number: number): TestHost => hosts[number - 1]!.host
const flagsOf = (number: number): string[] => ['--cluster-store', 'etcd://203.0.113.254:2379', '--cluster-advertise', `203.0.113.${number}:0`]
let wire = 0
let store: ChildProcess | undefined

const inWire = (...command: string[]): void => {
  const { code, err } = execute(['nsenter', '-n', '-t', String(wire), ...command])
  if (code !== 0) throw new Error(err)
}

async function startStore(): Promise<void> {
  store = spawn('nsenter', ['-n', '-t', String(wire), 'etcd', '--data-dir', join(directory, 'data'), '--listen-client-urls', 'http://0.0.0.0:2379', '--advertise-client-urls', 'http://203.0.113.254:2379', '--listen-peer-urls', 'http://127.0.0.1:2380', '--log-level', 'error'], { stdio: 'ignore', env: { ...process.env, ETCD_UNSUPPORTED_ARCH: 'arm64' } })
  for (let tries = 0; tries < 200; tries++) {
    if (execute(['nsenter', '-n', '-t', String(wire), 'busybox', 'nc', '-w', '1', '203.0.113.254', '2379']).code === 0) return
    await sleep(50)
  }
  throw new Error('etcd does not answer')
}

async function stopStore(): Promise<void> {
  const ended = new Promise((resolve) => store?.once('exit', resolve))
  store?.kill('SIGKILL')
  await ended
}


before(async () => {
  wire = Number(execute(['sh', '-c', 'unshare -n sleep 100000 </dev/null >/dev/null 2>&1 & echo $!']).out)
  await sleep(200)
  inWire('sh', '-ec', 'ip link set lo up; ip link add wire type bridge; ip addr add 203.0.113.254/24 dev wire; ip link set wire up')
  await startStore()
  await Promise.all(hosts.map(async ({ number, host }) => {
    await host.start({}, { flags: flagsOf(number) })
    inWire('sh', '-ec', `ip link add h${number} type veth peer name wire netns ${host.keeper}; ip link set h${number} master wire up`)
    host.onHost('sh', '-ec', `ip addr add 203.0.113.${number}/24 dev wire; ip link set wire up`)
    await host.importStarter()
  }))
})
after(async () => {
  await Promise.all(hosts.map(({ host }) => host[Symbol.asyncDispose]()))
  await stopStore()
  process.kill(wire, 'SIGKILL')
  rmSync(directory, { recursive: true, force: true })
})

const ok = (number: number, ...args: string[]): string => succeeded(at(number).cli(args), [`host ${number}:`, ...args]).trim()
const addressOf = (number: number, name: string): string => ok(number, 'inspect', '-f', '{{.NetworkSettings.Networks.wide.IPAddress}}', name)

/** Tries until something holds: what one host does comes to the others a little later. */
async function soon(what: string, holds: () => boolean): Promise<void> {
  for (let tries = 0; tries < 100; tries++) {
    if (holds()) return
    await sleep(100)
  }
  assert.fail(`${what} did not come to be`)
}
const reaches = (from: number, container: string, to: string): boolean => at(from).cli(['exec', container, 'ping', '-c1', '-W2', to]).code === 0

test('a network made on one host is there on all, and its name is taken', async () => {
  await soon('the store', () => at(1).cli(['network', 'create', '-d', 'overlay', 'wide']).code === 0)
  for (const { number } of hosts) await soon(`the network on host ${number}`, () => ok(number, 'network', 'ls', '--format', '{{.Name}} {{.Driver}} {{.Scope}}').includes('wide overlay global'))
  assert.match(at(2).cli(['network', 'create', '-d', 'overlay', 'wide']).err, /network with name wide already exists/)
  assert.equal(new Set(hosts.map(({ number }) => ok(number, 'network', 'inspect', '-f', '{{.Id}} {{json .IPAM}}', 'wide'))).size, 1)
})

test('containers of several hosts reach each other by name and address, with packets as large as they may be', async () => {
  for (const { number } of hosts) ok(number, 'run', '-d', '--name', `c${number}`, '--network', 'wide', '--network-alias', 'all', 'starter', 'sleep', '1000')
  for (const [from, to] of [[1, 2], [2, 3], [3, 1]] as const) await soon(`the way from ${from} to ${to}`, () => reaches(from, `c${from}`, `c${to}`))
  assert.equal(at(1).cli(['exec', 'c1', 'ping', '-c1', '-W2', '-s', '1422', addressOf(3, 'c3')]).code, 0)
  assert.match(ok(1, 'exec', 'c1', 'ip', 'link', 'show', 'eth0'), /mtu 1450/)
  const pid = ok(1, 'inspect', '-f', '{{.State.Pid}}', 'c1')
  const found = at(1).onHost('nsenter', '-n', '-t', pid, 'dig', '+short', '@127.0.0.11', 'all').out.trim().split('\n').toSorted()
  assert.deepEqual(found, [1, 2, 3].map((number) => addressOf(number, `c${number}`)).toSorted())
  assert.deepEqual(ok(1, 'network', 'inspect', '-f', '{{range .Containers}}{{.Name}} {{end}}', 'wide').split(' ').toSorted(), ['c1', 'c2', 'c3'])
})

test('no address is given twice, however many hosts ask at once', async () => {
  const made = await Promise.all(hosts.flatMap(({ number, host }) => Array.from({ length: 6 }, async (_, i) => {
    const { body: { Id } } = await host.call('POST', `/containers/create?name=many${number}-${i}`, { Image: 'starter', Cmd: ['sleep', '1000'], HostConfig: { NetworkMode: 'wide' } })
    assert.equal((await host.call('POST', `/containers/${Id}/start`)).status, 204)
    return (await host.call('GET', `/containers/${Id}/json`)).body.NetworkSettings.Networks.wide.IPAddress as string
  })))
  assert.equal(new Set(made).size, 18)
  const taken = made[0]!
  assert.match(at(3).cli(['run', '--rm', '--network', 'wide', '--ip', taken, 'starter', 'true']).err, /Address already in use/)
  for (const { number } of hosts) ok(number, 'rm', '-f', ...Array.from({ length: 6 }, (_, i) => `many${number}-${i}`))
})

test('while the store is away what runs goes on, and what begins fails in words; then all is well again', async () => {
  await stopStore()
  assert.ok(reaches(1, 'c1', addressOf(2, 'c2')))
  const refused = at(1).cli(['run', '--rm', '--network', 'wide', 'starter', 'true'])
  assert.equal(refused.code, 125)
  assert.match(refused.err, /the cluster store etcd:\/\/203\.0\.113\.254:2379 does not answer/)
  ok(3, 'rm', '-f', 'c3') // given back later
  await startStore()
  await soon('a new container', () => at(2).cli(['run', '-d', '--name', 'new', '--network', 'wide', 'starter', 'sleep', '1000']).code === 0 || (at(2).cli(['rm', '-f', 'new']), false))
  await soon('the way to it', () => reaches(1, 'c1', 'new'))
  await soon('the end of what went', () => !ok(1, 'network', 'inspect', '-f', '{{json .Containers}}', 'wide').includes('"c3"'))
})

test('a host that was killed and comes back has what lives, and gives back what does not', async () => {
  ok(2, 'run', '-d', '--name', 'dies', '--network', 'wide', 'starter', 'sleep', '1000')
  const pid = Number(ok(2, 'inspect', '-f', '{{.State.Pid}}', 'dies'))
  await at(2).stop('SIGKILL')
  process.kill(pid, 'SIGKILL')
  assert.ok(reaches(1, 'c1', addressOf(1, 'c1')))
  ok(1, 'run', '-d', '--name', 'late', '--network', 'wide', 'starter', 'sleep', '1000')
  await at(2).start({}, { flags: flagsOf(2) })
  await soon('the way between them', () => reaches(2, 'new', 'late') && reaches(1, 'late', 'new'))
  await soon('the end of what died', () => !ok(1, 'network', 'inspect', '-f', '{{json .Containers}}', 'wide').includes('"dies"'))
})

test('a network that is in use on another host stays, and then goes everywhere', async () => {
  ok(1, 'rm', '-f', 'c1', 'late')
  assert.match(at(1).cli(['network', 'rm', 'wide']).err, /has active endpoints on other hosts \((c2|new) on 203\.0\.113\.2/)
  ok(2, 'rm', '-f', 'c2', 'new', 'dies')
  await soon('the end of the network', () => at(1).cli(['network', 'rm', 'wide']).code === 0)
  await soon('its end elsewhere', () => !ok(2, 'network', 'ls', '-q', '-f', 'name=wide'))
  for (const { host } of hosts) assert.doesNotMatch(host.onHost('ip', '-o', 'link').out, /vx-|ov-/)
})

test('an encrypted network shows nothing on the wire, and takes nothing that was not encrypted', async () => {
  const { code, err } = at(1).cli(['network', 'create', '-d', 'overlay', '-o', 'encrypted', 'secret'])
  if (code !== 0) return assert.match(err, /encrypted overlay networks need ESP and AES-GCM, which this kernel has not/)
  for (const number of [1, 2]) await soon('the network', () => at(number).cli(['run', '-d', '--name', `s${number}`, '--network', 'secret', 'starter', 'sleep', '1000']).code === 0 || (at(number).cli(['rm', '-f', `s${number}`]), false))
  await soon('the way', () => reaches(1, 's1', 's2') && reaches(2, 's2', 's1'))
  const packets = (chain: string): number => Number(/packets (\d+)/.exec(execute(['nsenter', '-n', '-t', String(wire), 'nft', 'list', 'chain', 'bridge', 'count', chain]).out)?.[1])
  inWire('sh', '-ec', `nft add table bridge count; for chain in clear closed; do nft add chain bridge count $chain '{ type filter hook forward priority 0; }'; done; nft add rule bridge count clear ip protocol udp udp dport 4789 counter; nft add rule bridge count closed ip protocol esp counter`)
  assert.ok(reaches(1, 's1', 's2'))
  assert.deepEqual([packets('clear'), packets('closed') >= 2], [0, true])
  assert.equal(at(1).cli(['exec', 's1', 'ping', '-c1', '-W2', '-s', '1382', 's2']).code, 0) // 1410 in all
  // without the policies what is sent is not encrypted, and not taken
  at(1).onHost('ip', 'xfrm', 'policy', 'flush')
  assert.ok(!reaches(1, 's1', 's2'))
  await at(1).stop('SIGKILL')
  await at(1).start({}, { flags: flagsOf(1) })
  await soon('the way again', () => reaches(1, 's1', 's2'))
  for (const number of [1, 2]) ok(number, 'rm', '-f', `s${number}`)
  await soon('the end', () => at(1).cli(['network', 'rm', 'secret']).code === 0)
  assert.equal(at(1).onHost('ip', 'xfrm', 'policy').out, '')
})

test('without a store there are no networks of several hosts', async () => {
  await at(3).stop()
  await at(3).start()
  assert.match(at(3).cli(['network', 'create', '-d', 'overlay', 'alone']).err, /overlay networks need --cluster-store and --cluster-advertise/)
  assert.equal(at(3).cli(['run', '--rm', 'starter', 'true']).code, 0)
})
