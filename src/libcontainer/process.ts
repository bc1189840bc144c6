import { constants } from 'node:fs'
import { errno } from '../sys/errno.ts'
import { AT_FDCWD, O_CLOEXEC, O_DIRECTORY, O_PATH, RESOLVE } from '../sys/fs.ts'
import type { Program, Register } from '../sys/program.ts'
import { TIOCGPTPEER, TIOCSPTLCK } from '../sys/terminal.ts'
import { maskOf, capabilityNames } from './capabilities.ts'
import { compileSeccomp, seccompFlags } from './seccomp/compile.ts'
import type { Seccomp } from './seccomp/profile.ts'
import type { ProcessSpec } from './spec.ts'
import { invalid } from '../lib/errors.ts'

const PR = {
  SET_PDEATHSIG: 1, SET_DUMPABLE: 4, SET_KEEPCAPS: 8, CAPBSET_DROP: 24, SET_NO_NEW_PRIVS: 38, CAP_AMBIENT: 47,
} as const
const AMBIENT_RAISE = 2
const AMBIENT_CLEAR = 4
const SECCOMP_SET_MODE_FILTER = 1
const CAPABILITY_VERSION_3 = 0x20080522
const SIGKILL = 9

const rlimits: Record<string, number> = {
  RLIMIT_CPU: 0, RLIMIT_FSIZE: 1, RLIMIT_DATA: 2, RLIMIT_STACK: 3, RLIMIT_CORE: 4, RLIMIT_RSS: 5, RLIMIT_NPROC: 6,
  RLIMIT_NOFILE: 7, RLIMIT_MEMLOCK: 8, RLIMIT_AS: 9, RLIMIT_LOCKS: 10, RLIMIT_SIGPENDING: 11, RLIMIT_MSGQUEUE: 12,
  RLIMIT_NICE: 13, RLIMIT_RTPRIO: 14, RLIMIT_RTTIME: 15,
}

const filters = new WeakMap<Seccomp, Buffer>()

function filterOf(seccomp: Seccomp): Buffer {
  let filter = filters.get(seccomp)
  if (!filter) filters.set(seccomp, (filter = compileSeccomp(seccomp)))
  return filter
}

function loadSeccomp(p: Program, seccomp: Seccomp): void {
  const filter = filterOf(seccomp)
  const header = Buffer.alloc(16) // struct sock_fprog
  header.writeUInt16LE(filter.length / 8, 0)
  const at = p.bytes(header)
  p.relocate({ ...at, offset: at.offset + 8 }, p.bytes(filter))
  p.sys('child', 'seccomp', [SECCOMP_SET_MODE_FILTER, seccompFlags(seccomp), at], { doing: 'load the seccomp filter' })
}

/** Enters the working directory, which is made where it is missing. A magic link (/proc/self/fd/N) is refused, so it
 * can't be a directory of the host's that a descriptor was left open on (CVE-2024-21626). */
function enterDirectory(p: Program, cwd: string, make: boolean): void {
  const how = Buffer.alloc(24)
  how.writeBigUInt64LE(BigInt(O_PATH | O_DIRECTORY | O_CLOEXEC), 0)
  how.writeBigUInt64LE(BigInt(RESOLVE.NO_MAGICLINKS), 16)
  const at = p.bytes(how)
  const fd = p.register()
  const parts = cwd.split('/').filter(Boolean)
  const doing = `chdir to cwd (${JSON.stringify(cwd)}) set in config.json failed`
  p.sys('child', 'openat2', [AT_FDCWD, cwd, at, 24], { out: fd, doing, tolerate: make ? [errno.ENOENT] : [], skip: make ? parts.length + 1 : 0, skipOnSuccess: true })
  if (make) {
    parts.forEach((_, i) => p.sys('child', 'mkdirat', [AT_FDCWD, '/' + parts.slice(0, i + 1).join('/'), 0o755], { tolerate: [errno.EEXIST, errno.EROFS], doing: `make ${cwd}` }))
    p.sys('child', 'openat2', [AT_FDCWD, cwd, at, 24], { out: fd, doing })
  }
  p.sys('child', 'fchdir', [fd], { doing })
  p.sys('child', 'close', [fd])
  // a working directory that getcwd can't name from / is outside the container
  const name = p.space(4096)
  p.sys('child', 'getcwd', [name, 4096], { doing })
  p.assert('child', { kind: 'word', at: name }, 0x2f, errno.ENOENT, { mask: 0xff, doing: `${doing}: it is outside the container` })
}

