import type { Duplex } from 'node:stream'
import { STREAM, encodeFrame } from '../api/frames.ts'
import { parseDetachKeys } from '../api/detach.ts'
import { conflict, invalid, messageOf, notFound } from '../lib/errors.ts'
import { hostIdOf } from '../lib/idmap.ts'
import { randomId } from '../lib/ids.ts'
import { ProcessFailure, type ExecRequest, type LiveProcess } from '../execdriver/driver.ts'
import type { ExecBody } from './body.ts'
import type { Container } from './container.ts'
import { containerUser } from './containeruser.ts'
import { remapOf, type ContainerDeps } from './deps.ts'
import { explainFailure } from './failure.ts'
import { OutputHub, connectionSink } from './hub.ts'
import { mergeEnvironment, processOf } from './process.ts'
import { namespacesOf } from './spec.ts'
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
const OUTPUT_GRACE = 2000
const EXEC_FAILED = 'OCI runtime exec failed: exec failed: unable to start container process: '

/** What the kernel says when a container's first process has just ended: there is no such process, or none can be made in
 * its pid namespace (pid_namespaces(7)). */
const endings = new Set(['ESRCH', 'ENOMEM'])

/** Tells of an exec, in Docker's form: `exec_start: PROGRAM ARGUMENTS`. */
export function execEvent(deps: ContainerDeps, { id, body, container }: Exec, action: 'exec_create' | 'exec_start'): void {
  const [program = '', ...args] = body.Cmd ?? []
  deps.events.emit('container', `${action}: ${program} ${args.join(' ')}`, container.id, { ...container.attributes(), execID: id })
}

export interface ExecStart { consoleSize: readonly [number, number] | undefined, stdin: boolean }

/** Starts an exec. `connect` gives the client's connection, once nothing stands against the start any more; there is
 * none for a detached one, whose start resolves when the process has begun. Else it resolves when the process, or the
 * client, has gone. */
export async function startExec(deps: ContainerDeps, exec: Exec, options: Omit<ExecStart, 'stdin'>, connect: (() => Duplex) | undefined): Promise<void> {
  const { body } = exec
  checkStartable(exec)
  const connection = connect?.()
  connection?.on('error', () => connection.destroy())
  const output = new OutputHub()
  const stdin = new Stdin()
  if (connection) output.add(connectionSink(connection, { raw: body.Tty, stdout: body.AttachStdout, stderr: body.AttachStderr }))
  const wantStdin = connection !== undefined && body.AttachStdin
  const begun = launchExec(deps, exec, { ...options, stdin: wantStdin }, output, stdin)
  if (!connection) return void (await begun)
  const gone = new Promise<void>((resolve) => connection.once('close', resolve))
  if (wantStdin) {
    void pumpInput(connection, stdin, body.Tty ? parseDetachKeys(body.DetachKeys) : undefined).then((how) => {
      if (how === 'detached') connection.end()
      else if (!body.Tty) void stdin.end()
    })
  } else connection.resume()
  try {
    await Promise.race([begun.then(({ ended }) => ended), gone])
  } catch (error) {
    // the head of the answer is out: the reason goes where the output would, as Docker does
    const message = Buffer.from(`${messageOf(error)}\r\n`)
    connection.end(body.Tty ? message : encodeFrame(STREAM.stdout, message))
  }
}

function checkStartable({ id, started, container }: Exec): void {
  if (started) throw conflict(`Error: Exec command ${id} has already run`)
  if (!container.running || !container.process) throw conflict(`container ${container.id} is not running`)
}

/** Begins an exec, whose output goes to `output`. `ended` resolves when it has ended and all that it said is handed on. */
export async function launchExec(deps: ContainerDeps, exec: Exec, options: ExecStart, output: OutputHub, stdin = new Stdin()): Promise<{ ended: Promise<void> }> {
  checkStartable(exec)
  exec.started = true
  try {
    const live = await begin(deps, exec, options)
    return { ended: follow(deps, exec, live, output, stdin) }
  } finally {
    deps.execs.forget(exec, KEEP_ENDED)
  }
}

async function begin(deps: ContainerDeps, exec: Exec, options: ExecStart): Promise<LiveProcess> {
  const { body } = exec
  execEvent(deps, exec, 'exec_start')
  try {
    const request = await requestOf(deps, exec, options)
    const starting = deps.execDriver.exec(request)
    deps.failpoint('exec.sent')
    return await starting
  } catch (thrown) {
    const gone = thrown instanceof ProcessFailure && !thrown.atExec && (!exec.container.process || endings.has(thrown.errno))
    const error = gone ? conflict(`container ${exec.container.id} is not running`) : thrown instanceof ProcessFailure ? explainFailure(EXEC_FAILED, body.Cmd![0]!, thrown) : thrown
    exec.exitCode = (error as { exitCode?: number }).exitCode ?? 126
    throw error
  }
}

async function requestOf(deps: ContainerDeps, exec: Exec, options: ExecStart): Promise<ExecRequest> {
  const { container, body } = exec
  const { record } = container
  const [rows, columns] = options.consoleSize ?? body.ConsoleSize ?? [0, 0]
  const user = await containerUser(deps, record, body.User || record.config.User)
  const host = { ...record.host, Privileged: record.host.Privileged || body.Privileged }
  const remap = remapOf(deps, record.host)
  const { process, seccomp } = processOf({ ...record, host }, user, deps.facts)
  return {
    container: container.id, id: exec.id, pid: container.process!.pid, namespaces: namespacesOf(record.host, remap), cgroup: container.cgroup!, seccomp,
    ...(remap && { owner: hostIdOf(remap.uids, user.uid) }), streams: { stdin: options.stdin, terminal: body.Tty ? { rows, columns } : undefined },
    process: {
      ...process, terminal: body.Tty, args: body.Cmd!, cwd: body.WorkingDir || record.config.WorkingDir || '/',
      env: mergeEnvironment(process.env!, [...(body.Tty ? ['TERM=xterm'] : []), ...body.Env]),
    },
  }
}

/** Connects an exec's streams. Resolves when it has ended and all that it said has been handed on. */
async function follow(deps: ContainerDeps, exec: Exec, live: LiveProcess, output: OutputHub, stdin: Stdin): Promise<void> {
  const { container } = exec
  const outputs = live.outputs.map(({ stream, from }) => output.read(from, stream))
  exec.running = true
  exec.pid = live.pid
  exec.process = live
  stdin.open(live.stdin, live.endInput)
  const status = await live.ended
  await Promise.race([Promise.all(outputs), new Promise((resolve) => setTimeout(resolve, OUTPUT_GRACE).unref())])
  exec.exitCode = status ?? 137
  exec.running = false
  exec.process = undefined
  live.release()
  output.end()
  stdin.disconnect()
  deps.events.emit('container', 'exec_die', container.id, { ...container.attributes(), execID: exec.id, exitCode: String(exec.exitCode) })
}

/** Sets the size of a process's terminal, in characters. */
export function resizeTerminal(live: LiveProcess | undefined, what: string, rows: number, columns: number): void {
  if (!live) throw conflict(`${what} is not running`)
  if (!(rows >= 0 && rows < 65_536 && columns >= 0 && columns < 65_536)) throw invalid('invalid terminal size')
  live.resize(rows, columns)
}
