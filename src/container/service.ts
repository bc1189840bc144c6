import { parseDetachKeys } from '../api/detach.ts'
import { PATH_STAT_HEADER, encodePathStat } from '../api/pathstat.ts'
import { conflict, invalid } from '../lib/errors.ts'
import { writeAll } from '../lib/streams.ts'
import { parseTime } from '../lib/units.ts'
import type { Job, JobContext } from '../engine/engine.ts'
import type { LogQuery } from '../logdriver/driver.ts'
import type { Call, Route } from '../server/router.ts'
import { acceptWebSocket } from '../server/websocket.ts'
import { attach, checkAttachable, type AttachOptions } from './attach.ts'
import { parseConnectBody, parseCreateBody, parseDisconnectBody, parseExecBody, parseExecStartBody, parseImpairBody, parseUpdateBody } from './body.ts'
import { commitContainer } from './commit.ts'
import type { Container, WaitCondition } from './container.ts'
import { copyIn, copyOut, statPath } from './copy.ts'
import { createContainer } from './create.ts'
import type { ContainerDeps } from './deps.ts'
import { execEvent, resizeTerminal, startExec } from './exec.ts'
import { inspectContainer, listContainers, listFilters } from './inspect.ts'
import { encodeEntries, readLog } from './logs.ts'
import { connectContainer, disconnectContainer, impairContainer, settingsOf } from './network.ts'
import { plumbing } from './plumbing.ts'
import { pruneContainers } from './prune.ts'
import { removeContainer } from './remove.ts'
import { startContainer } from './start.ts'
import { noSample, statsOf } from './stats.ts'
import { killContainer, pauseContainer, restartContainer, stopContainer, unpauseContainer } from './stop.ts'
import { top } from './top.ts'
import { updateContainer } from './update.ts'

const RAW = 'application/vnd.docker.raw-stream'
const MULTIPLEXED = 'application/vnd.docker.multiplexed-stream'

