import { constants, existsSync } from 'node:fs'
import { dirname } from 'node:path'
import { AT_FDCWD, O_CLOEXEC } from '../sys/fs.ts'
import { CLONE } from '../sys/process.ts'
import { CHILD_PID, EXIT_STATUS, Program, type Pointer, type Register } from '../sys/program.ts'
import { TIOCSWINSZ, windowSize } from '../sys/terminal.ts'
import { openEvents } from '../sys/zygote.ts'
import { errno } from '../sys/errno.ts'
import { invalid } from '../lib/errors.ts'
import { formatIdMap, rootOf, type IdMapping, type IdMaps } from '../lib/idmap.ts'
import type { Cgroup, CgroupTrees } from './cgroups/cgroup.ts'
import { compileDeviceRules } from './cgroups/devices.ts'
import { MOUNT_ATTR, parseMountOptions, type MountOptions } from './mountflags.ts'
import { giveNetwork, type NetworkPlan } from './network.ts'
import { candidatesFor, finishProcess, hideFromTracing, openSlave, prepareLabels, setOomScore, type Streams } from './process.ts'
import { ELSEWHERE, RootfsSteps, cleanPath, type RootIdMap, type RootMount } from './rootfs.ts'
import type { Mount, NamespaceType, ProcessSpec, Resources, Spec } from './spec.ts'
import type { Seccomp } from './seccomp/profile.ts'

/** Where a process's streams come from: FIFOs, of which stdin may be missing (then it is /dev/null); a new terminal of
 * that many rows and columns; or what the monitor has inherited under these numbers (stdin may be a file's path), and
 * `more` descriptors after stderr's, which the process gets as 3, 4, … */
export type Stdio =
  | { kind: 'fifos', stdin?: string, stdout: string, stderr: string }
  | { kind: 'terminal', rows: number, columns: number }
  | { kind: 'inherit', stdin: number | string, stdout: number, stderr: number, more?: number }

/** Files through which a monitor is found again: its events' FIFO; the exit status, in decimal, written when the
 * process has ended; and `MONITOR-PID INIT-PID`, written when it has begun. */
export interface MonitorFiles { events: string, exit: string, pid: string }

/** The descriptor in the monitor that holds the master side of the terminal. */
export const TERMINAL_FD = 100

const CLONE_PIDFD = 0x1000
const CLONE_INTO_CGROUP = 0x200000000n
const DEVPTS_SUPER_MAGIC = 0x1cd1

/** What starts a container. */
export interface ContainerStart {
  id: string
  spec: Spec
  root: RootMount
  /** The maps that the root's files get; the container has, or joins, a user namespace with the same. */
  rootIdMap?: RootIdMap | undefined
  trees: CgroupTrees
  cgroup: Cgroup
  stdio: Stdio
  files: MonitorFiles
  /** What each bind mount's source is, by destination, since a missing target is made alike. */
  sourceKind: (source: string) => 'directory' | 'file'
  /** A FIFO from which a byte is read before the process is executed, after a `reached` event with GATE.start; with
   * `hooks` another before, after GATE.hooks, when all but the change of root is done. `create` and `start` are apart
   * by this, and the process lives on without its monitor. */
  gate?: { path: string, hooks: boolean }
  /** The user namespace, by path, that says how the ids of a mount are mapped. */
  idMapping?: (mount: Mount, options: MountOptions) => string | undefined
  /** What is made in the root where it is missing: empty files, and links to a target. */
  make?: readonly { path: string, target?: string }[]
  /** The interfaces of a network namespace of its own. */
  network?: NetworkPlan | undefined
}

/** The program that makes a container of a spec: namespaces, cgroups, file system, process. Events: `reached` with the
 * monitor's pid, then `started` or `failed`, `exited`, `finished`. */
