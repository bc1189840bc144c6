import { openSync, closeSync, constants, statSync, unlinkSync, writeFileSync, writeSync } from 'node:fs'
import { dirname, posix } from 'node:path'
import { invalid, messageOf, system } from '../lib/errors.ts'
import { readIfThere } from '../lib/files.ts'
import { formatIdMap, parseIdMap } from '../lib/idmap.ts'
import { Cgroup, findCgroupTrees, prepareCgroupParent, type CgroupTrees } from '../libcontainer/cgroups/cgroup.ts'
import { usualDeviceRules } from '../libcontainer/cgroups/devices.ts'
import { GATE, TERMINAL_FD, assembleStart, type Stdio } from '../libcontainer/container.ts'
import type { Mount, Spec } from '../libcontainer/spec.ts'
import { makeFifo, takeDescriptor } from '../sys/fs.ts'
import { processAt } from '../sys/process.ts'
import { sendSignal } from '../sys/signal.ts'
import { sendDescriptor } from '../sys/terminal.ts'
import { openUserNamespace, readIdMaps, type UserNamespace } from '../sys/usernamespace.ts'
import type { Zygote } from '../sys/zygote.ts'
import { readBundle } from './bundle.ts'
import { runHooks, runHooksInside } from './hooks.ts'
import { INHERITED, execute, type Running } from './launch.ts'
import { claim, forget, keep, load, ownerOf, statusOf, type Files, type Kept } from './state.ts'

type Linux = NonNullable<Spec['linux']>

export interface CreateOptions {
  root: string
  id: string
  bundle: string
  consoleSocket?: string
  pidFile?: string
  preserveFds: number
  systemdCgroup: boolean
  /** The caller connects the terminal, and waits for the end. */
  foreground: boolean
}

export interface Created { files: Files, kept: Kept, running: Running, terminal?: number }

/** Makes a container of a bundle, up to its process, which waits for `startContainer`. A failure leaves nothing. */
export async function createContainer(zygote: Zygote, options: CreateOptions): Promise<Created> {
  const { directory: bundle, spec, rootfs } = readBundle(options.bundle)
  if (!spec.process) throw invalid('process property must not be empty')
  const terminal = spec.process.terminal === true
  spec.linux = withJoinedMaps(withDeviceRules(spec.linux ?? {}))
  if (terminal && !options.foreground && !options.consoleSocket) throw invalid('cannot allocate tty if runtime will detach without setting console socket')
  if (!terminal && options.consoleSocket) throw invalid('cannot use console socket if runtime will not detach or allocate tty')
  const trees = findCgroupTrees()
  const files = claim(options.root, options.id)
  const cgroup = emptyCgroup(files, trees, cgroupPathOf(spec, options))
  let running: Running | undefined
  const kept: Kept = { id: options.id, bundle, rootfs, pid: 0, startTime: '', created: new Date().toISOString(), cgroup: cgroup.path, owner: ownerOf(bundle), spec }
  try {
    // on version 1 a cpuset has no CPUs before it is given some, and the one above may belong to somebody else
    prepareCgroupParent(trees, trees.version === 1 ? cgroup.path : dirname(cgroup.path))
    makeFifo(files.gate, 0o600)
    const stdio: Stdio = terminal ? { kind: 'terminal', rows: spec.process.consoleSize?.height ?? 0, columns: spec.process.consoleSize?.width ?? 0 } : { kind: 'inherit', ...INHERITED, more: options.preserveFds }
    using mountMaps = await MountMaps.of(zygote, files, spec)
    const program = assembleStart({
      id: options.id, spec, root: { type: 'bind', source: rootfs, target: rootfs }, trees, cgroup, stdio, files: { events: files.events, exit: files.exit, pid: files.pid },
      idMapping: (mount) => mountMaps.pathFor(mount), gate: { path: files.gate, hooks: hasEarlyHooks(spec) }, sourceKind: (source) => (statSync(source).isDirectory() ? 'directory' : 'file'),
    })
    const { promise: hooksFailed, reject } = Promise.withResolvers<never>()
    hooksFailed.catch(() => {}) // raced below
    running = await Promise.race([hooksFailed, execute(zygote, program, files.events, (gate) => {
      if (gate === GATE.hooks) void earlyHooks(zygote, files, kept).then(() => openGate(files), reject)
    })])
    Object.assign(kept, await pidOf(files))
    const master = terminal ? takeDescriptor(running.monitorPid, TERMINAL_FD) : undefined
    if (master !== undefined && options.consoleSocket) {
      sendDescriptor(options.consoleSocket, master)
      closeSync(master)
    }
    keep(files, kept)
    if (options.pidFile) writeFileSync(options.pidFile, String(kept.pid))
    return { files, kept, running, ...(master !== undefined && !options.consoleSocket && { terminal: master }) }
  } catch (error) {
    await undo(files, cgroup)
    throw error
  }
}

/** The container's cgroup, which must not be anybody else's: what is undone is killed. */
function emptyCgroup(files: Files, trees: CgroupTrees, path: string): Cgroup {
  try {
    const cgroup = new Cgroup(trees, path)
    if (cgroup.processes().length > 0) throw invalid(`container's cgroup ${path} is not empty`)
    return cgroup
  } catch (error) {
    forget(files)
    throw error
  }
}

