/** Measures what people do with containers that run, berth beside dockerd: logs, statistics, copies, events, and how soon
 * each engine answers while a container does its worst. `node bench/daily.ts [--quick] [NAME…]`. */
import { spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { connect, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { chosen, measureAll, quick, report, reportHead, timed, type Scenario } from './measure.ts'
import { inParallel, makeTree, startPeers, stopPeers, type Peer } from './peers.ts'

interface Tools { large: string, small: string }
const MEGABYTES = quick ? 20 : 100
const STATS = quick ? 30 : 100
const LISTENERS = 50
const EVENTS = 200

/** A connection that asks for a stream, and hands over what comes. */
function ask(peer: Peer, path: string, hear: (data: Buffer) => void = () => {}): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect(peer.socket, () => socket.write(`GET ${path} HTTP/1.1\r\nHost: x\r\n\r\n`))
    socket.once('error', reject)
    socket.on('data', (data: Buffer) => {
      hear(data)
      resolve(socket)
    })
  })
}

/** What prints so many megabytes, in lines of 100 bytes. */
const printing = (megabytes: number): string[] => ['sh', '-c', `dd if=/dev/zero bs=64k count=${megabytes * 16} 2>/dev/null | tr '\\0' a | fold -w 99`]
const twoFiles = { LogConfig: { Type: 'json-file', Config: { 'max-size': '50m', 'max-file': '2' } } }

/** Has a container that has printed so many megabytes. */
async function printed(peer: Peer, work: (id: string) => number): Promise<number> {
  const id = await peer.create(printing(MEGABYTES))
  await peer.run(id)
  await peer.must('POST', `/containers/${id}/wait`)
  const figure = work(id)
  await peer.must('DELETE', `/containers/${id}`)
  return figure
}

const scenarios: Scenario<Tools>[] = [
  { name: `docker logs of ${MEGABYTES} MB`, unit: 'ms', rounds: 3, measure: (peer) => printed(peer, (id) => peer.shell(`docker logs ${id} >/dev/null`)) },
  { name: `docker logs --tail 10 of ${MEGABYTES} MB`, unit: 'ms', rounds: 3, measure: (peer) => printed(peer, (id) => peer.shell(`docker logs --tail 10 ${id} >/dev/null`)) },
  { name: 'docker cp of a file of 200 MB, in', unit: 'ms', rounds: 3, measure: (peer, { large }) => peer.withContainer(['sleep', '1000'], (id) => peer.shell(`docker cp -q ${large} ${id}:/tmp/`)) },
  { name: 'docker cp of a file of 200 MB, out', unit: 'ms', rounds: 3, measure: (peer, { large }) => peer.withContainer(['sleep', '1000'], (id) => {
    peer.docker('cp', '-q', large, `${id}:/tmp/large`)
    return peer.shell(`docker cp -q ${id}:/tmp/large ${peer.directory}/copied && rm ${peer.directory}/copied`)
  }) },
  { name: 'docker cp of 5,000 small files, in', unit: 'ms', rounds: 3, measure: (peer, { small }) => peer.withContainer(['sleep', '1000'], (id) => peer.shell(`docker cp -q ${small} ${id}:/tmp/`)) },
  { name: 'docker cp of 5,000 small files, out', unit: 'ms', rounds: 3, measure: (peer, { small }) => peer.withContainer(['sleep', '1000'], (id) => {
    peer.docker('cp', '-q', small, `${id}:/tmp/small`)
    return peer.shell(`docker cp -q ${id}:/tmp/small ${peer.directory}/copied && rm -r ${peer.directory}/copied`)
  }) },
  { name: `${EVENTS} events to ${LISTENERS} listeners`, unit: 'ms', rounds: 3, measure: (peer) => peer.withContainer(['sleep', '1000'], async (id) => {
    let heard = 0
    // the first, which every listener hears, says that it listens
    const sockets = Promise.all(Array.from({ length: LISTENERS }, () => ask(peer, '/events?filters={"event":["rename"]}', (data) => heard += data.toString().split('"Type":').length - 1)))
    await sleep(300)
    await peer.must('POST', `/containers/${id}/rename?name=first`)
    const listening = await sockets
    const ms = await timed(async () => {
      for (let i = 0; i < EVENTS; i++) await peer.must('POST', `/containers/${id}/rename?name=name-${i}`)
      while (heard < LISTENERS * (EVENTS + 1)) await sleep(1)
    })
    for (const socket of listening) socket.destroy()
    return ms
  }) },
]

