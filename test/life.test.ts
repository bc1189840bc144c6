import assert from 'node:assert/strict'
import { existsSync, readFileSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { findCgroupTrees } from '../src/libcontainer/cgroups/cgroup.ts'
import { TRAILER } from '../src/archive/tar.ts'
import { fileEntry, until, type Answer } from './daemon.ts'
import { TestHost } from './hosts.ts'

/** Four clients lead the life of fifty containers by chance, each at one container at a time, and every answer must be what
 * a simple model of that container says. Now and then the engine is killed in the middle of it all. */
const CONTAINERS = 50
const CLIENTS = 4
const ROUNDS = 4
const STEPS = Number(process.env['LIFE_STEPS'] ?? 350) // of each client, in each round

const host = new TestHost()
before(async () => {
  await host.start()
  await host.importStarter()
})
after(() => host[Symbol.asyncDispose]())

/** Numbers by chance, the same from the same seed (mulberry32). */
function chance(seed: number): () => number {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
  }
}
const seed = Number(process.env['LIFE_SEED'] ?? Date.now() % 1_000_000)
const random = chance(seed)
const pick = <T>(list: readonly T[]): T => list[Math.floor(random() * list.length)]!

type State = 'created' | 'running' | 'paused' | 'exited'

/** What is known of a container, and of the volume and the image that are its own and outlive it. */
interface Model {
  number: number
  name: string
  id: string
  /** Undefined where there is none. */
  state: State | undefined
  /** Those it may have: it is told to end, and killed, in the same moment. */
  exitCodes: readonly number[]
  lines: string[]
  files: Map<string, string>
  memory: number
  volume: Map<string, string>
  /** The files of the image that was made of it. */
  image: Map<string, string> | undefined
  busy: boolean
  /** What was done to it last. */
  history: string[]
  /** The engine was killed while something was being done to it. */
  unsure: boolean
}

const models: Model[] = Array.from({ length: CONTAINERS }, (_model, number) => ({
  number, name: '', id: '', state: undefined, exitCodes: [], lines: [], files: new Map(), memory: 0, volume: new Map(), image: undefined, busy: false, history: [], unsure: false,
}))
let words = 0
const word = (): string => `word-${words++}`
const up = (model: Model): boolean => model.state === 'running' || model.state === 'paused'

const call = (method: string, path: string, body?: unknown): Promise<Answer> => host.call(method, path, body)
const at = (model: Model, path: string): string => `/containers/${random() < 0.5 ? model.id : model.name}${path}`
function expect(answer: Answer, ...statuses: number[]): Answer {
  assert.ok(statuses.includes(answer.status), `${answer.status} instead of ${statuses.join(' or ')}: ${answer.text}`)
  return answer
}
const plain = (text: string): string => text.replace(/[\x00-\x02]\0\0\0[^]{4}/g, '')

/** Runs a script in a container that runs: what it says, and its exit code. */
async function exec(model: Model, script: string): Promise<{ out: string, code: number }> {
  const { body } = expect(await call('POST', at(model, '/exec'), { Cmd: ['sh', '-c', script], AttachStdout: true, AttachStderr: true }), 201)
  const { text } = expect(await call('POST', `/exec/${body.Id}/start`, { Detach: false, Tty: false }), 200)
  return { out: plain(text), code: (await call('GET', `/exec/${body.Id}/json`)).body.ExitCode }
}

/** The content of the one small file that is in an archive. */
function only({ text }: Answer): string {
  return text.slice(-3 * 512, -2 * 512).replace(/\0+$/, '')
}

function began(model: Model): void {
  model.state = 'running'
  model.lines.push('up')
}
function ended(model: Model, ...exitCodes: number[]): void {
  model.state = 'exited'
  model.exitCodes = exitCodes
}