/** The rules of the bundle, then those that its own and the usual devices need. */
function withDeviceRules(linux: Linux): Linux {
  const own = (linux.devices ?? []).filter(({ type }) => type !== 'p').map(({ type, major = -1, minor = -1 }) => ({ allow: true, type: type === 'u' ? 'c' : type, major, minor, access: 'rwm' }))
  return { ...linux, resources: { ...linux.resources, devices: [...linux.resources?.devices ?? [], ...usualDeviceRules, ...own] } }
}

/** Kills what was made of a container, and removes the rest. */
async function undo(files: Files, cgroup: Cgroup): Promise<void> {
  const [monitorPid = 0] = (readIfThere(files.pid) ?? '').trim().split(' ').map(Number)
  cgroup.kill('SIGKILL')
  sendSignal(monitorPid, 'SIGKILL')
  await cgroup.removeSoon()
  forget(files)
}

const hasEarlyHooks = ({ hooks }: Spec): boolean => [hooks?.prestart, hooks?.createRuntime, hooks?.createContainer].some((list) => list?.length)

async function earlyHooks(zygote: Zygote, files: Files, kept: Kept): Promise<void> {
  Object.assign(kept, await pidOf(files))
  runHooks(kept, ['prestart', 'createRuntime'], 'creating')
  await runHooksInside(zygote, files, kept, 'createContainer', 'creating')
}

/** The process, from the file that its monitor writes soon after it has begun. */
async function pidOf(files: Files): Promise<Pick<Kept, 'pid' | 'startTime'>> {
  for (let tries = 0; tries < 1000; tries++) {
    const [, pid] = /^\d+ (\d+)\n/.exec(readIfThere(files.pid) ?? '') ?? []
    const startTime = pid && processAt(Number(pid))?.startTime
    if (startTime) return { pid: Number(pid), startTime }
    await new Promise((resolve) => setTimeout(resolve, 2))
  }
  throw system('the monitor did not say which process it made')
}

function cgroupPathOf(spec: Spec, { id, systemdCgroup }: CreateOptions): string {
  const path = spec.linux?.cgroupsPath
  if (!path) return `/${id}`
  if (!systemdCgroup) return posix.resolve('/', path)
  const [slice, prefix, name, ...more] = path.split(':')
  if (name === undefined || more.length) throw invalid(`expected cgroupsPath to be of format "slice:prefix:name" for systemd cgroups, got ${JSON.stringify(path)} instead`)
  return posix.join('/', slice || 'system.slice', `${prefix ? `${prefix}-` : ''}${name}.scope`)
}

/** The user namespaces of the maps that mounts ask for. */
class MountMaps implements Disposable {
  readonly #linux: Linux
  readonly #namespaces = new Map<string, UserNamespace>()

  private constructor(linux: Linux) {
    this.#linux = linux
  }

  static async of(zygote: Zygote, files: Files, spec: Spec): Promise<MountMaps> {
    const maps = new MountMaps(spec.linux ?? {})
    try {
      for (const mount of spec.mounts ?? []) {
        const wanted = maps.#wantedBy(mount)
        if (wanted && !maps.#namespaces.has(wanted.uid + wanted.gid)) maps.#namespaces.set(wanted.uid + wanted.gid, await openUserNamespace(zygote, `${files.events}-ids`, wanted))
      }
      return maps
    } catch (error) {
      maps[Symbol.dispose]()
      throw error
    }
  }

  #wantedBy(mount: Mount): { uid: string, gid: string } | undefined {
    const asked = mount.options?.some((option) => option === 'idmap' || option === 'ridmap')
    const { uidMappings: uids = [], gidMappings: gids = [] } = mount.uidMappings?.length ? mount : asked ? this.#linux : {}
    return uids.length ? { uid: formatIdMap(uids), gid: formatIdMap(gids) } : undefined
  }

  /** The path of the user namespace with a mount's maps. */
  pathFor(mount: Mount): string | undefined {
    const wanted = this.#wantedBy(mount)
    return wanted && this.#namespaces.get(wanted.uid + wanted.gid)!.path
  }

  [Symbol.dispose](): void {
    for (const namespace of this.#namespaces.values()) namespace[Symbol.dispose]()
  }
}

/** A container that joins a user namespace is told its maps. */
function withJoinedMaps(linux: Linux): Linux {
  const path = linux.namespaces?.find(({ type }) => type === 'user')?.path
  if (!path) return linux
  const maps = readIdMaps(path)
  return { ...linux, uidMappings: parseIdMap(maps.uid), gidMappings: parseIdMap(maps.gid) }
}

function openGate(files: Files): void {
  const fd = openSync(files.gate, constants.O_WRONLY | constants.O_NONBLOCK)
  try {
    writeSync(fd, 'x')
  } finally {
    closeSync(fd)
  }
}

/** Lets the process of a created container be executed. */
export async function startContainer(zygote: Zygote, root: string, id: string): Promise<void> {
  const { files, kept } = load(root, id)
  const status = statusOf({ files, kept })
  if (status === 'stopped') throw invalid('cannot start a container that has stopped')
  if (status !== 'created') throw invalid('cannot start an already running container')
  try {
    await runHooksInside(zygote, files, kept, 'startContainer', 'created')
  } catch (error) {
    process.kill(kept.pid, 'SIGKILL')
    throw error
  }
  openGate(files)
  unlinkSync(files.gate)
  try {
    runHooks(kept, ['poststart'], 'running')
  } catch (error) {
    process.stderr.write(`${messageOf(error)}\n`) // runtime-spec: logged, and life goes on
  }
}

/** Leaves a created container to itself: whoever called the runtime becomes its process's parent. */
export function leave({ running }: Created): void {
  process.kill(running.monitorPid, 'SIGKILL')
}