export function assembleStart(start: ContainerStart): Program {
  const { spec, cgroup } = start
  if (!spec.process) throw invalid('process must be specified')
  const linux = spec.linux ?? {}
  const namespaces = new Map((linux.namespaces ?? []).map((namespace) => [namespace.type, namespace.path]))
  const own = (type: NamespaceType): boolean => namespaces.has(type) && !namespaces.get(type)
  const joinedUser = namespaces.get('user')
  const inUserNamespace = namespaces.has('user')
  const p = new Program()
  openMonitor(p, start.files)
  makeCgroup(p, cgroup, linux.resources ?? {})
  const streams = openStreams(p, start.stdio)
  const rootfs = new RootfsSteps(p)
  const gate = start.gate ? p.register() : undefined
  if (gate) p.sys('pre', 'openat', [AT_FDCWD, start.gate!.path, constants.O_RDWR | O_CLOEXEC], { out: gate, doing: 'open the start gate' })
  if (namespaces.get('pid')) joinNamespace(p, 'pre', 'pid', namespaces.get('pid')!)

  let flags = BigInt(CLONE_PIDFD)
  for (const type of ['mount', 'uts', 'ipc', 'user', 'pid', 'network', 'time'] as const) if (own(type)) flags |= BigInt(CLONE[type])
  const pidfd = cloneInto(p, flags, cgroup)
  const sync = own('user') ? writeIdMaps(p, linux.uidMappings ?? [], linux.gidMappings ?? []) : undefined

  hideFromTracing(p)
  p.sys('child', 'setsid', [])
  p.sys('child', 'umask', [0])
  joinCgroup(p, cgroup)
  sync?.()
  const enterUser = joinedUser ? prepareToJoinUser(p, joinedUser, { uids: linux.uidMappings ?? [], gids: linux.gidMappings ?? [] }) : undefined
  for (const type of ['ipc', 'uts', 'network', 'cgroup', 'time'] as const) {
    const path = namespaces.get(type)
    if (path) joinNamespace(p, 'child', type, path)
  }
  if (own('cgroup')) p.sys('child', 'unshare', [CLONE.cgroup], { doing: 'make the cgroup namespace' })
  const writeLabels = prepareLabels(p, spec.process)
  if (spec.process.oomScoreAdj !== undefined) setOomScore(p, spec.process.oomScoreAdj)
  if (spec.hostname && namespaces.has('uts')) p.sys('child', 'sethostname', [spec.hostname, Buffer.byteLength(spec.hostname)], { doing: 'sethostname' })
  if (spec.domainname && namespaces.has('uts')) p.sys('child', 'setdomainname', [spec.domainname, Buffer.byteLength(spec.domainname)], { doing: 'setdomainname' })
  if (own('network')) raiseLoopback(p)
  p.sys('child', 'keyctl', [1, `_ses.${start.id}`], { tolerate: [errno.ENOSYS, errno.EDQUOT] }) // KEYCTL_JOIN_SESSION_KEYRING

  const nullDevice = p.register()
  p.sys('child', 'openat', [AT_FDCWD, '/dev/null', 0o10000000 | O_CLOEXEC], { out: nullDevice, doing: 'open /dev/null' })
  rootfs.begin(spec, start.root, inUserNamespace ? { idMap: start.rootIdMap } : undefined)
  const terminal = spec.process.terminal && start.stdio.kind === 'terminal' ? { master: p.register(), slave: streams.stdin, ...start.stdio } : undefined
  buildRootfs(rootfs, start, inUserNamespace, namespaces.has('cgroup'))
  if (terminal) {
    rootfs.openTerminal(terminal.master, terminal.slave)
    handTerminal(p, pidfd, terminal)
    rootfs.bindDescriptor(terminal.slave, '/dev/console')
  }
  if (start.network && own('network')) giveNetwork(p, { kind: 'word', at: pidfd }, start.network)()
  for (const [name, value] of Object.entries(linux.sysctl ?? {})) rootfs.sysctl(name, value)
  for (const path of linux.readonlyPaths ?? []) rootfs.readonly(cleanPath(path))
  for (const path of linux.maskedPaths ?? []) rootfs.mask(cleanPath(path), nullDevice)
  const wait = (place: number, doing: string): void => {
    p.emit('child', place)
    p.sys('child', 'read', [gate!, p.space(8), 1], { doing })
  }
  if (start.gate?.hooks) wait(GATE.hooks, 'wait for the hooks')
  rootfs.pivot()
  p.sys('child', 'close', [rootfs.root])
  if (spec.root?.readonly) rootfs.readonlyRoot()
  enterUser?.()

  finishProcess(p, spec.process, streams, {
    seccomp: linux.seccomp, writeLabels, makeDirectory: true, controllingTerminal: terminal !== undefined, dieWithMonitor: !gate,
    ...(gate && { beforeExec: () => {
      checkProgram(p, spec.process!)
      wait(GATE.start, 'wait for start')
    } }), ...(start.stdio.kind === 'inherit' && start.stdio.more && { more: { from: start.stdio.stderr + 1, count: start.stdio.more } }),
  })
  holdMounts(p)
  afterwards(p, start.files, streams)
  return p
}

