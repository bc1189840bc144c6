/** Measures berth beside dockerd: the same docker CLI, the same image, in turns. `node bench/bench.ts [--quick] [NAME…]`;
 * prints medians and their ratio. Needs dockerd (Debian: docker.io), busybox, and debootstrap for the Debian image. */
import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { measureAll, median, quick, report, reportHead, timed, wanted, type Scenario } from './measure.ts'
import { debianTree, inParallel, makeTree, startPeers, stopPeers, type Peer } from './peers.ts'

const many = quick ? 60 : 300

interface Tools { debian: string | undefined, small: string }

const STOPPABLE = ['sh', '-c', 'trap "exit 0" TERM; sleep 1000 & wait']

const cliRun = (network: string) => (peer: Peer): number => peer.docker('run', '--rm', '--network', network, 'bench', 'true').ms

const archives = (name: string, tree: (tools: Tools) => string | undefined): Scenario<Tools>[] => [
  { name: `import of ${name}`, unit: 'ms', rounds: 3, measure: async (peer, tools) => {
    const ms = peer.shell(`docker import ${tree(tools)}.tar measured >/dev/null`)
    peer.docker('rmi', 'measured')
    await peer.settle()
    return ms
  } },
  { name: `save of ${name}`, unit: 'ms', rounds: 3, measure: async (peer, tools) => {
    peer.shell(`docker import ${tree(tools)}.tar measured >/dev/null`)
    await peer.settle()
    const ms = peer.shell(`docker save -o ${peer.directory}/saved.tar measured`)
    peer.docker('rmi', 'measured')
    await peer.settle()
    return ms
  } },
  { name: `load of ${name}`, unit: 'ms', rounds: 3, measure: async (peer) => {
    const ms = peer.shell(`docker load -i ${peer.directory}/saved.tar >/dev/null`)
    peer.docker('rmi', 'measured')
    await peer.settle()
    return ms
  } },
]

const scenarios: Scenario<Tools>[] = [
  { name: 'docker run --rm true, network none', unit: 'ms', rounds: 21, measure: cliRun('none') },
  { name: 'docker run --rm true, network host', unit: 'ms', rounds: 21, measure: cliRun('host') },
  { name: 'create, start, wait, delete by API, network none', unit: 'ms', rounds: 21, measure: (peer) => timed(async () => {
    const id = await peer.create(['true'])
    const waiting = peer.must('POST', `/containers/${id}/wait?condition=next-exit`)
    await peer.run(id)
    await waiting
    await peer.must('DELETE', `/containers/${id}`)
  }) },
  { name: 'start of a detached container', unit: 'ms', rounds: 21, measure: async (peer) => {
    const id = await peer.create(['sleep', '1000'])
    const ms = await timed(() => peer.run(id))
    await peer.call('DELETE', `/containers/${id}?force=1`)
    return ms
  } },
  { name: '64 created and started, eight at a time', unit: 'per s', rounds: 2, more: true, measure: async (peer) => {
    const ms = await timed(() => inParallel(Array.from({ length: 64 }, (_item, at) => at), 8, async () => peer.run(await peer.create(['sleep', '1000']))))
    await peer.removeAll()
    return 64 / ms * 1000
  } },
  { name: 'docker exec true', unit: 'ms', rounds: 11, measure: (peer) => peer.withContainer(['sleep', '1000'], (id) => peer.docker('exec', id, 'true').ms) },
  { name: 'exec by API', unit: 'ms', rounds: 21, measure: (peer) => peer.withContainer(['sleep', '1000'], (id) => timed(async () => {
    const { Id } = await peer.must('POST', `/containers/${id}/exec`, { Cmd: ['true'], AttachStdout: true })
    await peer.must('POST', `/exec/${Id}/start`, { Detach: false })
  })) },
  { name: 'stop (SIGTERM is obeyed)', unit: 'ms', rounds: 11, measure: (peer) => peer.withContainer(STOPPABLE, async (id) => {
    await new Promise((resolve) => setTimeout(resolve, 100)) // the shell has to set its trap
    return await timed(() => peer.must('POST', `/containers/${id}/stop`))
  }) },
  { name: 'kill', unit: 'ms', rounds: 11, measure: (peer) => peer.withContainer(['sleep', '1000'], (id) => timed(async () => {
    const waiting = peer.must('POST', `/containers/${id}/wait`)
    await peer.must('POST', `/containers/${id}/kill`)
    await waiting
  })) },
  { name: 'rm of a stopped container', unit: 'ms', rounds: 11, measure: async (peer) => {
    const id = await peer.create(['true'])
    await peer.run(id)
    await peer.must('POST', `/containers/${id}/wait`)
    return await timed(() => peer.must('DELETE', `/containers/${id}`))
  } },
  { name: 'pause and unpause', unit: 'ms', rounds: 11, measure: (peer) => peer.withContainer(['sleep', '1000'], (id) => timed(async () => {
    await peer.must('POST', `/containers/${id}/pause`)
    await peer.must('POST', `/containers/${id}/unpause`)
  })) },
  { name: '50 MB of output to docker run', unit: 'ms', rounds: 3, measure: (peer) => peer.shell('docker run --rm --network none bench sh -c "dd if=/dev/zero bs=64k count=800 2>/dev/null | tr \'\\\\0\' \'a\' | fold -w 99" >/dev/null') },
  ...archives('20,000 small files', ({ small }) => small),
  ...archives('Debian', ({ debian }) => debian),
  { name: 'GET /_ping', unit: 'per s', rounds: 3, more: true, measure: (peer) => peer.rate('/_ping') },
  { name: 'memory of the daemon, idle', unit: 'MB', rounds: 1, measure: (peer) => peer.daemonRss() / 1e6 },
]