/** The routes of containers and execs: each turns a request into a job and its output into an answer. */
export function containerRoutes(deps: ContainerDeps): Route[] {
  const { engine, containers, execs } = deps
  const named = (call: Call): Container => containers.resolve(call.params['name']!)

  /** A job done to one container. */
  const act = <T>(name: string, call: Call, work: (container: Container, context: JobContext) => Promise<T>, options: { detached?: boolean } = {}): Promise<T> => {
    const container = named(call)
    const job: Job<Container, T> = { name: `container.${name}`, subject: ({ record }) => record.name, run: (target, context) => work(target, context) }
    return engine.run(job, container, options.detached ? {} : { signal: call.signal })
  }

  const streamType = (call: Call, tty: boolean): string => (tty || call.version < 1042 ? RAW : MULTIPLEXED)

  return [
    { method: 'POST', path: '/containers/create', async handler(call) {
      const name = call.query.get('name') ?? ''
      const platform = call.query.get('platform')
      const body = parseCreateBody(await call.json())
      const job: Job<typeof body, { id: string, warnings: string[] }> = { name: 'container.create', subject: () => name || body.Image, run: (input) => createContainer(deps, { body: input, ...(name && { name }), ...(platform && { platform }) }) }
      const { id, warnings } = await engine.run(job, body)
      call.send(201, { Id: id, Warnings: warnings })
    } },
    { method: 'GET', path: '/containers/json', async handler(call) {
      const limit = call.number('limit')
      call.send(200, await listContainers(deps, { all: call.flag('all'), limit, size: call.flag('size'), filters: call.filters(listFilters) }))
    } },
    { method: 'GET', path: '/containers/:name/json', async handler(call) {
      call.send(200, await inspectContainer(deps, named(call), call.flag('size')))
    } },
    { method: 'POST', path: '/containers/:name/start', async handler(call) {
      await call.json() // a HostConfig here is of API versions before 1.24
      await act('start', call, (container) => startContainer(deps, container), { detached: true })
      call.empty()
    } },
    { method: 'POST', path: '/containers/:name/stop', async handler(call) {
      await act('stop', call, (container, { signal }) => stopContainer(deps, container, { timeout: call.number('t'), signal: call.query.get('signal') ?? undefined, abort: signal }))
      call.empty()
    } },
    { method: 'POST', path: '/containers/:name/restart', async handler(call) {
      await act('restart', call, (container, { signal }) => restartContainer(deps, container, { timeout: call.number('t'), signal: call.query.get('signal') ?? undefined, abort: signal }))
      call.empty()
    } },
    { method: 'POST', path: '/containers/:name/kill', async handler(call) {
      await act('kill', call, (container) => killContainer(deps, container, call.query.get('signal') || 'SIGKILL'))
      call.empty()
    } },
    { method: 'POST', path: '/containers/:name/pause', async handler(call) {
      await act('pause', call, (container) => pauseContainer(deps, container))
      call.empty()
    } },
    { method: 'POST', path: '/containers/:name/unpause', async handler(call) {
      await act('unpause', call, (container) => unpauseContainer(deps, container))
      call.empty()
    } },
    { method: 'POST', path: '/containers/:name/rename', async handler(call) {
      const to = call.query.get('name') ?? ''
      if (!to) throw invalid('Neither old nor new names may be empty')
      await act('rename', call, async (container) => {
        const from = container.record.name
        if (to.replace(/^\//, '') === from) throw invalid('Renaming a container with the same name as its current name')
        containers.rename(container, to)
        const sandbox = deps.networks.sandbox(container.id)
        if (sandbox) sandbox.name = container.record.name
        deps.events.emit('container', 'rename', container.id, { ...container.attributes(), oldName: `/${from}` })
      })
      call.empty()
    } },
    { method: 'POST', path: '/containers/:name/update', async handler(call) {
      const body = parseUpdateBody(await call.json())
      const warnings = await act('update', call, (container) => updateContainer(deps, container, body))
      call.send(200, { Warnings: warnings.length ? warnings : null })
    } },
    { method: 'POST', path: '/containers/:name/resize', handler(call) {
      const container = named(call)
      if (!container.running) throw conflict(`container ${container.id} is not running`)
      resizeTerminal(container.process, `container ${container.id}`, requiredNumber(call, 'h'), requiredNumber(call, 'w'))
      deps.events.emit('container', 'resize', container.id, { ...container.attributes(), height: call.query.get('h')!, width: call.query.get('w')! })
      call.empty(200)
    } },
    { method: 'POST', path: '/containers/:name/wait', async handler(call) {
      const end = containers.endOf(call.params['name']!)
      if (end !== undefined) return call.send(200, { StatusCode: end })
      const container = named(call)
      const condition = (call.query.get('condition') || 'not-running') as WaitCondition
      if (!['not-running', 'next-exit', 'removed'].includes(condition)) throw invalid(`invalid condition: ${JSON.stringify(condition)}`)
      // the client sends its start once it sees the head: the wait must have begun
      const waiting = container.wait(condition, call.signal)
      const response = call.stream('application/json')
      const { status } = await waiting
      response.end(JSON.stringify({ StatusCode: status }) + '\n')
    } },
    { method: 'DELETE', path: '/containers/:name', async handler(call) {
      await act('remove', call, (container) => removeContainer(deps, container, { force: call.flag('force'), volumes: call.flag('v') }), { detached: true })
      call.empty()
    } },
    { method: 'POST', path: '/networks/:network/connect', async handler(call) {
      const network = deps.networks.resolve(call.params['network']!)
      const { Container: name, EndpointConfig } = parseConnectBody(await call.json())
      const job: Job<Container, void> = { name: 'network.connect', subject: ({ record }) => record.name, run: (container) => connectContainer(deps, container, network, settingsOf(EndpointConfig)) }
      await engine.run(job, containers.resolve(name))
      call.empty(200)
    } },
    { method: 'POST', path: '/networks/:network/disconnect', async handler(call) {
      const network = deps.networks.resolve(call.params['network']!)
      const { Container: name, Force } = parseDisconnectBody(await call.json())
      const job: Job<Container, void> = { name: 'network.disconnect', subject: ({ record }) => record.name, run: (container) => disconnectContainer(deps, container, network, Force) }
      await engine.run(job, containers.resolve(name))
      call.empty(200)
    } },
    { method: 'POST', path: '/networks/:network/impair', async handler(call) {
      const network = deps.networks.resolve(call.params['network']!)
      const { Container: name, Rate: rate, Delay: delay, Jitter: jitter, Loss: loss } = parseImpairBody(await call.json())
      if (rate < 0 || delay < 0 || jitter < 0) throw invalid('Rate, Delay and Jitter can not be negative')
      const impairment = rate || delay || loss ? { rate, delay, jitter, loss } : undefined
      const job: Job<Container, void> = { name: 'network.impair', subject: ({ record }) => record.name, run: (container) => impairContainer(deps, container, network, impairment) }
      await engine.run(job, containers.resolve(name))
      call.empty(200)
    } },
    { method: 'POST', path: '/containers/prune', async handler(call) {
      const filters = call.filters(['until', 'label', 'label!'])
      const job: Job<null, { deleted: string[], space: number }> = { name: 'container.prune', run: () => pruneContainers(deps, filters) }
      const { deleted, space } = await engine.run(job, null)
      call.send(200, { ContainersDeleted: deleted.length ? deleted : null, SpaceReclaimed: space })
    } },
    { method: 'GET', path: '/containers/:name/changes', async handler(call) {
      const changes = await act('changes', call, ({ record }) => deps.layers.changes(record.id, record.topLayer, plumbing))
      const kinds = { modified: 0, added: 1, deleted: 2 }
      const listed = changes.map(({ path, kind }) => ({ Path: Buffer.from(path, 'latin1').toString('utf8'), Kind: kinds[kind] }))
      call.send(200, listed.length ? listed : null)
    } },
    { method: 'GET', path: '/containers/:name/export', async handler(call) {
      await act('export', call, ({ record }, { signal }) => deps.layers.withTree(record.id, (root) => deps.archiver.packTo(call.stream('application/x-tar'), root, {}, signal)))
      deps.events.emit('container', 'export', named(call).id, named(call).attributes())
    } },
    { method: 'POST', path: '/commit', async handler(call) {
      const container = containers.resolve(call.query.get('container') ?? '')
      const body = await call.json()
      const job: Job<Container, string> = { name: 'container.commit', subject: ({ record }) => record.name, run: (target) => commitContainer(deps, target, {
        repo: call.query.get('repo') ?? '', tag: call.query.get('tag') ?? '', comment: call.query.get('comment') ?? '', author: call.query.get('author') ?? '',
        pause: call.flag('pause', true), changes: call.query.getAll('changes'), body,
      }) }
      call.send(201, { Id: await engine.run(job, container) })
    } },
    { method: 'HEAD', path: '/containers/:name/archive', async handler(call) {
      const stat = await statPath(deps, named(call), requiredText(call, 'path'))
      call.response.setHeader(PATH_STAT_HEADER, encodePathStat(stat))
      call.empty(200)
    } },
    { method: 'GET', path: '/containers/:name/archive', async handler(call) {
      const path = requiredText(call, 'path')
      await act('copy-out', call, async (container, { signal }) => {
        await copyOut(deps, container, path, (stat) => {
          call.response.setHeader(PATH_STAT_HEADER, encodePathStat(stat))
          return call.stream('application/x-tar')
        }, signal)
        deps.events.emit('container', 'archive-path', container.id, container.attributes())
      })
    } },
    { method: 'PUT', path: '/containers/:name/archive', async handler(call) {
      const path = requiredText(call, 'path')
      await act('copy-in', call, async (container, { signal }) => {
        await copyIn(deps, container, path, call.request, { keepKinds: call.flag('noOverwriteDirNonDir'), chown: !call.flag('copyUIDGID', true), signal })
        deps.events.emit('container', 'extract-to-dir', container.id, container.attributes())
      })
      call.empty(200)
    } },
    { method: 'GET', path: '/containers/:name/logs', async handler(call) {
      const container = named(call)
      const wants = { stdout: call.flag('stdout'), stderr: call.flag('stderr') }
      if (!wants.stdout && !wants.stderr) throw invalid('Bad parameters: you must choose at least one stream')
      const query = logQuery(call)
      const entries = readLog(deps, container, query)
      const raw = container.record.config.Tty
      const response = call.stream(streamType(call, raw))
      const [timestamps, details] = [call.flag('timestamps'), call.flag('details')]
      for await (const batch of entries) {
        const asked = wants.stdout && wants.stderr ? batch : batch.filter(({ stream }) => wants[stream])
        if (asked.length) await writeAll(response, encodeEntries(asked, { raw, timestamps, details }))
        if (call.signal.aborted) return
      }
      response.end()
    } },
    { method: 'GET', path: '/containers/:name/top', async handler(call) {
      const container = named(call)
      if (!container.running || !container.process) throw conflict(`container ${container.id} is not running`)
      call.send(200, await top(container, call.query.get('ps_args') || '-ef'))
      deps.events.emit('container', 'top', container.id, container.attributes())
    } },
    { method: 'GET', path: '/containers/:name/stats', async handler(call) {
      await streamStats(deps, call, named(call))
    } },
    { method: 'POST', path: '/containers/:name/attach', async handler(call) {
      const container = named(call)
      const options = attachOptions(call, false)
      checkAttachable(container)
      const connection = call.hijack(streamType(call, container.record.config.Tty))
      deps.events.emit('container', 'attach', container.id, container.attributes())
      await attach(deps, container, connection, options)
    } },
    { method: 'GET', path: '/containers/:name/attach/ws', async handler(call) {
      const container = named(call)
      const options = attachOptions(call, true) // as Docker has it: messages without frame headers
      checkAttachable(container)
      await attach(deps, container, acceptWebSocket(call), options)
    } },
    { method: 'POST', path: '/containers/:name/exec', async handler(call) {
      const body = parseExecBody(await call.json())
      const exec = execs.create(named(call), body)
      execEvent(deps, exec, 'exec_create')
      call.send(201, { Id: exec.id })
    } },
    { method: 'POST', path: '/exec/:id/start', async handler(call) {
      const body = parseExecStartBody(await call.json())
      const exec = execs.resolve(call.params['id']!)
      const consoleSize = body.ConsoleSize ?? undefined
      const job: Job<typeof exec, void> = { name: 'container.exec', subject: ({ container }) => container.record.name, run: () => startExec(deps, exec, { consoleSize }, body.Detach ? undefined : () => call.hijack(streamType(call, exec.body.Tty))) }
      await engine.run(job, exec)
      if (body.Detach) call.empty(200)
    } },
    { method: 'POST', path: '/exec/:id/resize', handler(call) {
      const exec = execs.resolve(call.params['id']!)
      resizeTerminal(exec.process, `exec ${exec.id}`, requiredNumber(call, 'h'), requiredNumber(call, 'w'))
      call.empty(200)
    } },
    { method: 'GET', path: '/exec/:id/json', handler(call) {
      const { id, body, container, running, exitCode, pid } = execs.resolve(call.params['id']!)
      const [entrypoint = '', ...args] = body.Cmd ?? []
      call.send(200, {
        ID: id, Running: running, ExitCode: exitCode ?? null, ProcessConfig: { tty: body.Tty, entrypoint, arguments: args, privileged: body.Privileged, ...(body.User && { user: body.User }) },
        OpenStdin: body.AttachStdin, OpenStderr: body.AttachStderr, OpenStdout: body.AttachStdout, CanRemove: exitCode !== undefined, ContainerID: container.id, DetachKeys: body.DetachKeys, Pid: pid,
      })
    } },
  ]
}

function requiredNumber(call: Call, name: string): number {
  const number = call.number(name)
  if (number === undefined) throw invalid(`strconv.ParseUint: parsing "": invalid syntax: ${name} is required`)
  return number
}

function requiredText(call: Call, name: string): string {
  const text = call.query.get(name)
  if (!text) throw invalid(`bad parameter: ${name} cannot be empty`)
  return text
}

function attachOptions(call: Call, raw: boolean): AttachOptions {
  return {
    stdin: call.flag('stdin'), stdout: call.flag('stdout'), stderr: call.flag('stderr'), stream: call.flag('stream'), logs: call.flag('logs'),
    detachKeys: parseDetachKeys(call.query.get('detachKeys')), raw,
  }
}

function logQuery(call: Call): LogQuery {
  const tail = call.query.get('tail')
  const time = (name: string): number | undefined => {
    const text = call.query.get(name)
    return text && text !== '0' ? parseTime(text, Date.now()) : undefined
  }
  const [since, until] = [time('since'), time('until')]
  const count = tail === null || tail === '' || tail === 'all' ? undefined : Number(tail)
  if (Number.isNaN(count)) throw invalid(`invalid value for "tail": ${JSON.stringify(tail)}`)
  return { follow: call.flag('follow'), signal: call.signal, ...(since !== undefined && { since }), ...(until !== undefined && { until }), ...(count !== undefined && count >= 0 && { tail: count }) }
}

async function streamStats(deps: ContainerDeps, call: Call, container: Container): Promise<void> {
  const stream = call.flag('stream', true)
  const oneShot = call.flag('one-shot')
  const version = deps.facts.cgroupVersion
  let before = noSample
  if (!stream) {
    if (!oneShot && container.running) {
      before = statsOf(container, noSample, version).sample
      await new Promise((resolve) => setTimeout(resolve, 1000))
    }
    return call.send(200, statsOf(container, before, version).answer)
  }
  const response = call.stream('application/json')
  while (!call.signal.aborted && !container.removed) {
    const { sample, answer } = statsOf(container, before, version)
    before = sample
    await writeAll(response, JSON.stringify(answer) + '\n')
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, 1000)
      call.signal.addEventListener('abort', () => {
        clearTimeout(timer)
        resolve()
      }, { once: true })
    })
  }
  response.end()
}