/** The values of `reached` events of a process that waits at its gate. */
export const GATE = { hooks: 2, start: 1 } as const

/** Fails as the execution would where no program is there to execute, while there is somebody to tell. */
function checkProgram(p: Program, process: ProcessSpec): void {
  const candidates = candidatesFor(process.args![0]!, process.env ?? [])
  const doing = `exec ${JSON.stringify(process.args![0])}`
  candidates.forEach((candidate, i) => p.sys('child', 'faccessat', [AT_FDCWD, candidate, 1], { tolerate: i === candidates.length - 1 ? [] : 'all', skip: candidates.length - 1 - i, skipOnSuccess: true, doing }))
}

/** What runs a further process in a container. */
export interface ContainerExec {
  process: ProcessSpec
  /** The container's init, and the namespaces that it has for itself. */
  pid: number
  namespaces: readonly NamespaceType[]
  cgroup: Cgroup
  seccomp?: Seccomp | undefined
  stdio: Stdio
  files: MonitorFiles
  /** The file to execute, where it is not what args[0] says. */
  program?: string
}

/** The program that runs a further process in a running container. Events as for `assembleStart`. */
export function assembleExec(exec: ContainerExec): Program {
  const p = new Program()
  openMonitor(p, exec.files)
  const streams = openStreams(p, exec.stdio)
  const init = p.register()
  p.sys('pre', 'pidfd_open', [exec.pid, 0], { out: init, doing: "find the container's process" })
  if (exec.namespaces.includes('pid')) p.sys('pre', 'setns', [init, CLONE.pid], { doing: 'join the pid namespace' })
  const pidfd = cloneInto(p, BigInt(CLONE_PIDFD), exec.cgroup)
  hideFromTracing(p)
  p.sys('child', 'setsid', [])
  joinCgroup(p, exec.cgroup)
  const writeLabels = prepareLabels(p, exec.process)
  if (exec.process.oomScoreAdj !== undefined) setOomScore(p, exec.process.oomScoreAdj)
  const flags = exec.namespaces.filter((type) => type !== 'pid').reduce((bits, type) => bits | CLONE[type], 0)
  p.sys('child', 'setns', [init, flags], { doing: "join the container's namespaces" })
  if (exec.namespaces.includes('user')) becomeRoot(p)
  const terminal = exec.process.terminal && exec.stdio.kind === 'terminal' ? { master: p.register(), slave: streams.stdin, ...exec.stdio } : undefined
  if (terminal) {
    const statfs = p.space(128)
    p.sys('child', 'openat', [AT_FDCWD, '/dev/pts/ptmx', constants.O_RDWR | constants.O_NOCTTY | O_CLOEXEC], { out: terminal.master, doing: 'open the terminal' })
    p.sys('child', 'fstatfs', [terminal.master, statfs], { doing: 'open the terminal' })
    p.assert('child', { kind: 'word', at: statfs }, DEVPTS_SUPER_MAGIC, errno.EINVAL, { doing: 'open the terminal: /dev/pts/ptmx is not on devpts' })
    openSlave(p, terminal.master, terminal.slave)
    handTerminal(p, pidfd, terminal)
  }
  finishProcess(p, exec.process, streams, {
    seccomp: exec.seccomp, writeLabels, makeDirectory: false, controllingTerminal: terminal !== undefined, dieWithMonitor: false,
    ...(exec.program && { program: exec.program }), ...(exec.stdio.kind === 'inherit' && exec.stdio.more && { more: { from: exec.stdio.stderr + 1, count: exec.stdio.more } }),
  })
  afterwards(p, exec.files, streams)
  return p
}

function openMonitor(p: Program, files: MonitorFiles): void {
  openEvents(p, files.events)
  const monitor = p.register()
  p.sys('pre', 'getpid', [], { out: monitor })
  p.emit('pre', monitor)
  const text = p.space(64)
  const length = p.register()
  const fd = p.register()
  p.sys('post', 'openat', [AT_FDCWD, files.pid, constants.O_WRONLY | constants.O_CREAT | constants.O_TRUNC | O_CLOEXEC, 0o600], { out: fd, doing: `write ${files.pid}` })
  for (const [register, suffix] of [[monitor, ' '], [CHILD_PID, '\n']] as const) {
    p.format('post', text, register, suffix, { out: length })
    p.sys('post', 'write', [fd, text, length], { doing: `write ${files.pid}` })
  }
  p.sys('post', 'close', [fd])
}