/** What is measured while many containers run. */
async function growth(peer: Peer): Promise<Record<string, number>> {
  const figures: Record<string, number> = {}
  const latency = async (): Promise<number> => {
    const values: number[] = []
    for (let round = 0; round < 11; round++) {
      const id = await peer.create(['sleep', '1000'])
      values.push(await timed(() => peer.run(id)))
      await peer.call('DELETE', `/containers/${id}?force=1`)
    }
    return median(values)
  }
  figures['start with none running, ms'] = await latency()
  await inParallel(Array.from({ length: many }, (_item, at) => at), 8, async () => peer.run(await peer.create(['sleep', '1000'])))
  figures[`start with ${many} running, ms`] = await latency()
  figures['memory a container (PSS of its keeper), MB'] = peer.keepersPss() / many / 1e6
  figures[`memory of the daemon with ${many} running, MB`] = peer.daemonRss() / 1e6
  figures[`GET /containers/json with ${many} running, per s`] = await peer.rate('/containers/json')
  const [{ Id }] = await peer.must('GET', '/containers/json?limit=1')
  figures[`inspect with ${many} running, per s`] = await peer.rate(`/containers/${Id}/json`)
  figures[`docker ps with ${many} running, ms`] = median(Array.from({ length: 5 }, () => peer.docker('ps', '-q').ms))
  figures[`rm -f of ${many}, ms`] = await timed(() => peer.removeAll())
  return figures
}

const scratch = mkdtempSync(join(tmpdir(), 'bench-trees-'))
const peers = await startPeers(scratch, ['tr', 'fold'])
try {
  const small = join(scratch, 'small')
  makeTree(small, quick ? 4000 : 20_000)
  spawnSync('tar', ['cf', `${small}.tar`, '-C', small, '.'])
  const debian = quick ? undefined : debianTree()
  reportHead()
  await measureAll(peers, scenarios.filter(({ name }) => debian || !name.endsWith('Debian')), { small, debian })
  if (wanted.length === 0 || wanted.includes('growth')) {
    const [berth, dockerd] = [await growth(peers[0]), await growth(peers[1])]
    for (const [name, value] of Object.entries(berth)) report(name, value, dockerd[name]!, name.endsWith('per s'))
  }
} finally {
  await stopPeers(peers)
  rmSync(scratch, { recursive: true, force: true })
}
