/** Measures the networks of berth beside those of dockerd, each engine in a network namespace of its own, in turns. `node
 * bench/networks.ts [--quick]`. Needs dockerd (Debian: docker.io), iptables, busybox and iperf3. */
import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { makeStarter } from '../test/daemon.ts'
import { median, quick, report, reportHead, timed } from './measure.ts'
import { Peer, inParallel } from './peers.ts'

const many = quick ? 60 : 300
const seconds = quick ? 1 : 3
/** The host's own programs, for iperf3, whose libraries the image has not. */
const TOOLS = ['/usr:/usr:ro', '/lib:/lib:ro', '/lib64:/lib64:ro']

const create = (peer: Peer, command: readonly string[], host: { PortBindings?: object, [key: string]: unknown } = {}, more: object = {}): Promise<string> => peer.must('POST', '/containers/create', {
  Image: 'bench', Cmd: command, ExposedPorts: Object.fromEntries(Object.keys(host.PortBindings ?? {}).map((port) => [port, {}])), HostConfig: { NetworkMode: 'bridge', ...host }, ...more,
}).then(({ Id }) => Id)
const inspect = (peer: Peer, id: string): Promise<any> => peer.must('GET', `/containers/${id}/json`)
const remove = (peer: Peer, ...ids: string[]): Promise<unknown> => Promise.all(ids.map((id) => peer.call('DELETE', `/containers/${id}?force=1`)))
const started = async (peer: Peer, ...args: [command: readonly string[], host?: { PortBindings?: object, [key: string]: unknown }]): Promise<string> => {
  const id = await create(peer, ...args)
  await peer.run(id)
  return id
}

/** What a command in the network namespace of a process prints. */
function within(pid: number, ...command: string[]): string {
  const { status, stdout, stderr } = spawnSync('nsenter', ['-n', '-t', String(pid), ...command], { maxBuffer: 64 << 20 })
  if (status !== 0) throw new Error(`${command.join(' ')}: ${stderr.toString()}`)
  return stdout.toString()
}

/** Gbit a second that a client in the namespace of a process sends to a server. */
function throughput(pid: number, address: string, port: number): number {
  for (let tries = 0; ; tries++) { // the server takes its time to listen
    const { stdout } = spawnSync('nsenter', ['-n', '-t', String(pid), 'iperf3', '-J', '-t', String(seconds), '-c', address, '-p', String(port)])
    const { end, error } = JSON.parse(stdout.toString()) as { end: { sum_received?: { bits_per_second: number } }, error?: string }
    if (end.sum_received) return end.sum_received.bits_per_second / 1e9
    if (tries === 20) throw new Error(`iperf3 to ${address}: ${error}`)
    spawnSync('sleep', ['0.1'])
  }
}

const addressOf = async (peer: Peer, id: string): Promise<string> => (await inspect(peer, id)).NetworkSettings.Networks.bridge.IPAddress
const server = (peer: Peer, host: object = {}): Promise<string> => started(peer, ['/usr/bin/iperf3', '-s', '-p', '5201'], { Binds: TOOLS, ...host })

interface Scenario { name: string, unit: string, rounds: number, more?: boolean, measure: (peer: Peer) => Promise<number> | number }