/** Steps for the time after the child is on its way, and after its end. */
function afterwards(p: Program, files: MonitorFiles, streams: StreamRegisters): void {
  for (const register of streams.childOnly) p.sys('post', 'close', [register], { tolerate: 'all' })
  if (streams.stdinHold) p.sys('usr1', 'close', [streams.stdinHold], { tolerate: 'all' })
  const text = p.space(32, true)
  const length = p.register()
  const fd = p.register()
  const temporary = `${files.exit}.new`
  p.format('fini', text, EXIT_STATUS, '', { out: length })
  p.sys('fini', 'openat', [AT_FDCWD, temporary, constants.O_WRONLY | constants.O_CREAT | constants.O_TRUNC | O_CLOEXEC, 0o600], { out: fd })
  p.sys('fini', 'write', [fd, text, length])
  p.sys('fini', 'renameat2', [AT_FDCWD, temporary, AT_FDCWD, files.exit, 0], { tolerate: 'all' })
}

function cloneInto(p: Program, flags: bigint, cgroup: Cgroup): Pointer {
  const v2 = cgroup.version === 2
  const args = p.clone(flags | (v2 ? CLONE_INTO_CGROUP : 0n))
  const pidfd = p.space(8)
  p.relocate({ ...args, offset: args.offset + 8 }, pidfd)
  if (v2) {
    const directory = p.register()
    p.sys('pre', 'openat', [AT_FDCWD, cgroup.directories.get('unified')!, 0o10200000 | O_CLOEXEC], { out: directory, doing: 'open the cgroup' })
    // the register's value becomes the member cgroup of struct clone_args: a read of four bytes from a pipe would do, but
    // dup3 to a number known beforehand is plainer
    p.sys('pre', 'dup3', [directory, 99, O_CLOEXEC], { doing: 'open the cgroup' })
    p.setWord({ ...args, offset: args.offset + 80 }, 99)
  }
  return pidfd
}

/** A v1 task joins by writing 0 to its own `tasks`: cgroup.procs would wait for an RCU grace period, some 10 ms. */
function joinCgroup(p: Program, cgroup: Cgroup): void {
  if (cgroup.version === 2) return
  const fd = p.register()
  for (const directory of cgroup.unique()) {
    p.sys('child', 'openat', [AT_FDCWD, `${directory}/tasks`, constants.O_WRONLY | O_CLOEXEC], { out: fd, doing: `join the cgroup ${directory}` })
    p.sys('child', 'write', [fd, '0', 1], { doing: `join the cgroup ${directory}` })
    p.sys('child', 'close', [fd])
  }
}

function makeCgroup(p: Program, cgroup: Cgroup, resources: Resources): void {
  for (const directory of cgroup.unique()) {
    p.sys('pre', 'mkdirat', [AT_FDCWD, directory, 0o755], { tolerate: [errno.EEXIST, errno.ENOENT], skip: 2, skipOnSuccess: true, doing: `make the cgroup ${directory}` })
    p.sys('pre', 'mkdirat', [AT_FDCWD, dirname(directory), 0o755], { tolerate: [errno.EEXIST], doing: `make the cgroup ${dirname(directory)}` })
    p.sys('pre', 'mkdirat', [AT_FDCWD, directory, 0o755], { tolerate: [errno.EEXIST], doing: `make the cgroup ${directory}` })
  }
  const fd = p.register()
  for (const { path, value, optional } of cgroup.writes(resources)) {
    const doing = `write ${JSON.stringify(value)} to ${path}`
    p.sys('pre', 'openat', [AT_FDCWD, path, constants.O_WRONLY | O_CLOEXEC], { out: fd, doing, tolerate: optional ? [errno.ENOENT] : [], skip: optional ? 2 : 0 })
    p.sys('pre', 'write', [fd, value, Buffer.byteLength(value)], { doing })
    p.sys('pre', 'close', [fd])
  }
  if (cgroup.version === 2 && resources.devices) attachDeviceProgram(p, cgroup.directories.get('unified')!, compileDeviceRules(resources.devices))
}