const acts: Record<string, (model: Model) => Promise<void>> = {
  async create(model) {
    if (model.state) return void expect(await call('POST', `/containers/create?name=${model.name}`, { Image: 'starter', Cmd: ['true'] }), 409)
    const name = `life-${model.number}-${word()}`
    const { body } = expect(await call('POST', `/containers/create?name=${name}`, {
      Image: model.image ? `life-${model.number}` : 'starter', Cmd: ['sh', '-c', 'trap "exit 7" TERM; echo up; sleep 100000 & wait'], Labels: { number: String(model.number) },
      HostConfig: { Binds: [`life-volume-${model.number}:/volume`], NetworkMode: pick(['none', 'bridge', 'bridge', 'host']), LogConfig: { Type: pick(['json-file', 'local']) } },
    }), 201)
    Object.assign(model, { name, id: body.Id, state: 'created', exitCodes: [], lines: [], files: new Map(model.image), memory: 0 })
  },
  async start(model) {
    expect(await call('POST', at(model, '/start')), up(model) ? (model.state === 'paused' ? 409 : 304) : 204)
    if (!up(model)) began(model)
  },
  async stop(model) {
    const term = model.state === 'running' && model.lines.length > 0 && random() < 0.5
    if (term) await said(model, model.lines.at(-1)!) // its trap is set before
    expect(await call('POST', at(model, `/stop?t=${term ? 10 : 0}`)), up(model) ? 204 : 304)
    if (up(model)) ended(model, 7, ...(term ? [] : [137]))
  },
  async kill(model) {
    const [waited, killed] = await Promise.all([up(model) ? call('POST', `/containers/${model.id}/wait`) : undefined, call('POST', at(model, '/kill'))])
    expect(killed, up(model) ? 204 : 409)
    if (!waited) return
    ended(model, 137)
    assert.equal(expect(waited, 200).body.StatusCode, 137)
  },
  async restart(model) {
    expect(await call('POST', at(model, '/restart?t=0')), 204)
    began(model)
  },
  async pause(model) {
    expect(await call('POST', at(model, '/pause')), model.state === 'running' ? 204 : 409)
    if (model.state === 'running') model.state = 'paused'
  },
  async unpause(model) {
    expect(await call('POST', at(model, '/unpause')), model.state === 'paused' ? 204 : 409)
    if (model.state === 'paused') model.state = 'running'
  },
  async rename(model) {
    const name = `life-${model.number}-${word()}`
    expect(await call('POST', at(model, `/rename?name=${name}`)), 204)
    model.name = name
  },
  async update(model) {
    const memory = (32 + Math.floor(random() * 32)) << 20
    expect(await call('POST', at(model, '/update'), { Memory: memory, MemorySwap: memory * 2 }), 200)
    model.memory = memory
  },
  async exec(model) {
    const [name, content] = [pick(['a', 'b', 'c']), word()]
    if (model.state !== 'running') return void expect(await call('POST', at(model, '/exec'), { Cmd: ['true'] }), 409)
    const volume = random() < 0.5
    const code = Math.floor(random() * 3)
    const path = `${volume ? '/volume' : ''}/${name}`
    assert.deepEqual(await exec(model, `printf ${content} > ${path}; cat ${path}; exit ${code}`), { out: content, code });
    (volume ? model.volume : model.files).set(name, content)
  },
  async say(model) {
    if (model.state !== 'running') return
    const line = word()
    assert.equal((await exec(model, `echo ${line} > /proc/1/fd/1`)).code, 0)
    model.lines.push(line)
  },
  async logs(model) {
    const last = model.lines.at(-1)
    if (last !== undefined && model.state === 'running') await said(model, last)
    const tail = Math.floor(random() * 5)
    const { text } = expect(await call('GET', at(model, `/logs?stdout=1&tail=${tail || 'all'}`)), 200)
    if (up(model)) return // a line of this moment may be on its way
    assert.deepEqual(plain(text).split('\n').filter(Boolean), model.lines.slice(tail ? -tail : 0))
  },
  async inspect(model) {
    compare(expect(await call('GET', at(model, '/json')), 200).body, model)
  },
  async stats(model) {
    const { body } = expect(await call('GET', at(model, '/stats?stream=0&one-shot=1')), 200)
    assert.equal(body.name, `/${model.name}`)
    if (up(model)) assert.ok(body.pids_stats.current >= 1)
    if (up(model) && model.memory) assert.equal(body.memory_stats.limit, model.memory)
  },
  async top(model) {
    const answer = await call('GET', at(model, '/top'))
    if (!up(model)) return void expect(answer, 409)
    assert.ok(expect(answer, 200).body.Processes.length >= 1)
  },
  async copyIn(model) {
    const [name, content, volume] = [pick(['a', 'b', 'c']), word(), random() < 0.5]
    expect(await call('PUT', at(model, `/archive?path=${volume ? '/volume' : '/'}`), Buffer.concat([fileEntry(name, content), TRAILER])), 200);
    (volume ? model.volume : model.files).set(name, content)
  },
  async copyOut(model) {
    const [name, volume] = [pick(['a', 'b', 'c']), random() < 0.5]
    const content = (volume ? model.volume : model.files).get(name)
    const answer = expect(await call('GET', at(model, `/archive?path=${volume ? '/volume' : ''}/${name}`)), content === undefined ? 404 : 200)
    if (content !== undefined) assert.equal(only(answer), content)
  },
  async diff(model) {
    const { body } = expect(await call('GET', at(model, '/changes')), 200)
    const paths = new Set(((body ?? []) as { Path: string }[]).map(({ Path }) => Path))
    for (const [name, content] of model.files) if (model.image?.get(name) !== content && paths.size) assert.ok(paths.has(`/${name}`), `${name} is not in ${[...paths].join()}`)
  },
  async commit(model) {
    expect(await call('POST', `/commit?container=${model.id}&repo=life-${model.number}&pause=${pick([0, 1])}`, {}), 201)
    model.image = new Map(model.files)
  },
  async remove(model) {
    const force = random() < 0.5
    const gone = force || !up(model)
    expect(await call('DELETE', at(model, `?v=1${force ? '&force=1' : ''}`)), gone ? 204 : 409)
    if (!gone) return
    expect(await call('GET', `/containers/${model.id}/json`), 404)
    model.state = undefined
  },
}