/** Descriptors for the process's standard streams, and what else it needs that must be opened early. */
export interface Streams { stdin: Register, stdout: Register, stderr: Register }

/** Unlocks the slave of a terminal and opens it. */
export function openSlave(p: Program, master: Register, slave: Register): void {
  p.sys('child', 'ioctl', [master, TIOCSPTLCK, p.space(8)], { doing: 'unlock the terminal' })
  p.sys('child', 'ioctl', [master, TIOCGPTPEER, constants.O_RDWR | constants.O_NOCTTY | O_CLOEXEC], { out: slave, doing: 'open the terminal' })
}

/** Opens the files of a security module's labels while /proc is still the host's. Returns what writes them. */
export function prepareLabels(p: Program, process: ProcessSpec): () => void {
  const writers: (() => void)[] = []
  const prepare = (file: string, text: string, what: string): void => {
    const fd = p.register()
    p.sys('child', 'openat', [AT_FDCWD, file, 1 | O_CLOEXEC], { out: fd, doing: what })
    writers.push(() => p.sys('child', 'write', [fd, text, Buffer.byteLength(text)], { doing: what }))
  }
  if (process.apparmorProfile) prepare('/proc/thread-self/attr/apparmor/exec', `exec ${process.apparmorProfile}`, `apply the AppArmor profile ${process.apparmorProfile}`)
  if (process.selinuxLabel) prepare('/proc/thread-self/attr/exec', process.selinuxLabel, `apply the SELinux label ${process.selinuxLabel}`)
  return () => writers.forEach((write) => write())
}

/** Writes oom_score_adj while /proc is still the host's. */
export function setOomScore(p: Program, score: number): void {
  const fd = p.register()
  const text = String(score)
  p.sys('child', 'openat', [AT_FDCWD, '/proc/self/oom_score_adj', 1 | O_CLOEXEC], { out: fd, doing: 'open oom_score_adj' })
  // lowering it below the engine's own takes CAP_SYS_RESOURCE: without that, the engine's own is the closest
  p.sys('child', 'write', [fd, text, text.length], { tolerate: score < 0 ? [errno.EACCES] : [], doing: `set oom_score_adj to ${score}` })
  p.sys('child', 'close', [fd])
}

/** Adds to stage `child` all that turns the process into the one that the spec describes, and executes it. The root
 * must be in place. Nothing of the host's stays open. */