const BPF = { PROG_LOAD: 5, PROG_ATTACH: 8, TYPE_CGROUP_DEVICE: 15, ATTACH_CGROUP_DEVICE: 6, F_ALLOW_MULTI: 2 } as const

function attachDeviceProgram(p: Program, directory: string, code: Buffer): void {
  const load = p.space(128) // union bpf_attr
  p.setWord(load, BPF.TYPE_CGROUP_DEVICE)
  p.setWord({ ...load, offset: load.offset + 4 }, code.length / 8)
  p.relocate({ ...load, offset: load.offset + 8 }, p.bytes(code))
  p.relocate({ ...load, offset: load.offset + 16 }, p.string('Apache'))
  const doing = 'load the device rules'
  // BPF_PROG_ATTACH takes descriptors inside its argument: fixed numbers, made by dup3
  const fd = p.register()
  p.sys('pre', 'bpf', [BPF.PROG_LOAD, load, 128], { out: fd, doing })
  p.sys('pre', 'dup3', [fd, 98, O_CLOEXEC], { doing })
  p.sys('pre', 'openat', [AT_FDCWD, directory, 0o200000 | O_CLOEXEC], { out: fd, doing })
  p.sys('pre', 'dup3', [fd, 97, O_CLOEXEC], { doing })
  const attach = p.space(128)
  ;[97, 98, BPF.ATTACH_CGROUP_DEVICE, BPF.F_ALLOW_MULTI].forEach((word, i) => p.setWord({ ...attach, offset: attach.offset + i * 4 }, word))
  p.sys('pre', 'bpf', [BPF.PROG_ATTACH, attach, 128], { doing })
}

interface StreamRegisters extends Streams {
  /** Descriptors that the monitor closes once the child has them. */
  childOnly: readonly Register[]
  /** The end of stdin that the monitor keeps open until it is told that stdin ends. */
  stdinHold?: Register
}

/** The monitor keeps the read ends of stdout and stderr, so that the process neither dies nor loses a byte while no
 * daemon reads, and a write end of stdin, so that it has no end before it is meant to. */
function openStreams(p: Program, stdio: Stdio): StreamRegisters {
  if (stdio.kind === 'terminal') {
    const slave = p.register()
    return { stdin: slave, stdout: slave, stderr: slave, childOnly: [] }
  }
  const open = (path: string, flags: number, out = p.register()): Register => {
    p.sys('pre', 'openat', [AT_FDCWD, path, flags | O_CLOEXEC], { out, doing: `open ${path}` })
    return out
  }
  if (stdio.kind === 'inherit')
    return { stdin: typeof stdio.stdin === 'number' ? p.register(stdio.stdin) : open(stdio.stdin, constants.O_RDONLY), stdout: p.register(stdio.stdout), stderr: p.register(stdio.stderr), childOnly: [] }
  for (const path of new Set([stdio.stdout, stdio.stderr])) open(path, constants.O_RDONLY | constants.O_NONBLOCK)
  const stdout = open(stdio.stdout, constants.O_WRONLY)
  const stderr = stdio.stderr === stdio.stdout ? stdout : open(stdio.stderr, constants.O_WRONLY)
  if (!stdio.stdin) {
    const stdin = open('/dev/null', constants.O_RDONLY)
    return { stdin, stdout, stderr, childOnly: [stdin, stdout, stderr] }
  }
  // neither end opens without the other, and no reader may remain but the process: its closing stdin must be seen
  const both = open(stdio.stdin, constants.O_RDWR)
  const stdin = open(stdio.stdin, constants.O_RDONLY)
  const stdinHold = open(stdio.stdin, constants.O_WRONLY)
  p.sys('pre', 'close', [both])
  p.sys('child', 'close', [stdinHold])
  return { stdin, stdout, stderr, childOnly: [stdin, stdout, stderr], stdinHold }
}

function joinNamespace(p: Program, stage: 'pre' | 'child', type: NamespaceType, path: string): void {
  const fd = p.register()
  p.sys(stage, 'openat', [AT_FDCWD, path, constants.O_RDONLY | O_CLOEXEC], { out: fd, doing: `open the ${type} namespace ${path}` })
  p.sys(stage, 'setns', [fd, CLONE[type]], { doing: `join the ${type} namespace ${path}` })
  p.sys(stage, 'close', [fd])
}