/** Waits until a container's log ends with a line. */
async function said(model: Model, line: string): Promise<void> {
  await until(`${model.name} says ${line}`, async () => plain((await call('GET', `/containers/${model.id}/logs?stdout=1&tail=1`)).text).trim() === line || !up(model))
}

/** Compares an inspected container with what is known of it. */
function compare(body: any, model: Model): void {
  const { Status, ExitCode } = body.State
  assert.deepEqual({ name: body.Name, state: Status, memory: body.HostConfig.Memory }, { name: `/${model.name}`, state: model.state, memory: model.memory })
  if (model.state === 'exited') assert.ok(model.exitCodes.includes(ExitCode), `it has ended with ${ExitCode}, not ${model.exitCodes.join(' or ')}`)
}

let steps = 0
/** What one client does: by chance, to containers that no other client is at. Ends where the engine has gone. */
async function client(count: number): Promise<void> {
  for (let i = 0; i < count; i++) {
    const model = pick(models.filter(({ busy }) => !busy))
    const act = model.state === undefined ? 'create' : pick(Object.keys(acts))
    const before = `${act} of ${model.name}, ${model.state}`
    model.busy = true
    try {
      await acts[act]!(model)
      model.history.push(`${before} (${[...model.files].join(' ')})`)
      if (model.history.length > 12) model.history.shift()
      steps++
    } catch (error) {
      if (['ECONNRESET', 'ECONNREFUSED', 'ENOENT', 'EPIPE'].includes((error as NodeJS.ErrnoException).code ?? '')) {
        model.history.push(`${before} when the engine was killed`)
        model.unsure = true
        return
      }
      throw new Error(`seed ${seed}, ${before}: ${(error as Error).message}`, { cause: error })
    } finally {
      model.busy = false
    }
  }
}

/** Compares all that there is with the model. Of a container to which something was being done when the engine was killed,
 * the model learns how it came out, which must be as if it had been done, or not. */
