import { chownSync, closeSync, constants, existsSync, mkdirSync, openSync, readdirSync, rmdirSync, statSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { Socket } from 'node:net'
import type { Readable, Writable } from 'node:stream'
import { ReadStream } from 'node:tty'
import { codeOf, invalid } from '../lib/errors.ts'
import { readIfThere, unlinkIfThere } from '../lib/files.ts'
import { TERMINAL_FD, assembleExec, assembleStart, type Stdio } from '../libcontainer/container.ts'
import type { CgroupTrees } from '../libcontainer/cgroups/cgroup.ts'
import { errnoName } from '../sys/errno.ts'
import { makeFifo, takeDescriptor } from '../sys/fs.ts'
import { processAt } from '../sys/process.ts'
import type { Program } from '../sys/program.ts'
import { sendSignal } from '../sys/signal.ts'
import { setWindowSize } from '../sys/terminal.ts'
import { Zygote, listenToMonitor, type MonitorEvent } from '../sys/zygote.ts'
import { ProcessFailure, type ExecDriver, type LiveProcess, type Recovered, type Streams } from './driver.ts'

/** Processes made straight by the kernel: each container has a monitor of native/berth.c for a parent, which keeps what
 * the engine needs to take it up again, and the files of a directory below `root`, which a reboot clears:
 * `events`, `stdin`, `stdout`, `stderr` (FIFOs), `pid`, `exit`, and `exec/ID` with the same of further processes. */
export function nativeDriver({ zygote, root, trees, warn }: { zygote: Zygote, root: string, trees: CgroupTrees, warn: (message: string, error?: unknown) => void }): ExecDriver {
  const filesOf = (container: string, exec?: string): RunFiles => runFiles(exec ? join(root, container, 'exec', exec) : join(root, container))

  /** Aborts when a container's run is over, and with it what is just being executed in it: the files by which that would
   * tell of itself are gone then. */
  const over = new Map<string, AbortController>()
  const watched = (container: string, live: LiveProcess): LiveProcess => {
    const controller = new AbortController()
    over.set(container, controller)
    return { ...live, release() {
      controller.abort()
      live.release()
    } }
  }

  const launch = async (files: RunFiles, { streams, owner = 0, signal }: { streams: Streams, owner?: number, signal?: AbortSignal | undefined }, assemble: (stdio: Stdio) => Program): Promise<LiveProcess> => {
    endRun(files) // of a run before a crash
    makeDirectory(files.directory)
    try {
      const stdio = makeStdio(files, streams, owner)
      return await run(zygote, files, { stdio, stdin: streams.stdin, signal }, assemble(stdio), warn)
    } catch (error) {
      endRun(files)
      throw error
    }
  }

  return {
    name: 'native',
    start: async (request) => watched(request.id, await launch(filesOf(request.id), request, (stdio) => assembleStart({ ...request, trees, stdio, files: filesOf(request.id), sourceKind }))),
    exec: (request) => launch(filesOf(request.container, request.id), { ...request, signal: over.get(request.container)?.signal }, (stdio) => assembleExec({ ...request, stdio, files: filesOf(request.container, request.id) })),
    recover(container) {
      const files = filesOf(container)
      adoptExecs(files)
      const recovered = recover(files, warn)
      return { ...recovered, ...(recovered.process && { process: watched(container, recovered.process) }) }
    },
    release(container) {
      over.get(container)?.abort()
      over.delete(container)
      const files = filesOf(container)
      const { monitorPid, pid } = readPids(files)
      if (isMonitor(monitorPid) && !existsSync(files.exit)) sendSignal(pid, 'SIGKILL')
      endRun(files)
    },
    runs: () => (existsSync(root) ? readdirSync(root) : []),
  }
}

/** Makes the directory of a run, or of an exec in a run that is not over. */
function makeDirectory(directory: string): void {
  const above = dirname(directory)
  const exec = basename(above) === 'exec'
  try {
    mkdirSync(above, { recursive: !exec, mode: 0o700 })
  } catch (error) {
    if (codeOf(error) === 'ENOENT') throw lost('the container has ended')
    if (codeOf(error) !== 'EEXIST') throw error
  }
  mkdirSync(directory, { mode: 0o700 })
}

const lost = (what: string): ProcessFailure => new ProcessFailure(what, '', { atExec: false, notFound: false })

/** The files of a process. */
interface RunFiles { directory: string, events: string, exit: string, pid: string, stdin: string, stdout: string, stderr: string }

function runFiles(directory: string): RunFiles {
  const at = (name: string): string => join(directory, name)
  return { directory, events: at('events'), exit: at('exit'), pid: at('pid'), stdin: at('stdin'), stdout: at('stdout'), stderr: at('stderr') }
}

function readPids(files: RunFiles): { monitorPid: number, pid: number } {
  const [monitorPid = 0, pid = 0] = (readIfThere(files.pid) ?? '').trim().split(' ').map(Number)
  return { monitorPid, pid }
}

/** True where a process is a living monitor, and neither a zombie nor another that has got its number. */
export function isMonitor(pid: number): boolean {
  return processAt(pid)?.name === 'berth-monitor'
}

const execsOf = (files: RunFiles): RunFiles[] => {
  const directory = join(files.directory, 'exec')
  return existsSync(directory) ? readdirSync(directory).map((name) => runFiles(join(directory, name))) : []
}

/** Ends a run that is over: its monitor may go, its output has been read, and so may those of its execs. */
function endRun(files: RunFiles): void {
  if (!existsSync(files.directory)) return
  for (const exec of execsOf(files)) endRun(exec)
  const { monitorPid } = readPids(files)
  if (isMonitor(monitorPid)) sendSignal(monitorPid, 'SIGUSR2')
  removeFiles(files.directory)
}

/** Removes a directory and its files, while monitors that were killed may still write their last ones. */
function removeFiles(directory: string): void {
  for (let tries = 0; ; tries++) {
    try {
      // by name rather than recursively, which looks at each three times
      for (const entry of readdirSync(directory, { withFileTypes: true })) {
        const path = join(directory, entry.name)
        if (entry.isDirectory()) removeFiles(path)
        else unlinkIfThere(path)
      }
      return rmdirSync(directory)
    } catch (error) {
      if (codeOf(error) === 'ENOENT') return
      if (codeOf(error) !== 'ENOTEMPTY' || tries === 10) throw error
    }
  }
}

const sourceKind = (source: string): 'directory' | 'file' => {
  try {
    return statSync(source).isDirectory() ? 'directory' : 'file'
  } catch (error) {
    throw invalid(`error mounting ${JSON.stringify(source)} to rootfs: bind source path does not exist: ${source}`, error)
  }
}

function makeStdio(files: RunFiles, { terminal, stdin }: Streams, owner: number): Stdio {
  if (terminal) return { kind: 'terminal', ...terminal }
  for (const fifo of [files.stdout, files.stderr, ...(stdin ? [files.stdin] : [])]) {
    makeFifo(fifo, 0o600)
    if (owner) chownSync(fifo, owner, 0)
  }
  return { kind: 'fifos', stdout: files.stdout, stderr: files.stderr, ...(stdin && { stdin: files.stdin }) }
}

type Outputs = LiveProcess['outputs']

function openReader(fifo: string): Socket {
  return new Socket({ fd: openSync(fifo, constants.O_RDONLY | constants.O_NONBLOCK), readable: true, writable: false })
}

/** Opens the FIFOs before there is a writer, so that no byte comes before its reader. */
function openOutputs(files: RunFiles, stdio: Stdio): Outputs {
  return stdio.kind === 'fifos' ? [{ stream: 'stdout', from: openReader(files.stdout) }, { stream: 'stderr', from: openReader(files.stderr) }] : []
}

/** Opens the FIFOs of a process that may have ended: poll tells of the end only of writers that came after the reader
 * (fs/pipe.c, pipe_poll), so one comes and goes. */
function reopenOutputs(files: RunFiles): Outputs {
  return (['stdout', 'stderr'] as const).map((stream) => {
    const from = openReader(files[stream])
    closeSync(openSync(files[stream], constants.O_WRONLY | constants.O_NONBLOCK))
    return { stream, from }
  })
}

/** Sends the program and resolves once the process runs. */
async function run(zygote: Zygote, files: RunFiles, { stdio, stdin, signal }: { stdio: Stdio, stdin: boolean, signal?: AbortSignal | undefined }, program: Program, warn: (message: string, error?: unknown) => void): Promise<LiveProcess> {
  if (signal?.aborted) throw lost('the container has ended')
  const outputs = openOutputs(files, stdio)
  const started = Promise.withResolvers<number>()
  const ended = Promise.withResolvers<number | undefined>()
  let monitorPid = 0
  const events = zygote.run(program, files.events, (event) => {
    if (event.type === 'reached') monitorPid = event.value
    else if (event.type === 'started') started.resolve(event.pid)
    else if (event.type === 'failed') started.reject(failureOf(program, event))
    else ended.resolve(event.status)
  }, () => {
    started.reject(lost('the monitor was killed'))
    ended.resolve(undefined)
  })
  const giveUp = (): void => started.reject(lost('the container has ended'))
  signal?.addEventListener('abort', giveUp)
  try {
    const pid = await started.promise
    return connect({ files, pid, monitorPid, events, ended: ended.promise, outputs, terminal: stdio.kind === 'terminal', stdin, warn })
  } catch (error) {
    events.destroy()
    for (const { from } of outputs) from.destroy()
    throw error
  } finally {
    signal?.removeEventListener('abort', giveUp) // the signal is the container's, and outlives this
  }
}

function failureOf(program: Program, event: Extract<MonitorEvent, { type: 'failed' }>): ProcessFailure {
  const what = program.describe(event.step, event.errno)
  return new ProcessFailure(what, errnoName(event.errno), { atExec: what.startsWith('exec '), notFound: event.candidate < 0 })
}

interface Connection {
  files: RunFiles, pid: number, monitorPid: number, events: Socket, ended: Promise<number | undefined>, outputs: Outputs, terminal: boolean, stdin: boolean
  warn: (message: string, error?: unknown) => void
}

/** Connects the input of a process that runs, and its terminal. */
function connect({ files, pid, monitorPid, events, ended, outputs, terminal, stdin, warn }: Connection): LiveProcess {
  let input: Writable | undefined
  let master: number | undefined
  if (terminal) {
    try {
      master = takeDescriptor(monitorPid, TERMINAL_FD)
      const stream = new ReadStream(master)
      input = stdin ? stream : undefined
      outputs = [{ stream: 'stdout', from: stream as Readable }]
    } catch (error) {
      warn(`can't open the terminal of process ${pid}`, error)
    }
  } else if (stdin) input = openInput(files.stdin)
  return {
    pid, monitorPid, stdin: input, outputs, ended,
    endInput() {
      if (stdin && !terminal) sendSignal(monitorPid, 'SIGUSR1')
    },
    resize: (rows, columns) => void (master !== undefined && setWindowSize(master, rows, columns)),
    release() {
      events.destroy()
      if (readPids(files).monitorPid === monitorPid) endRun(files) // else the directory is a later run's
    },
  }
}

function openInput(fifo: string): Writable | undefined {
  try {
    return new Socket({ fd: openSync(fifo, constants.O_WRONLY | constants.O_NONBLOCK), readable: false, writable: true })
  } catch {
    return undefined // nobody reads: it has closed its input, or ended
  }
}

function recover(files: RunFiles, warn: (message: string, error?: unknown) => void): Recovered {
  const { monitorPid, pid } = readPids(files)
  const status = readIfThere(files.exit)
  const monitored = isMonitor(monitorPid)
  const exit = status === undefined || status === '' ? undefined : { status: Number(status), at: statSync(files.exit).mtime }
  if (!monitored) return exit ? { exit } : {}
  const terminal = !existsSync(files.stdout)
  const ended = Promise.withResolvers<number | undefined>()
  const events = listenToMonitor(files.events, (event) => {
    if (event.type === 'exited') ended.resolve(event.status)
  }, () => {
    const text = readIfThere(files.exit)
    ended.resolve(text ? Number(text) : undefined)
  })
  if (exit) ended.resolve(exit.status)
  const process = connect({ files, pid, monitorPid, events, ended: ended.promise, outputs: terminal ? [] : reopenOutputs(files), terminal, stdin: terminal || existsSync(files.stdin), warn })
  return { process, startedAt: statSync(files.pid).mtime, ...(exit && { exit }) }
}

/** Whoever began a container's execs is gone with the engine: their output is read away so that they don't stall, and
 * their monitors end when they do. */
function adoptExecs(files: RunFiles): void {
  for (const exec of execsOf(files)) {
    const { process: live } = recover(exec, () => {})
    for (const { from } of live?.outputs ?? []) from.resume()
    if (live) void live.ended.then(() => live.release())
    else endRun(exec)
  }
}