/** `lo` up (netdevice(7), SIOCSIFFLAGS). */
function raiseLoopback(p: Program): void {
  const request = Buffer.alloc(40) // struct ifreq
  request.write('lo')
  request.writeUInt16LE(0x41, 16) // IFF_UP | IFF_RUNNING
  const fd = p.register()
  p.sys('child', 'socket', [2, 2 | O_CLOEXEC, 0], { out: fd, doing: 'raise lo' })
  p.sys('child', 'ioctl', [fd, 0x8914, request], { doing: 'raise lo' })
  p.sys('child', 'close', [fd])
}

function becomeRoot(p: Program): void {
  p.sys('child', 'setresgid', [0, 0, 0], { doing: 'become root of the user namespace' })
  p.sys('child', 'setresuid', [0, 0, 0], { doing: 'become root of the user namespace' })
}

/** Has the child make files as the root of a user namespace that it is to join. It joins last, by what is returned: the
 * namespaces that it has by then are the host's to manage, and whoever is root in the user namespace can't change them. */
function prepareToJoinUser(p: Program, path: string, maps: IdMaps): () => void {
  const { uid, gid } = rootOf(maps)
  const fd = p.register()
  p.sys('child', 'openat', [AT_FDCWD, path, constants.O_RDONLY | O_CLOEXEC], { out: fd, doing: `open the user namespace ${path}` })
  p.sys('child', 'setfsgid', [gid])
  p.sys('child', 'setfsuid', [uid])
  return () => {
    p.sys('child', 'setns', [fd, CLONE.user], { doing: `join the user namespace ${path}` })
    p.sys('child', 'close', [fd])
    becomeRoot(p)
  }
}

/** A path in the child's /proc, completed once its pid is known. "///proc/" is eight bytes, so that the number, at the
 * next multiple of eight, follows it. */
function childProcPath(p: Program, file: string): Pointer {
  const path = p.bytes(Buffer.from('///proc/'))
  p.format('post', p.space(56), CHILD_PID, `/${file}`)
  return path
}

/** Keeps the container's mount namespace until the monitor ends: the kernel takes it apart, which can last 50 ms, when
 * its last user goes, and that must not be the container's process, whose exit is waited for. */
function holdMounts(p: Program): void {
  p.sys('post', 'openat', [AT_FDCWD, childProcPath(p, 'ns/mnt'), constants.O_RDONLY | O_CLOEXEC], { tolerate: 'all' })
}

/** Has the monitor write the maps of the child's user namespace, while the child waits at the returned step. */
function writeIdMaps(p: Program, uids: readonly IdMapping[], gids: readonly IdMapping[]): () => void {
  const pipe = p.pipe()
  const fd = p.register()
  for (const [file, mappings] of [['uid_map', uids], ['gid_map', gids]] as const) {
    const text = formatIdMap(mappings)
    p.sys('post', 'openat', [AT_FDCWD, childProcPath(p, file), constants.O_WRONLY | O_CLOEXEC], { out: fd, doing: `write ${file}` })
    p.sys('post', 'write', [fd, text, Buffer.byteLength(text)], { doing: `write ${file}` })
    p.sys('post', 'close', [fd])
  }
  p.sys('post', 'write', [pipe.write, 'x', 1], { doing: 'let the child go on' })
  return () => {
    p.sys('child', 'read', [pipe.read, p.space(8), 1], { doing: 'wait for the user namespace' })
    becomeRoot(p)
  }
}

/** Gives the terminal's master to the monitor as descriptor TERMINAL_FD: the child puts it there and waits; the monitor
 * takes it by pidfd_getfd(2). The pipe's end tells the monitor of a child that failed before. */