async function compareAll(): Promise<void> {
  const { body } = await call('GET', '/containers/json?all=1')
  const listed = new Map((body as { Id: string, Labels: Record<string, string> }[]).map(({ Id, Labels }) => [Number(Labels['number']), Id]))
  for (const model of models) {
    const id = listed.get(model.number)
    if (model.unsure) {
      model.unsure = false
      const inspected = id && (await call('GET', `/containers/${id}/json`)).body
      if (!inspected) {
        model.state = undefined
        continue
      }
      // what it has written and said last can't be known: begin anew, with what is sure
      expect(await call('DELETE', `/containers/${id}?force=1`), 204)
      model.state = undefined
      await call('DELETE', `/volumes/life-volume-${model.number}`)
      model.volume.clear()
      await call('DELETE', `/images/life-${model.number}?force=1`)
      model.image = undefined
      continue
    }
    assert.equal(id !== undefined, model.state !== undefined, `seed ${seed}: container ${model.number} is ${id ?? 'gone'}, and should be ${model.state ?? 'gone'}`)
    if (id === undefined) continue
    try {
      compare((await call('GET', `/containers/${id}/json`)).body, model)
      if (!up(model)) assert.deepEqual(plain((await call('GET', `/containers/${id}/logs?stdout=1`)).text).split('\n').filter(Boolean), model.lines)
      for (const [name, content] of model.files) assert.equal(only(await call('GET', `/containers/${id}/archive?path=/${name}`)), content)
      for (const [name, content] of model.volume) assert.equal(only(await call('GET', `/containers/${id}/archive?path=/volume/${name}`)), content)
    } catch (error) {
      throw new Error(`seed ${seed}, container ${model.name}, ${model.state}, after ${model.history.join('; ')}: ${(error as Error).message}`, { cause: error })
    }
  }
}

const listing = (path: string): string[] => (existsSync(join(host.directory, path)) ? readdirSync(join(host.directory, path)) : [])
const trees = findCgroupTrees().trees
/** What the engine has in the kernel and on disk, beside images and volumes. */
function held(): Record<string, unknown> {
  const group = join(trees.get('pids') ?? trees.get('unified')!, 'berth')
  return {
    cgroups: existsSync(group) ? readdirSync(group, { withFileTypes: true }).filter((entry) => entry.isDirectory() && models.some(({ id }) => id === entry.name)).length : 0,
    mounts: readFileSync(`/proc/${host.pid}/mountinfo`, 'utf8').split('\n').filter((line) => line.includes(host.directory)).length,
    links: host.onHost('ip', '-o', 'link').out.split('\n').filter((line) => /veth/.test(line)).length,
    rules: host.onHost('nft', 'list', 'ruleset').out.split('\n').length,
    monitors: host.monitors(),
    run: listing('run/containers').length, containers: listing('data/containers').length,
  }
}

test('fifty containers live as the model says, by four clients, and through the engine\'s death', { timeout: 300_000 }, async (t) => {
  const none = held()
  const resident = (): number => Math.round(Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${host.pid}/status`, 'utf8'))![1]) / 1024)
  const descriptors = (): number => readdirSync(`/proc/${host.pid}/fd`).length
  for (let round = 0; round < ROUNDS; round++) {
    const clients = Promise.all(Array.from({ length: CLIENTS }, () => client(STEPS)))
    if (round % 2) {
      const enough = steps + STEPS * CLIENTS * (0.5 + random() / 4)
      while (steps < enough) await Promise.race([clients, sleep(5)]) // an error of theirs is thrown here
      await host.stop('SIGKILL')
      await clients
      await host.start()
    } else await clients
    await compareAll()
    t.diagnostic(`${steps} steps: ${descriptors()} descriptors, ${resident()} MB`)
    if (round === 2) {
      // what was stopped goes with one request, and only that
      expect(await call('POST', '/containers/prune'), 200)
      for (const model of models) if (model.state && !up(model)) model.state = undefined
      await compareAll()
    }
  }
  t.diagnostic(`seed ${seed}: ${steps} steps, ${models.filter(up).length} containers run`)
  for (const model of models) if (model.state) expect(await call('DELETE', `/containers/${model.id}?force=1&v=1`), 204)
  expect(await call('POST', '/images/prune?filters={"dangling":["false"]}'), 200)
  expect(await call('POST', '/volumes/prune?filters={"all":["true"]}'), 200)
  await until('nothing is left', () => JSON.stringify(held()) === JSON.stringify(none)).catch(() => assert.deepEqual(held(), none))
  assert.deepEqual(listing('data/volumes').filter((name) => name.startsWith('life')), [])
  assert.deepEqual((await call('GET', '/images/json')).body ?? [], [])
  await until('all layers are gone', () => listing('data/overlay').filter((name) => name !== 'l').length === 0)
  assert.ok(descriptors() < 60, `${descriptors()} descriptors are open`)
})
