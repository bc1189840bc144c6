import { constants, mkdirSync, openSync } from 'node:fs'
import { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { ReadStream } from 'node:tty'
import { parseDetachKeys } from '../api/detach.ts'
import { conflict, invalid, notFound, system } from '../lib/errors.ts'
import { randomId } from '../lib/ids.ts'
import { makeFifo, takeDescriptor } from '../sys/fs.ts'
import { setWindowSize } from '../sys/terminal.ts'
import { errnoName } from '../sys/errno.ts'
import { TERMINAL_FD, assembleExec, type Stdio } from '../libcontainer/container.ts'
import type { NamespaceType } from '../libcontainer/spec.ts'
import type { ExecBody } from './body.ts'
import { endRun, runFiles, type Container, type LiveProcess, type RunFiles } from './container.ts'
import type { ContainerDeps } from './deps.ts'
import { OutputHub, connectionSink } from './hub.ts'
import { buildSpec, environmentOf, mergeEnvironment } from './spec.ts'
import { containerUser, execError } from './start.ts'
import { Stdin, pumpInput } from './stdin.ts'

/** A further process in a container, made by one request and started by another. */
export interface Exec {
  id: string
  container: Container
  body: ExecBody
  running: boolean
  exitCode: number | undefined
  pid: number
  process: LiveProcess | undefined
  started: boolean
}

/** The execs of the containers that there are. */
export class ExecStore {
  readonly #execs = new Map<string, Exec>()

  create(container: Container, body: ExecBody): Exec {
    if (container.record.state.status === 'paused') throw conflict(`container ${container.id} is paused, unpause the container before exec`)
    if (!container.running) throw conflict(`container ${container.id} is not running`)
    if (!body.Cmd?.length) throw invalid('No exec command specified')
    parseDetachKeys(body.DetachKeys)
    const exec: Exec = { id: randomId(), container, body, running: false, exitCode: undefined, pid: 0, process: undefined, started: false }
    this.#execs.set(exec.id, exec)
    container.execs.add(exec.id)
    return exec
  }

  resolve(id: string): Exec {
    const exec = this.#execs.get(id)
    if (!exec) throw notFound(`No such exec instance: ${id}`)
    return exec
  }

  /** Forgets execs that ended long ago, and those of containers that are gone. */
  forget(exec: Exec, after: number): void {
    setTimeout(() => {
      this.#execs.delete(exec.id)
      exec.container.execs.delete(exec.id)
    }, after).unref()
  }
}

const KEEP_ENDED = 300_000

export interface ExecStart { detach: boolean, tty: boolean, consoleSize: readonly [number, number] | undefined }

/** Starts an exec. `connect` gives the client's connection, once nothing stands against the start any more; there is
 * none for a detached one. Resolves when the process, or the client, has gone. */
export async function startExec(deps: ContainerDeps, execs: ExecStore, exec: Exec, options: ExecStart, connect: (() => Duplex) | undefined): Promise<void> {
  const { container, body } = exec
  if (exec.started) throw conflict(`Error: Exec command ${exec.id} has already run`)
  if (!container.running || !container.process) throw conflict(`container ${container.id} is not running`)
  exec.started = true
  const files = runFiles(deps.execRoot, container.id, exec.id)
  mkdirSync(files.directory, { recursive: true, mode: 0o700 })
  const output = new OutputHub()
  const stdin = new Stdin()
  const tty = body.Tty
  const connection = connect?.()
  connection?.on('error', () => connection.destroy())
  const attached = connection !== undefined
  const size = options.consoleSize ?? body.ConsoleSize ?? [0, 0]
  const wantStdin = attached && body.AttachStdin
  const stdio: Stdio = tty ? { kind: 'terminal', rows: size[0], columns: size[1] } : { kind: 'fifos', stdout: files.stdout, stderr: files.stderr, ...(wantStdin && { stdin: files.stdin }) }
  if (connection) output.add(connectionSink(connection, { raw: tty, stdout: body.AttachStdout, stderr: body.AttachStderr }))
  const ended = run(deps, exec, files, stdio, output, stdin).finally(() => {
    execs.forget(exec, KEEP_ENDED)
    endRun(files)
    output.end()
    stdin.disconnect()
  })
  if (!connection) {
    await Promise.race([exec.running ? undefined : begun(exec), ended])
    ended.catch((error: unknown) => deps.warn(`exec ${exec.id} failed`, error))
    return
  }
  const gone = new Promise<void>((resolve) => connection.once('close', resolve))
  try {
    if (wantStdin) {
      void pumpInput(connection, stdin, tty ? parseDetachKeys(body.DetachKeys) : undefined).then((how) => {
        if (how === 'detached') connection.end()
        else if (!tty) void stdin.end()
      })
    } else connection.resume()
    await Promise.race([ended, gone])
  } catch (error) {
    // the head of the answer is out: the reason goes where the output would, as Docker does
    connection.end(`${(error as Error).message}\r\n`)
  }
}

const beginnings = new WeakMap<Exec, PromiseWithResolvers<void>>()

function begun(exec: Exec): Promise<void> {
  const pending = beginnings.get(exec) ?? Promise.withResolvers<void>()
  beginnings.set(exec, pending)
  return pending.promise
}

async function run(deps: ContainerDeps, exec: Exec, files: RunFiles, stdio: Stdio, output: OutputHub, stdin: Stdin): Promise<void> {
  const { container, body } = exec
  const { record } = container
  const init = container.process!
  const outputs: Promise<void>[] = []
  if (stdio.kind === 'fifos') {
    for (const stream of ['stdout', 'stderr'] as const) {
      makeFifo(files[stream], 0o600)
      outputs.push(output.read(new Socket({ fd: openSync(files[stream], constants.O_RDONLY | constants.O_NONBLOCK), readable: true, writable: false }), stream))
    }
    if (stdio.stdin) makeFifo(files.stdin, 0o600)
  }
  const user = await containerUser(deps, record, body.User || record.config.User)
  const host = { ...record.host, Privileged: record.host.Privileged || body.Privileged }
  const spec = buildSpec({ record: { ...record, host, path: body.Cmd![0]!, args: body.Cmd!.slice(1) }, user, facts: deps.facts, joined: {}, files: {}, cgroupPath: container.cgroup!.path, initPath: deps.initPath })
  const program = assembleExec({
    pid: init.pid, cgroup: container.cgroup!, namespaces: namespacesOf(record.host), stdio, files,
    ...(spec.linux?.seccomp && { seccomp: spec.linux.seccomp }),
    process: {
      ...spec.process!, terminal: body.Tty, args: body.Cmd!, cwd: body.WorkingDir || record.config.WorkingDir || '/',
      env: mergeEnvironment(environmentOf(record, user.home), [...(body.Tty ? ['TERM=xterm'] : []), ...body.Env]),
    },
  })
  const { promise, resolve, reject } = Promise.withResolvers<number>()
  let monitorPid = 0
  deps.events.emit('container', `exec_create: ${body.Cmd!.join(' ')}`, container.id, { ...container.attributes(), execID: exec.id })
  const events = deps.zygote.run(program, files.events, (event) => {
    if (event.type === 'reached') monitorPid = event.value
    else if (event.type === 'started') {
      exec.running = true
      exec.pid = event.pid
      exec.process = { pid: event.pid, monitorPid, events }
      connectStreams(exec, files, stdio, output, stdin, outputs)
      beginnings.get(exec)?.resolve()
      deps.events.emit('container', `exec_start: ${body.Cmd!.join(' ')}`, container.id, { ...container.attributes(), execID: exec.id })
    } else if (event.type === 'failed') {
      const what = program.describe(event.step, event.errno)
      const prefix = 'OCI runtime exec failed: exec failed: unable to start container process: '
      const error = what.startsWith('exec ') ? execError(prefix, body.Cmd![0]!, errnoName(event.errno), event.candidate, what) : system(`${prefix}${what}: unknown`)
      exec.exitCode = (error as { exitCode?: number }).exitCode ?? 126
      reject(error)
    } else resolve(event.status)
  }, () => reject(system('the monitor was killed')))
  deps.failpoint('exec.sent')
  try {
    const status = await promise
    await Promise.race([Promise.all(outputs), new Promise((done) => setTimeout(done, 2000).unref())])
    exec.exitCode = status
    deps.events.emit('container', 'exec_die', container.id, { ...container.attributes(), execID: exec.id, exitCode: String(status) })
  } finally {
    exec.exitCode ??= 137
    exec.running = false
    exec.process = undefined
    events.destroy()
  }
}

/** The namespaces that a container has for itself, or shares with another container rather than the host. */
function namespacesOf(host: Container['record']['host']): NamespaceType[] {
  const namespaces: NamespaceType[] = ['mount']
  if (host.UTSMode !== 'host') namespaces.push('uts')
  if (host.IpcMode !== 'host') namespaces.push('ipc')
  if (host.PidMode !== 'host') namespaces.push('pid')
  if (host.NetworkMode !== 'host') namespaces.push('network')
  if (host.CgroupnsMode === 'private') namespaces.push('cgroup')
  return namespaces
}

function connectStreams(exec: Exec, files: RunFiles, stdio: Stdio, output: OutputHub, stdin: Stdin, outputs: Promise<void>[]): void {
  const live = exec.process!
  if (stdio.kind === 'terminal') {
    try {
      live.terminal = takeDescriptor(live.monitorPid, TERMINAL_FD)
    } catch {
      return stdin.open(undefined, () => {}) // it has ended already
    }
    const stream = new ReadStream(live.terminal)
    outputs.push(output.read(stream, 'stdout'))
    return stdin.open(stream, () => {})
  }
  const end = (): void => {
    try {
      process.kill(live.monitorPid, 'SIGUSR1')
    } catch {
      // the monitor is gone, and the process's input with it
    }
  }
  if (stdio.kind !== 'fifos' || !stdio.stdin) return stdin.open(undefined, end)
  try {
    stdin.open(new Socket({ fd: openSync(files.stdin, constants.O_WRONLY | constants.O_NONBLOCK), readable: false, writable: true }), end)
  } catch {
    stdin.open(undefined, end) // nobody reads: it has closed its input, or ended
  }
}

/** Sets the size of a process's terminal, in characters. */
export function resizeTerminal(live: LiveProcess | undefined, what: string, rows: number, columns: number): void {
  if (!live) throw conflict(`${what} is not running`)
  if (!(rows >= 0 && rows < 65_536 && columns >= 0 && columns < 65_536)) throw invalid('invalid terminal size')
  if (live.terminal !== undefined) setWindowSize(live.terminal, rows, columns)
}
