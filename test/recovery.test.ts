import assert from 'node:assert/strict'
import { existsSync, readFileSync, readdirSync, readlinkSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { isMonitor } from '../src/execdriver/native.ts'
import { findCgroupTrees } from '../src/libcontainer/cgroups/cgroup.ts'
import { TestDaemon } from './daemon.ts'

const daemon = new TestDaemon()
before(async () => {
  await daemon.start()
  await daemon.importStarter()
})
after(() => daemon[Symbol.asyncDispose]())


async function started(command: string, name: string): Promise<string> {
  const { body } = await daemon.call('POST', `/containers/create?name=${name}`, { Image: 'starter', Cmd: ['sh', '-c', command] })
  assert.equal((await daemon.call('POST', `/containers/${body.Id}/start`)).status, 204)
  return body.Id
}

const logsOf = async (id: string): Promise<string> => (await daemon.call('GET', `/containers/${id}/logs?stdout=1&stderr=1`)).text
const stateOf = async (id: string): Promise<any> => (await daemon.call('GET', `/containers/${id}/json`)).body.State

test('a container outlives a killed engine, with its streams and its exit code', async () => {
  const when = (file: string): string => `while [ ! -e /${file} ]; do sleep 0.05; done`
  const lives = await started(`echo one; ${when('go')}; echo two; exit 3`, 'lives')
  const ends = await started(`${when('go')}; echo late; exit 5`, 'ends')
  const [first, last] = [(await stateOf(lives)).Pid, (await stateOf(ends)).Pid]
  await daemon.stop('SIGKILL')
  writeFileSync(`/proc/${last}/root/go`, '')
  while (existsSync(`/proc/${last}`)) await sleep(10)
  await daemon.start()
  assert.equal((await stateOf(ends)).ExitCode, 5)
  assert.match(await logsOf(ends), /late\n/)
  assert.equal((await stateOf(lives)).Running, true)
  writeFileSync(`/proc/${first}/root/go`, '')
  const waited = await daemon.call('POST', `/containers/${lives}/wait`)
  assert.equal(waited.body.StatusCode, 3)
  assert.match(await logsOf(lives), /one\n[^]*two\n/)
})

test('an engine whose database is damaged comes back to its images and containers', async () => {
  const id = await started('exec sleep 1000', 'undamaged')
  const { Pid } = await stateOf(id)
  const copy = join(daemon.directory, 'data/graph/container', `${id}.json`)
  for (let tries = 0; tries < 100 && !existsSync(copy); tries++) await sleep(20)
  await daemon.stop('SIGKILL')
  writeFileSync(join(daemon.directory, 'data/graph.db'), 'x'.repeat(10_000))
  for (const suffix of ['-wal', '-shm']) rmSync(join(daemon.directory, `data/graph.db${suffix}`), { force: true })
  await daemon.start()
  assert.equal((await stateOf('undamaged')).Pid, Pid)
  assert.equal((await stateOf('lives')).ExitCode, 3)
  assert.equal((await daemon.call('GET', '/images/starter/json')).status, 200)
  assert.equal(daemon.cli(['run', '--rm', 'starter', 'echo', 'hi']).out, 'hi\n')
  await daemon.call('DELETE', '/containers/undamaged?force=1')
})

/** How many monitors of this daemon's there are. */
function monitors(): number {
  const ours = (pid: string): boolean => {
    try {
      return isMonitor(Number(pid)) && readdirSync(`/proc/${pid}/fd`).some((fd) => readlinkSync(`/proc/${pid}/fd/${fd}`).startsWith(daemon.directory))
    } catch {
      return false // it has ended meanwhile
    }
  }
  return readdirSync('/proc').filter((pid) => /^\d+$/.test(pid) && ours(pid)).length
}

const links = (): string[] => readdirSync('/sys/class/net')

/** The ids of containers that have cgroups, of any engine. */
const trees = findCgroupTrees().trees
const cgroups = (): string[] => readdirSync(join(trees.get('pids') ?? trees.get('unified')!, 'berth'), { withFileTypes: true }).filter((entry) => entry.isDirectory()).map(({ name }) => name)

const steps: Record<string, (id: string) => Promise<unknown>> = {
  'create.checked': () => daemon.call('POST', '/containers/create', { Image: 'starter', Cmd: ['true'] }),
  'create.layer': () => daemon.call('POST', '/containers/create', { Image: 'starter', Cmd: ['true'] }),
  'create.files': () => daemon.call('POST', '/containers/create', { Image: 'starter', Cmd: ['true'] }),
  'create.record': () => daemon.call('POST', '/containers/create', { Image: 'starter', Cmd: ['true'] }),
  'start.begin': (id) => daemon.call('POST', `/containers/${id}/start`),
  'start.networks': (id) => daemon.call('POST', `/containers/${id}/start`),
  'start.assembled': (id) => daemon.call('POST', `/containers/${id}/start`),
  'start.started': (id) => daemon.call('POST', `/containers/${id}/start`),
  'start.recorded': (id) => daemon.call('POST', `/containers/${id}/start`),
  'exec.sent': (id) => startAnd(id, async () => {
    const { body } = await daemon.call('POST', `/containers/${id}/exec`, { Cmd: ['sleep', '1000'] })
    await daemon.call('POST', `/exec/${body.Id}/start`, { Detach: true })
  }),
  'stop.begin': (id) => startAnd(id, () => daemon.call('POST', `/containers/${id}/stop?t=0`)),
  'stop.signalled': (id) => startAnd(id, () => daemon.call('POST', `/containers/${id}/stop?t=0`)),
  'exit.seen': (id) => startAnd(id, () => daemon.call('POST', `/containers/${id}/kill`)),
  'exit.recorded': (id) => startAnd(id, () => daemon.call('POST', `/containers/${id}/kill`)),
  'stop.ended': (id) => startAnd(id, () => daemon.call('POST', `/containers/${id}/stop?t=0`)),
  'remove.begin': (id) => daemon.call('DELETE', `/containers/${id}`),
  'remove.record': (id) => daemon.call('DELETE', `/containers/${id}`),
  'remove.files': (id) => daemon.call('DELETE', `/containers/${id}`),
}

async function startAnd(id: string, then: () => Promise<unknown>): Promise<void> {
  await daemon.call('POST', `/containers/${id}/start`)
  await then()
}

for (const [step, act] of Object.entries(steps)) {
  test(`an engine killed at ${step} comes back to a true state, and nothing leaks`, async () => {
    await daemon.stop()
    await daemon.start({ BERTH_FAILPOINT: step })
    const [others, otherLinks] = [cgroups(), links()]
    const created = await daemon.call('POST', '/containers/create', { Image: 'starter', Cmd: ['sleep', '1000'] }).catch(() => undefined)
    await act(created?.body.Id).catch(() => undefined) // the connection breaks with the engine
    await daemon.ended()
    await daemon.start()
    const { body: list } = await daemon.call('GET', '/containers/json?all=1')
    const owned = new Set<string>()
    for (const { Id, State } of list) {
      owned.add(Id)
      const { Pid, Running } = await stateOf(Id)
      assert.equal(Running, State === 'running')
      if (Running) assert.ok(readFileSync(`/proc/${Pid}/cgroup`, 'utf8').includes(Id))
    }
    for (const id of readdirSync(join(daemon.directory, 'data/containers'))) assert.ok(owned.has(id), `data of ${id}`)
    for (const { Id } of list) assert.equal((await daemon.call('DELETE', `/containers/${Id}?force=1`)).status, 204)
    for (let tries = 0; tries < 50 && monitors() > 0; tries++) await sleep(20)
    assert.equal(monitors(), 0)
    assert.deepEqual(readdirSync(join(daemon.directory, 'run/containers')), [])
    assert.deepEqual(cgroups().filter((id) => !others.includes(id)), [])
    for (let tries = 0; tries < 50 && links().some((link) => !otherLinks.includes(link)); tries++) await sleep(20) // they go with their namespace
    assert.deepEqual(links().filter((link) => !otherLinks.includes(link)), [])
    const layers = readdirSync(join(daemon.directory, 'data/overlay')).filter((name) => name !== 'l')
    assert.equal(layers.length, 1) // the image's
  })
}