export function finishProcess(p: Program, process: ProcessSpec, streams: Streams, options: {
  seccomp?: Seccomp | undefined
  writeLabels: () => void
  makeDirectory: boolean
  controllingTerminal: boolean
  dieWithMonitor: boolean
  /** The file to execute, where it is not what args[0] says. */
  program?: string
  /** Descriptors that the process gets as 3, 4, …, and where they are. */
  more?: { from: number, count: number }
  /** Called right before the process is executed: a rendezvous. */
  beforeExec?: () => void
}): void {
  const args = process.args ?? []
  if (!args[0]) throw invalid('args must not be empty')
  for (const text of [...args, ...(process.env ?? []), process.cwd]) if (text.includes('\0')) throw invalid(`a NUL byte in ${JSON.stringify(text)}`)
  p.sys('child', 'dup3', [streams.stdin, 0, 0], { doing: 'connect standard input' })
  p.sys('child', 'dup3', [streams.stdout, 1, 0], { doing: 'connect standard output' })
  p.sys('child', 'dup3', [streams.stderr, 2, 0], { doing: 'connect standard error' })
  if (options.controllingTerminal) p.sys('child', 'ioctl', [0, 0x540e, 0], { doing: 'take the terminal' }) // TIOCSCTTY
  p.sys('child', 'fchown', [0, process.user.uid, -1], { tolerate: 'all' })
  if (!options.controllingTerminal) {
    p.sys('child', 'fchown', [1, process.user.uid, -1], { tolerate: 'all' })
    p.sys('child', 'fchown', [2, process.user.uid, -1], { tolerate: 'all' })
  }
  for (const { type, soft, hard } of process.rlimits ?? []) {
    if (rlimits[type] === undefined) throw invalid(`invalid rlimit type: ${JSON.stringify(type)}`)
    const limit = Buffer.alloc(16)
    limit.writeBigInt64LE(BigInt(soft), 0)
    limit.writeBigInt64LE(BigInt(hard), 8)
    p.sys('child', 'prlimit64', [0, rlimits[type], limit, 0], { doing: `error setting rlimits for ready process: error setting rlimit type ${rlimits[type]}` })
  }
  if (process.scheduler || process.ioPriority) setPriorities(p, process)
  enterDirectory(p, process.cwd, options.makeDirectory)
  if (process.noNewPrivileges) p.sys('child', 'prctl', [PR.SET_NO_NEW_PRIVS, 1, 0, 0, 0], { doing: 'set no_new_privs' })
  else if (options.seccomp) loadSeccomp(p, options.seccomp)
  setCredentials(p, process)
  options.writeLabels()
  p.sys('child', 'umask', [process.user.umask ?? 0o022])
  if (options.dieWithMonitor) p.sys('child', 'prctl', [PR.SET_PDEATHSIG, SIGKILL, 0, 0, 0], { doing: 'set the parent-death signal' })
  options.beforeExec?.()
  const { from, count } = options.more ?? { from: 0, count: 0 }
  for (let i = 0; i < count; i++) p.sys('child', 'dup3', [from + i, 3 + i, 0], { doing: `pass on descriptor ${3 + i}` })
  p.sys('child', 'close_range', [3 + count, 0xffffffff, 4], { doing: 'close descriptors' }) // CLOSE_RANGE_CLOEXEC
  if (process.noNewPrivileges && options.seccomp) loadSeccomp(p, options.seccomp)
  p.exec('child', options.program ? [options.program] : candidatesFor(args[0], process.env ?? []), args, process.env ?? [], { doing: `exec ${JSON.stringify(args[0])}` })
}

/** The paths at which execvp(3) looks for a program. */
export function candidatesFor(program: string, env: readonly string[]): string[] {
  if (program.includes('/')) return [program]
  const path = env.findLast((entry) => entry.startsWith('PATH='))?.slice(5) ?? ''
  return path.split(':').filter(Boolean).map((directory) => `${directory}/${program}`)
}