const scenarios: Scenario[] = [
  { name: 'docker run --rm true, default network', unit: 'ms', rounds: 21, measure: (peer) => peer.docker('run', '--rm', 'bench', 'true').ms },
  { name: 'docker run --rm true, own network', unit: 'ms', rounds: 11, measure: (peer) => peer.docker('run', '--rm', '--network', 'own', 'bench', 'true').ms },
  { name: 'docker run --rm -p 8080:80 true', unit: 'ms', rounds: 11, measure: (peer) => peer.docker('run', '--rm', '-p', '8080:80', 'bench', 'true').ms },
  { name: 'create, start, wait, delete by API, default network', unit: 'ms', rounds: 21, measure: (peer) => timed(async () => {
    const id = await create(peer, ['true'])
    const waiting = peer.must('POST', `/containers/${id}/wait?condition=next-exit`)
    await peer.run(id)
    await waiting
    await peer.must('DELETE', `/containers/${id}`)
  }) },
  { name: 'network create and rm', unit: 'ms', rounds: 5, measure: (peer) => timed(async () => {
    const { Id } = await peer.must('POST', '/networks/create', { Name: 'made' })
    await peer.must('DELETE', `/networks/${Id}`)
  }) },
  { name: 'network connect', unit: 'ms', rounds: 11, measure: async (peer) => {
    const id = await started(peer, ['sleep', '1000'])
    const ms = await timed(() => peer.must('POST', '/networks/own/connect', { Container: id }))
    await remove(peer, id)
    return ms
  } },
  { name: 'network disconnect', unit: 'ms', rounds: 11, measure: async (peer) => {
    const id = await started(peer, ['sleep', '1000'])
    const ms = await timed(() => peer.must('POST', '/networks/bridge/disconnect', { Container: id }))
    await remove(peer, id)
    return ms
  } },
  { name: 'container to container', unit: 'Gbit/s', rounds: 3, more: true, measure: async (peer) => {
    const [to, from] = [await server(peer), await started(peer, ['sleep', '1000'])]
    const rate = throughput((await inspect(peer, from)).State.Pid, await addressOf(peer, to), 5201)
    await remove(peer, to, from)
    return rate
  } },
  ...(['localhost', 'an address of the host'] as const).map((place): Scenario => ({ name: `host to a published port by ${place}`, unit: 'Gbit/s', rounds: 3, more: true, measure: async (peer) => {
    const to = await server(peer, { PortBindings: { '5201/tcp': [{ HostPort: '5301' }] } })
    const rate = throughput(peer.pid, place === 'localhost' ? '127.0.0.1' : (await inspect(peer, to)).NetworkSettings.Networks.bridge.Gateway, 5301)
    await remove(peer, to)
    return rate
  } })),
  { name: 'round trip, container to container', unit: 'µs', rounds: 3, measure: async (peer) => {
    const [to, from] = [await started(peer, ['sleep', '1000']), await started(peer, ['sleep', '1000'])]
    const said = within((await inspect(peer, from)).State.Pid, 'busybox', 'ping', '-q', '-c', quick ? '200' : '1000', '-i', '0.001', await addressOf(peer, to))
    await remove(peer, to, from)
    return Number(/= [\d.]+\/([\d.]+)\//.exec(said)![1]) * 1000
  } },
  { name: 'DNS queries for a container\'s name, eight at a time', unit: 'per s', rounds: 3, more: true, measure: async (peer) => {
    const asks = await started(peer, ['sleep', '1000'], { NetworkMode: 'own' })
    const named = await create(peer, ['sleep', '1000'], { NetworkMode: 'own' }, { NetworkingConfig: { EndpointsConfig: { own: { Aliases: ['named'] } } } })
    await peer.run(named)
    const rate = Number(within((await inspect(peer, asks)).State.Pid, process.execPath, join(scratch, 'asks.mjs')))
    await remove(peer, asks, named)
    return rate
  } },
]

/** Asks a name server for a second, eight queries at a time, and prints how many answers came a second. */
const asks = `
import { createSocket } from 'node:dgram'
const query = Buffer.from('000001000001000000000000056e616d65640000010001', 'hex')
let count = 0
const end = performance.now() + 1000
await Promise.all(Array.from({ length: 8 }, () => new Promise((resolve) => {
  const socket = createSocket('udp4')
  socket.on('message', () => { count++; performance.now() < end ? socket.send(query) : resolve(socket.close()) })
  socket.connect(53, '127.0.0.11', () => socket.send(query))
})))
console.log(count)`

/** What a start costs when there are many, and what they cost. */
async function growth(peer: Peer): Promise<Record<string, number>> {
  const figures: Record<string, number> = {}
  const start = async (host: { PortBindings?: object } = {}): Promise<number> => {
    const values: number[] = []
    for (let round = 0; round < 9; round++) {
      const id = await create(peer, ['sleep', '1000'], host)
      values.push(await timed(() => peer.run(id)))
      await remove(peer, id)
    }
    return median(values)
  }
  figures['start with none on the network, ms'] = await start()
  await inParallel(Array.from({ length: many }, (_item, at) => at), 8, async () => started(peer, ['sleep', '1000']))
  figures[`start with ${many} on the network, ms`] = await start()
  figures[`rm -f of ${many}, ms`] = await timed(() => peer.removeAll())
  const ports = quick ? 200 : 1000
  figures['start with one port and no others published, ms'] = await start({ PortBindings: { '80/tcp': [{ HostPort: '7000' }] } })
  const holder = await create(peer, ['sleep', '1000'], { PortBindings: Object.fromEntries(Array.from({ length: ports }, (_item, at) => [`${at + 1}/tcp`, [{ HostPort: String(8000 + at) }]])) })
  figures[`start of a container with ${ports} ports, ms`] = await timed(() => peer.run(holder))
  figures[`start with one port and ${ports} others published, ms`] = await start({ PortBindings: { '80/tcp': [{ HostPort: '7000' }] } })
  await peer.removeAll()
  const count = quick ? 10 : 25 // Docker's usual address pools have no more
  const made: string[] = []
  const making: number[] = []
  for (let at = 0; at < count; at++) making.push(await timed(async () => made.push((await peer.must('POST', '/networks/create', { Name: `n${at}` })).Id)))
  figures[`network create, the last of ${count}, ms`] = median(making.slice(-5))
  for (const id of made) await peer.must('DELETE', `/networks/${id}`)
  return figures
}

const scratch = mkdtempSync(join(tmpdir(), 'bench-networks-'))
const peers = [new Peer('berth', { networks: true }), new Peer('dockerd', { networks: true })] as const
try {
  writeFileSync(join(scratch, 'asks.mjs'), asks)
  makeStarter(join(scratch, 'starter'))
  spawnSync('sh', ['-c', `cd ${scratch}/starter && mkdir usr lib lib64; tar cf ${scratch}/starter.tar .`])
  for (const peer of peers) {
    await peer.start()
    peer.docker('import', `${scratch}/starter.tar`, 'bench')
    peer.docker('network', 'create', 'own')
  }
  reportHead()
  for (const { name, unit, rounds, more = false, measure } of scenarios) {
    const values: [number[], number[]] = [[], []]
    for (let round = 0; round < (quick ? Math.min(rounds, 5) : rounds); round++) for (const at of [0, 1] as const) values[at].push(await measure(peers[at]))
    report(`${name}, ${unit}`, median(values[0]), median(values[1]), more)
  }
  const [berth, dockerd] = [await growth(peers[0]), await growth(peers[1])]
  for (const [name, value] of Object.entries(berth)) report(name, value, dockerd[name]!, false)
} finally {
  for (const peer of peers) await peer.stop()
  rmSync(scratch, { recursive: true, force: true })
}