/** What statistics of many containers cost. */
async function statistics(peer: Peer): Promise<Record<string, number>> {
  await inParallel(Array.from({ length: STATS }, (_item, at) => at), 8, async () => peer.run(await peer.create(['sleep', '1000'])))
  const list: { Id: string }[] = await peer.must('GET', '/containers/json')
  const sockets = await Promise.all(list.map(({ Id }) => ask(peer, `/containers/${Id}/stats?stream=1`)))
  await sleep(1000)
  const before = peer.daemonTime()
  await sleep(5000)
  const spent = peer.daemonTime() - before
  const memory = peer.daemonRss() / 1e6
  for (const socket of sockets) socket.destroy()
  const once = await timed(() => inParallel(list, 16, ({ Id }) => peer.must('GET', `/containers/${Id}/stats?stream=0&one-shot=1`)))
  await peer.removeAll()
  return { [`processor time for a second of ${STATS} streams of statistics, ms`]: spent / 5, [`memory of the daemon meanwhile, MB`]: memory, [`statistics of ${STATS} containers, once, ms`]: once }
}

/** The slowest of the answers, and what 99 of 100 take less than, while `pressure` goes on. */
async function answers(peer: Peer, pressure: () => Promise<unknown>): Promise<{ worst: number, most: number }> {
  const times: number[] = []
  let over = false
  const asked = (async () => {
    while (!over) {
      times.push(await timed(() => peer.must('GET', times.length % 2 ? '/_ping' : '/containers/json')))
      await sleep(5)
    }
  })()
  await pressure()
  over = true
  await asked
  const sorted = times.toSorted((a, b) => a - b)
  return { worst: sorted.at(-1)!, most: sorted[Math.floor(sorted.length * 0.99)]! }
}

const pressures: Record<string, (peer: Peer) => Promise<unknown>> = {
  'a container prints 1 GB': async (peer) => {
    const id = await peer.create(printing(quick ? 200 : 1000), twoFiles)
    await peer.run(id)
    await peer.must('POST', `/containers/${id}/wait`)
    await peer.must('DELETE', `/containers/${id}`)
  },
  'ten who follow its log do not read': async (peer) => {
    const id = await peer.create(printing(quick ? 50 : 200), twoFiles)
    await peer.run(id)
    const silent = await Promise.all(Array.from({ length: 10 }, async () => (await ask(peer, `/containers/${id}/logs?stdout=1&follow=1`)).pause()))
    await peer.must('POST', `/containers/${id}/wait`)
    for (const socket of silent) socket.destroy()
    await peer.must('DELETE', `/containers/${id}`)
  },
  'a fork bomb under a limit of 100': async (peer) => {
    const id = await peer.create(['sh', '-c', 'bomb() { bomb | bomb & }; bomb; sleep 1000'], { PidsLimit: 100 })
    await peer.run(id)
    await sleep(quick ? 2000 : 5000)
    await peer.must('DELETE', `/containers/${id}?force=1`)
  },
  'containers come and go': async (peer) => {
    await inParallel(Array.from({ length: quick ? 20 : 60 }, (_item, at) => at), 4, async () => {
      const id = await peer.create(['true'])
      await peer.run(id)
      await peer.must('POST', `/containers/${id}/wait`)
      await peer.must('DELETE', `/containers/${id}`)
    })
  },
}

const scratch = mkdtempSync(join(tmpdir(), 'bench-trees-'))
const peers = await startPeers(scratch, ['tr', 'fold'])
try {
  const [large, small] = [join(scratch, 'large'), join(scratch, 'small')]
  spawnSync('dd', ['if=/dev/urandom', `of=${large}`, 'bs=1M', 'count=200'])
  mkdirSync(small)
  makeTree(small, 5000)
  reportHead()
  await measureAll(peers, scenarios, { large, small })
  if (chosen('statistics')) {
    const [berth, dockerd] = [await statistics(peers[0]), await statistics(peers[1])]
    for (const [name, value] of Object.entries(berth)) report(name, value, dockerd[name]!, false)
  }
  for (const [name, pressure] of Object.entries(pressures)) {
    if (!chosen(name)) continue
    const [berth, dockerd] = [await answers(peers[0], () => pressure(peers[0])), await answers(peers[1], () => pressure(peers[1]))]
    report(`slowest answer while ${name}, ms`, berth.worst, dockerd.worst, false)
    report('  of 100 answers, 99 are sooner than, ms', berth.most, dockerd.most, false)
  }
} finally {
  await stopPeers(peers)
  rmSync(scratch, { recursive: true, force: true })
}