function setCredentials(p: Program, process: ProcessSpec): void {
  const { user, capabilities = {} } = process
  const all = (1n << BigInt(capabilityNames.length)) - 1n
  const bounding = maskOf(capabilities.bounding ?? [])
  for (let bit = 0; bit < capabilityNames.length; bit++)
    if (!((bounding >> BigInt(bit)) & 1n) && (all >> BigInt(bit)) & 1n)
      p.sys('child', 'prctl', [PR.CAPBSET_DROP, bit, 0, 0, 0], { tolerate: [errno.EINVAL], doing: `drop ${capabilityNames[bit]}` })
  p.sys('child', 'prctl', [PR.SET_KEEPCAPS, 1, 0, 0, 0], { doing: 'keep capabilities' })
  const groups = user.additionalGids ?? []
  const list = Buffer.alloc(Math.max(groups.length * 4, 4))
  groups.forEach((gid, i) => list.writeUInt32LE(gid, i * 4))
  p.sys('child', 'setgroups', [groups.length, list], { doing: 'setgroups' })
  p.sys('child', 'setresgid', [user.gid, user.gid, user.gid], { doing: `setgid ${user.gid}` })
  p.sys('child', 'setresuid', [user.uid, user.uid, user.uid], { doing: `setuid ${user.uid}` })
  p.sys('child', 'prctl', [PR.SET_KEEPCAPS, 0, 0, 0, 0])
  const header = Buffer.alloc(8)
  header.writeUInt32LE(CAPABILITY_VERSION_3, 0)
  const data = Buffer.alloc(24)
  const sets = [capabilities.effective, capabilities.permitted, capabilities.inheritable]
  sets.forEach((names, i) => {
    const mask = maskOf(names ?? [])
    data.writeUInt32LE(Number(mask & 0xffffffffn), i * 4)
    data.writeUInt32LE(Number(mask >> 32n), 12 + i * 4)
  })
  p.sys('child', 'capset', [header, data], { doing: 'set capabilities' })
  p.sys('child', 'prctl', [PR.CAP_AMBIENT, AMBIENT_CLEAR, 0, 0, 0], { tolerate: [errno.EINVAL] })
  for (const name of capabilities.ambient ?? [])
    p.sys('child', 'prctl', [PR.CAP_AMBIENT, AMBIENT_RAISE, capabilityNames.indexOf(name as (typeof capabilityNames)[number]), 0, 0], { tolerate: [errno.EPERM] })
}

function setPriorities(p: Program, process: ProcessSpec): void {
  const { ioPriority, scheduler } = process
  if (ioPriority) {
    const klass = ({ IOPRIO_CLASS_RT: 1, IOPRIO_CLASS_BE: 2, IOPRIO_CLASS_IDLE: 3 } as Record<string, number>)[ioPriority.class]
    if (!klass) throw invalid(`invalid ioPriority.class: ${JSON.stringify(ioPriority.class)}`)
    p.sys('child', 'ioprio_set', [1, 0, (klass << 13) | ioPriority.priority], { doing: 'set the i/o priority' })
  }
  if (!scheduler) return
  const policies: Record<string, number> = { SCHED_OTHER: 0, SCHED_FIFO: 1, SCHED_RR: 2, SCHED_BATCH: 3, SCHED_ISO: 4, SCHED_IDLE: 5, SCHED_DEADLINE: 6 }
  const flagBits: Record<string, number> = { SCHED_FLAG_RESET_ON_FORK: 1, SCHED_FLAG_RECLAIM: 2, SCHED_FLAG_DL_OVERRUN: 4, SCHED_FLAG_KEEP_POLICY: 8, SCHED_FLAG_KEEP_PARAMS: 16, SCHED_FLAG_UTIL_CLAMP_MIN: 32, SCHED_FLAG_UTIL_CLAMP_MAX: 64 }
  const policy = policies[scheduler.policy]
  if (policy === undefined) throw invalid(`invalid scheduler policy: ${JSON.stringify(scheduler.policy)}`)
  const attributes = Buffer.alloc(48) // struct sched_attr, sched_setattr(2)
  attributes.writeUInt32LE(48, 0)
  attributes.writeUInt32LE(policy, 4)
  attributes.writeBigUInt64LE(BigInt((scheduler.flags ?? []).reduce((bits, name) => bits | (flagBits[name] ?? 0), 0)), 8)
  attributes.writeInt32LE(scheduler.nice ?? 0, 16)
  attributes.writeUInt32LE(scheduler.priority ?? 0, 20)
  attributes.writeBigUInt64LE(BigInt(scheduler.runtime ?? 0), 24)
  attributes.writeBigUInt64LE(BigInt(scheduler.deadline ?? 0), 32)
  attributes.writeBigUInt64LE(BigInt(scheduler.period ?? 0), 40)
  p.sys('child', 'sched_setattr', [0, attributes, 0], { doing: 'set the scheduler' })
}

/** No process of a container may be traced, or its descriptors reached, before it executes (CVE-2016-9962). */
export function hideFromTracing(p: Program): void {
  p.sys('child', 'prctl', [PR.SET_DUMPABLE, 0, 0, 0, 0], { doing: 'hide from tracing' })
}