function handTerminal(p: Program, pidfd: Pointer, terminal: { master: Register, slave: Register, rows: number, columns: number }): void {
  const [ready, go] = [p.pipe(), p.pipe()]
  p.sys('child', 'ioctl', [terminal.slave, TIOCSWINSZ, windowSize(terminal.rows, terminal.columns)], { doing: 'set the size of the terminal' })
  p.sys('child', 'dup3', [terminal.master, TERMINAL_FD, O_CLOEXEC], { doing: 'hand over the terminal' })
  p.sys('child', 'write', [ready.write, 'x', 1], { doing: 'hand over the terminal' })
  p.sys('child', 'read', [go.read, p.space(8), 1], { doing: 'hand over the terminal' })
  p.sys('child', 'close', [TERMINAL_FD])
  p.sys('child', 'close', [terminal.master])
  p.sys('post', 'close', [ready.write])
  const got = p.register()
  p.sys('post', 'read', [ready.read, p.space(8), 1], { out: got })
  p.assert('post', got, 1, errno.ENOTTY, { doing: 'take the terminal' })
  p.sys('post', 'pidfd_getfd', [{ kind: 'word', at: pidfd }, TERMINAL_FD, 0], { out: got, doing: 'take the terminal' })
  p.sys('post', 'dup3', [got, TERMINAL_FD, O_CLOEXEC], { doing: 'take the terminal' })
  p.sys('post', 'close', [got])
  p.sys('post', 'write', [go.write, 'x', 1], { doing: 'let the child go on' })
}

const defaultDevices = [
  { path: '/dev/null', major: 1, minor: 3 }, { path: '/dev/zero', major: 1, minor: 5 }, { path: '/dev/full', major: 1, minor: 7 },
  { path: '/dev/random', major: 1, minor: 8 }, { path: '/dev/urandom', major: 1, minor: 9 }, { path: '/dev/tty', major: 5, minor: 0 },
] as const
const defaultLinks = [['/proc/self/fd', '/dev/fd'], ['/proc/self/fd/0', '/dev/stdin'], ['/proc/self/fd/1', '/dev/stdout'], ['/proc/self/fd/2', '/dev/stderr']] as const

function buildRootfs(rootfs: RootfsSteps, start: ContainerStart, userNamespace: boolean, ownCgroups: boolean): void {
  const { spec } = start
  let devicesMade = false
  const makeDevices = (): void => {
    devicesMade = true
    for (const device of defaultDevices) rootfs.device({ type: 'c', fileMode: 0o666, ...device }, userNamespace)
    for (const device of spec.linux?.devices ?? [])
      if (!defaultDevices.some(({ path }) => path === device.path) && device.path !== '/dev/console') rootfs.device(device, userNamespace)
    for (const [target, path] of defaultLinks) rootfs.link(target, path)
    if (existsSync('/proc/kcore')) rootfs.link('/proc/kcore', '/dev/core')
    rootfs.link('pts/ptmx', '/dev/ptmx')
  }
  const readonlyLater: Mount[] = []
  for (const mount of spec.mounts ?? []) {
    const destination = cleanPath(mount.destination)
    const options = parseMountOptions(mount.options ?? [])
    if (mount.type === 'cgroup' || mount.type === 'cgroup2') rootfs.cgroups({ ...mount, destination }, start.trees, start.cgroup.path, ownCgroups)
    else if (mount.type === 'bind' || options.bind) {
      if (!mount.source) throw invalid(`the bind mount on ${destination} has no source`)
      const mapping = start.idMapping?.(mount, options)
      if (options.idmap && !mapping) throw invalid(`the mount on ${destination} has ids to map, but no mapping`)
      const recursive = options.idmap === 'ridmap' || options.recursive && options.idmap !== 'idmap'
      const prepared = mapping === undefined && !userNamespace && !ELSEWHERE.test(mount.source) ? undefined
        : rootfs.prepare(mount.source, { recursive: options.recursive, ...(mapping && { idMap: { userNamespace: mapping, recursive } }) })
      rootfs.bind(mount.source, destination, start.sourceKind(mount.source), { ...options, bind: true }, prepared)
    } else if (!mount.type) throw invalid(`the mount on ${destination} has no type`)
    else if (mount.type === 'tmpfs' && options.set & MOUNT_ATTR.RDONLY) {
      rootfs.mount(mount.type, mount.source ?? mount.type, destination, { ...options, set: options.set & ~MOUNT_ATTR.RDONLY })
      readonlyLater.push(mount) // mounts and devices inside it come first
    } else rootfs.mount(mount.type, mount.source ?? mount.type, destination, options)
    if (destination === '/dev' && mount.type === 'tmpfs') makeDevices()
  }
  if (!devicesMade) for (const device of spec.linux?.devices ?? []) rootfs.device(device, userNamespace)
  for (const { path, target } of start.make ?? []) {
    if (target === undefined) rootfs.touch(path)
    else rootfs.link(target, path)
  }
  for (const mount of readonlyLater) rootfs.remount(cleanPath(mount.destination), MOUNT_ATTR.RDONLY)
}
