import { closeSync, constants, existsSync, mkdirSync, openSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { Socket } from 'node:net'
import { ReadStream } from 'node:tty'
import { BerthError, conflict, invalid, messageOf, system } from '../lib/errors.ts'
import { readIfThere } from '../lib/files.ts'
import { errnoName } from '../sys/errno.ts'
import { makeFifo, readInRoot, takeDescriptor } from '../sys/fs.ts'
import { listenToMonitor, type MonitorEvent } from '../sys/zygote.ts'
import type { Program } from '../sys/program.ts'
import { Cgroup } from '../libcontainer/cgroups/cgroup.ts'
import { TERMINAL_FD, assembleStart, type Stdio } from '../libcontainer/container.ts'
import { Container, endRun, isMonitor, readPids, runFiles, type RunFiles } from './container.ts'
import { containerDirectory } from './create.ts'
import type { ContainerDeps } from './deps.ts'
import { NEVER, type ContainerRecord } from './record.ts'
import { removeContainer } from './remove.ts'
import { scheduleRestart } from './restart.ts'
import { bindsOf, buildSpec, type Joined } from './spec.ts'
import { resolveUser, type ResolvedUser } from './user.ts'

/** Starts a container. `not-modified` where it runs already. A failure leaves it as it was, with the reason kept. */
export async function startContainer(deps: ContainerDeps, container: Container): Promise<void> {
  using _held = await deps.lock.hold(container.id)
  const { status } = container.record.state
  if (container.removed || status === 'removing' || status === 'dead') throw conflict('container is marked for removal and cannot be started')
  if (status === 'paused') throw conflict('cannot start a paused container, try unpause instead')
  if (status === 'running') throw new BerthError('not-modified', `container ${container.id} is running already`)
  container.cancelRestart?.()
  container.record.manuallyStopped = false
  container.record.restartCount = 0
  await launch(deps, container)
}

/** Starts the process of a container that has none. The caller holds its lock. */
export async function launch(deps: ContainerDeps, container: Container): Promise<void> {
  const { record } = container
  const files = runFiles(deps.execRoot, record.id)
  deps.failpoint('start.begin')
  try {
    endRun(files) // of a run before a crash
    mkdirSync(files.directory, { recursive: true, mode: 0o700 })
    const user = await containerUser(deps, record)
    container.cgroup = new Cgroup(deps.trees, cgroupPathOf(deps, record))
    const stdio = makeStdio(record, files)
    const spec = buildSpec({
      record, user, facts: deps.facts, joined: joinedOf(deps, record), files: etcFiles(deps, record),
      cgroupPath: container.cgroup.path, initPath: deps.initPath,
    })
    for (const bind of bindsOf(record.host)) if (bind.createSource && !existsSync(bind.source)) mkdirSync(bind.source, { recursive: true })
    const program = assembleStart({
      id: record.id, spec, root: deps.layers.mount(record.id, { volatile: record.host.AutoRemove }), trees: deps.trees, cgroup: container.cgroup, stdio, files,
      sourceKind, touch: ['/.dockerenv'],
    })
    deps.failpoint('start.assembled')
    const outputs = openOutputs(container, stdio)
    openLog(deps, container)
    await run(deps, container, program, files, outputs)
  } catch (error) {
    failStart(container, error)
    container.cgroup?.remove()
    endRun(files)
    deps.containers.save(container)
    container.stdin.disconnect()
    container.output.end()
    container.log?.close()
    container.log = undefined
    for (const condition of ['not-running', 'next-exit'] as const) container.notify(condition)
    deps.events.emit('container', 'die', record.id, { ...container.attributes(), exitCode: String(record.state.exitCode) })
    if (record.host.AutoRemove) await removeContainer(deps, container, { force: true, locked: true })
    throw error
  }
}

/** The errors of a start that carry an exit code, as Docker's have it. */
class StartError extends BerthError {
  readonly exitCode: number

  constructor(kind: 'invalid' | 'system', message: string, exitCode: number) {
    super(kind, message)
    this.exitCode = exitCode
  }
}

function failStart(container: Container, error: unknown): void {
  const { state } = container.record
  state.status = state.status === 'restarting' ? 'exited' : state.startedAt === NEVER ? 'created' : 'exited'
  state.exitCode = error instanceof StartError ? error.exitCode : 128
  state.error = messageOf(error)
  state.pid = 0
}

const sourceKind = (source: string): 'directory' | 'file' => {
  try {
    return statSync(source).isDirectory() ? 'directory' : 'file'
  } catch (error) {
    throw invalid(`error mounting ${JSON.stringify(source)} to rootfs: bind source path does not exist: ${source}`, error)
  }
}

function cgroupPathOf(deps: ContainerDeps, { host, id }: ContainerRecord): string {
  const parent = host.CgroupParent || deps.cgroupParent
  return join('/', parent, id)
}

function makeStdio(record: ContainerRecord, files: RunFiles): Stdio {
  if (record.config.Tty) {
    const [rows, columns] = record.host.ConsoleSize
    return { kind: 'terminal', rows, columns }
  }
  for (const fifo of [files.stdout, files.stderr]) makeFifo(fifo, 0o600)
  if (record.config.OpenStdin) makeFifo(files.stdin, 0o600)
  return { kind: 'fifos', stdout: files.stdout, stderr: files.stderr, ...(record.config.OpenStdin && { stdin: files.stdin }) }
}

function etcFiles(deps: ContainerDeps, record: ContainerRecord): Record<string, string> {
  const owner = record.host.NetworkMode.startsWith('container:') ? deps.containers.resolve(record.host.NetworkMode.slice(10)).id : record.id
  const directory = containerDirectory(deps, owner)
  return Object.fromEntries(['resolv.conf', 'hostname', 'hosts'].map((name) => [`/etc/${name}`, join(directory, name)]))
}

function joinedOf(deps: ContainerDeps, { host }: ContainerRecord): Joined {
  const pidOf = (mode: string, what: string): number | undefined => {
    if (!mode.startsWith('container:')) return undefined
    const other = deps.containers.resolve(mode.slice(10))
    if (!other.process) throw conflict(`cannot join ${what} of a non running container: ${other.id}`)
    return other.process.pid
  }
  const joined: Joined = {}
  const [pid, ipc, network] = [pidOf(host.PidMode, 'PID'), pidOf(host.IpcMode, 'IPC'), pidOf(host.NetworkMode, 'network')]
  if (pid !== undefined) joined.pid = pid
  if (ipc !== undefined) joined.ipc = ipc
  if (network !== undefined) joined.network = network
  return joined
}

const imageUsers = new Map<string, { passwd: string | undefined, group: string | undefined }>()

/** The container's user by its own files; those of an image are read once, while the container has not changed /etc. */
export async function containerUser(deps: ContainerDeps, record: ContainerRecord, spec = record.config.User): Promise<ResolvedUser> {
  const own = deps.layers.driver.deletions === 'whole' || record.topLayer === undefined || existsSync(join(deps.layers.directory(record.id), 'etc', 'passwd')) || existsSync(join(deps.layers.directory(record.id), 'etc', 'group'))
  let users = own ? undefined : imageUsers.get(record.topLayer!)
  if (!users) {
    const read = (root: number): Promise<{ passwd: string | undefined, group: string | undefined }> => Promise.resolve({ passwd: readInRoot(root, 'etc/passwd'), group: readInRoot(root, 'etc/group') })
    users = await deps.layers.withTree(record.id, read)
    if (!own) imageUsers.set(record.topLayer!, users)
    if (imageUsers.size > 200) imageUsers.clear()
  }
  return resolveUser(spec, users.passwd, users.group, record.host.GroupAdd ?? [])
}

type Outputs = Promise<void>[]

/** Reads the FIFOs before there is a writer, so that no byte comes before its reader. */
function openOutputs(container: Container, stdio: Stdio): Outputs {
  if (stdio.kind !== 'fifos') return []
  return [container.output.read(openReader(stdio.stdout), 'stdout'), container.output.read(openReader(stdio.stderr), 'stderr')]
}

function openReader(fifo: string): Socket {
  return new Socket({ fd: openSync(fifo, constants.O_RDONLY | constants.O_NONBLOCK), readable: true, writable: false })
}

/** Reads the FIFOs of a process that may have ended: poll tells of the end only of writers that came after the reader
 * (fs/pipe.c, pipe_poll), so one comes and goes. */
function reopenOutputs(container: Container, files: RunFiles): Outputs {
  if (container.record.config.Tty) return []
  return (['stdout', 'stderr'] as const).map((stream) => {
    const reader = openReader(files[stream])
    closeSync(openSync(files[stream], constants.O_WRONLY | constants.O_NONBLOCK))
    return container.output.read(reader, stream)
  })
}

function openLog(deps: ContainerDeps, container: Container): void {
  const { LogConfig } = container.record.host
  const log = deps.openLog(LogConfig.Type, logPathOf(deps, container.id), LogConfig.Config)
  container.log = log
  container.output.add({
    write: (stream, data) => {
      if (container.log !== log) return true
      try {
        log.write(stream, data)
      } catch (error) {
        deps.warn(`can't write the log of container ${container.id}`, error) // a full disk must not stop the container
      }
      return true
    },
    drained: () => {},
    end: () => {},
  })
}

/** The path of a json-file log. */
export function logPathOf(deps: Pick<ContainerDeps, 'dataRoot'>, id: string): string {
  return join(containerDirectory(deps, id), `${id}-json.log`)
}

async function run(deps: ContainerDeps, container: Container, program: Program, files: RunFiles, outputs: Outputs): Promise<void> {
  const { record } = container
  const { promise: started, resolve, reject } = Promise.withResolvers<number>()
  let monitorPid = 0
  const events = deps.zygote.run(program, files.events, (event) => {
    if (event.type === 'reached') monitorPid = event.value
    else if (event.type === 'started') resolve(event.pid)
    else if (event.type === 'failed') reject(explainStart(program, event, record))
    else void onExit(deps, container, event.status, outputs)
  }, () => {
    reject(system('the monitor was killed'))
    if (container.process?.events === events) void onExit(deps, container, undefined, outputs)
  })
  const pid = await started
  deps.failpoint('start.started')
  container.process = { pid, monitorPid, events }
  connectStreams(deps, container, files, outputs)
  record.state = { status: 'running', pid, monitorPid, exitCode: 0, error: '', oomKilled: false, startedAt: new Date().toISOString(), finishedAt: record.state.finishedAt }
  deps.containers.save(container)
  deps.failpoint('start.recorded')
  deps.events.emit('container', 'start', record.id, container.attributes())
}

/** Connects a living process's input, and its terminal, to the container. */
function connectStreams(deps: ContainerDeps, container: Container, files: RunFiles, outputs: Outputs): void {
  const { record, process: live } = container
  if (!live) return
  if (record.config.Tty) {
    try {
      const terminal = takeDescriptor(live.monitorPid, TERMINAL_FD)
      const stream = new ReadStream(terminal)
      live.terminal = terminal
      outputs.push(container.output.read(stream, 'stdout'))
      container.stdin.open(record.config.OpenStdin ? stream : undefined, () => {})
    } catch (error) {
      if (existsSync(files.exit)) container.stdin.open(undefined, () => {}) // it has ended already
      else deps.warn(`can't open the terminal of container ${record.id}`, error)
    }
    return
  }
  if (!record.config.OpenStdin) return container.stdin.open(undefined, () => {})
  const end = (): void => {
    try {
      process.kill(live.monitorPid, 'SIGUSR1')
    } catch {
      // the monitor is gone, and the process's input with it
    }
  }
  try {
    const fd = openSync(files.stdin, constants.O_WRONLY | constants.O_NONBLOCK)
    container.stdin.open(new Socket({ fd, readable: false, writable: true }), end)
  } catch {
    container.stdin.open(undefined, end) // nobody reads: it has closed its input, or ended
  }
}

/** Puts a failed step into Docker's words, which its client turns into exit codes 126 and 127. */
function explainStart(program: Program, event: Extract<MonitorEvent, { type: 'failed' }>, record: ContainerRecord): Error {
  const name = errnoName(event.errno)
  const what = program.describe(event.step, event.errno)
  const command = record.path
  const prefix = 'failed to create task for container: failed to create shim task: OCI runtime create failed: unable to start container process: '
  if (!what.startsWith('exec ')) return new StartError('system', `${prefix}${what}: unknown`, 128)
  return execError(prefix, command, name, event.candidate, what)
}

/** The error of a program that could not be executed. */
export function execError(prefix: string, command: string, errno: string, candidate: number, what: string): BerthError {
  const quoted = JSON.stringify(command)
  if (candidate < 0 && errno === 'ENOENT')
    return new StartError('invalid', `${prefix}exec: ${quoted}: ${command.includes('/') ? `stat ${command}: no such file or directory` : 'executable file not found in $PATH'}: unknown`, 127)
  if (errno === 'EACCES') return new StartError('invalid', `${prefix}exec: ${quoted}: permission denied: unknown`, 126)
  if (errno === 'ENOENT') return new StartError('invalid', `${prefix}exec ${command}: no such file or directory: unknown`, 127)
  return new StartError('invalid', `${prefix}${what.replace(/^exec /, 'exec: ')}: unknown`, errno === 'ENOEXEC' ? 126 : 128)
}

const OUTPUT_GRACE = 10_000

/** What follows the end of a container's process. Without a status the monitor was killed, and its process with it. */
async function onExit(deps: ContainerDeps, container: Container, status: number | undefined, outputs: Outputs): Promise<void> {
  const live = container.process
  if (!live) return
  container.process = undefined
  const { record } = container
  const finishedAt = new Date().toISOString()
  if (record.host.PidMode) killAll(container) // no pid namespace of its own took the others along
  await Promise.race([Promise.all(outputs), new Promise((resolve) => setTimeout(resolve, OUTPUT_GRACE).unref())])
  try {
    using _held = await deps.lock.hold(container.id)
    deps.failpoint('exit.seen')
    await settleExit(deps, container, { exitCode: status ?? 137, error: status === undefined ? 'the monitor was killed' : '', finishedAt })
  } catch (error) {
    deps.warn(`container ${container.id} has exited, but its end could not be recorded`, error)
  }
  live.events.destroy()
}

function killAll(container: Container): void {
  for (const pid of container.cgroup?.processes() ?? []) {
    try {
      process.kill(pid, 'SIGKILL')
    } catch {
      // it has ended meanwhile
    }
  }
}

/** Records an exit, frees what the run had, and does what the restart policy says. The caller holds the lock. */
export async function settleExit(deps: ContainerDeps, container: Container, exit: { exitCode: number, error: string, finishedAt: string }): Promise<void> {
  const { record } = container
  const files = runFiles(deps.execRoot, record.id)
  let oomKilled = false
  try {
    oomKilled = (container.cgroup?.oomKills() ?? 0) > 0
    if (container.cgroup && !container.cgroup.remove()) {
      killAll(container)
      await new Promise((resolve) => setTimeout(resolve, 20))
      container.cgroup.remove()
    }
  } catch (error) {
    deps.warn(`can't remove the cgroup of container ${record.id}`, error)
  }
  container.cgroup = undefined
  const restarting = scheduleRestart(deps, container, exit.exitCode, launch)
  record.state = { ...record.state, ...exit, status: restarting ? 'restarting' : 'exited', pid: 0, monitorPid: 0, oomKilled }
  deps.containers.save(container)
  deps.failpoint('exit.recorded')
  endRun(files)
  container.stdin.disconnect()
  container.log?.close()
  container.log = undefined
  container.output.end()
  if (oomKilled) deps.events.emit('container', 'oom', record.id, container.attributes())
  deps.events.emit('container', 'die', record.id, { ...container.attributes(), exitCode: String(exit.exitCode) })
  container.notify('next-exit')
  if (!restarting) container.notify('not-running')
  if (record.host.AutoRemove && !deps.isStopping()) await removeContainer(deps, container, { force: true, locked: true })
}

/** Takes up a container after the engine was away: one whose process lives goes on; the end of one that ended
 * meanwhile, and what it said until then, is recorded. */
export async function recoverContainer(deps: ContainerDeps, container: Container): Promise<void> {
  using _held = await deps.lock.hold(container.id)
  const { record } = container
  const files = runFiles(deps.execRoot, record.id)
  const { monitorPid, pid } = readPids(files.directory)
  container.cgroup = new Cgroup(deps.trees, cgroupPathOf(deps, record))
  const exit = readIfThere(files.exit)
  const monitored = isMonitor(monitorPid)
  if (exit === undefined && monitored) return reattach(deps, container, files, monitorPid, pid)
  if (record.state.status === 'running' || record.state.status === 'paused' || exit !== undefined) {
    const finishedAt = exit === undefined ? new Date().toISOString() : statSync(files.exit).mtime.toISOString()
    if (record.state.startedAt === NEVER) record.state.startedAt = finishedAt // the engine was killed before it could say so
    if (monitored) await readRemains(deps, container, files, monitorPid)
    await settleExit(deps, container, { exitCode: exit === undefined ? 255 : Number(exit), error: '', finishedAt })
    return
  }
  container.cgroup.remove()
  container.cgroup = undefined
  if (record.state.status === 'restarting') {
    record.state.status = 'exited'
    deps.containers.save(container)
  }
  endRun(files)
}

/** Reads what a process that has ended left in its pipes, which its monitor holds. */
async function readRemains(deps: ContainerDeps, container: Container, files: RunFiles, monitorPid: number): Promise<void> {
  openLog(deps, container)
  const outputs = reopenOutputs(container, files)
  if (container.record.config.Tty) outputs.push(container.output.read(new ReadStream(takeDescriptor(monitorPid, TERMINAL_FD)), 'stdout'))
  await Promise.race([Promise.all(outputs), new Promise((resolve) => setTimeout(resolve, OUTPUT_GRACE).unref())])
}

function reattach(deps: ContainerDeps, container: Container, files: RunFiles, monitorPid: number, pid: number): void {
  const { record } = container
  const outputs = reopenOutputs(container, files)
  openLog(deps, container)
  const events = listenToMonitor(files.events, (event) => {
    if (event.type === 'exited') void onExit(deps, container, event.status, outputs)
  }, () => {
    if (container.process?.events !== events) return
    const exit = readIfThere(files.exit)
    void onExit(deps, container, exit === undefined ? undefined : Number(exit), outputs)
  })
  container.process = { pid, monitorPid, events }
  connectStreams(deps, container, files, outputs)
  const startedAt = record.state.status === 'running' || record.state.status === 'paused' ? record.state.startedAt : statSync(files.pid).mtime.toISOString()
  record.state = { ...record.state, status: container.cgroup?.frozen() ? 'paused' : 'running', pid, monitorPid, startedAt }
  deps.containers.save(container)
}
