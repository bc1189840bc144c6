import { openSync, closeSync, constants, statSync, unlinkSync, writeFileSync, writeSync } from 'node:fs'
import { dirname, posix } from 'node:path'
import { invalid, messageOf, system } from '../lib/errors.ts'
import { readIfThere } from '../lib/files.ts'
import { Cgroup, findCgroupTrees, prepareCgroupParent, type CgroupTrees } from '../libcontainer/cgroups/cgroup.ts'
import { usualDeviceRules } from '../libcontainer/cgroups/devices.ts'
import { GATE, TERMINAL_FD, assembleStart, type Stdio } from '../libcontainer/container.ts'
import type { IdMapping, Mount, Spec } from '../libcontainer/spec.ts'
import { makeFifo, takeDescriptor } from '../sys/fs.ts'
import { sendSignal } from '../sys/signal.ts'
import { sendDescriptor } from '../sys/terminal.ts'
import { readBundle } from './bundle.ts'
import { runHooks, runHooksInside } from './hooks.ts'
import { INHERITED, execute, withUserNamespace, type Launcher, type Running } from './launch.ts'
import { claim, forget, keep, load, ownerOf, startTimeOf, statusOf, type Files, type Kept } from './state.ts'

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
export async function createContainer(launcher: Launcher, options: CreateOptions): Promise<Created> {
  const { directory: bundle, spec, rootfs } = readBundle(options.bundle)
  if (!spec.process) throw invalid('process property must not be empty')
  const terminal = spec.process.terminal === true
  spec.linux = withDeviceRules(spec.linux ?? {})
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
    running = await withIdMaps(launcher, files, spec, (idMapping) => {
      const program = assembleStart({
        id: options.id, spec, root: { type: 'bind', source: rootfs, target: rootfs }, trees, cgroup, stdio, files: { events: files.events, exit: files.exit, pid: files.pid }, idMapping,
        gate: { path: files.gate, hooks: hasEarlyHooks(spec) }, sourceKind: (source) => (statSync(source).isDirectory() ? 'directory' : 'file'),
      })
      const { promise: failed, reject } = Promise.withResolvers<never>()
      failed.catch(() => {}) // raced below
      const done = execute(launcher, program, files.events, (gate) => {
        if (gate === GATE.hooks) void earlyHooks(launcher, files, kept).then(() => openGate(files), reject)
      })
      return Promise.race([done, failed])
    })
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
function withDeviceRules(linux: NonNullable<Spec['linux']>): NonNullable<Spec['linux']> {
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

async function earlyHooks(launcher: Launcher, files: Files, kept: Kept): Promise<void> {
  Object.assign(kept, await pidOf(files))
  runHooks(kept, ['prestart', 'createRuntime'], 'creating')
  await runHooksInside(launcher, files, kept, 'createContainer', 'creating')
}

/** The process, from the file that its monitor writes soon after it has begun. */
async function pidOf(files: Files): Promise<Pick<Kept, 'pid' | 'startTime'>> {
  for (let tries = 0; tries < 1000; tries++) {
    const [, pid] = /^\d+ (\d+)\n/.exec(readIfThere(files.pid) ?? '') ?? []
    const startTime = pid && startTimeOf(Number(pid))
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

const lines = (mappings: readonly IdMapping[]): string => mappings.map(({ containerID, hostID, size }) => `${containerID} ${hostID} ${size}\n`).join('')

/** Runs `work` while there is a user namespace for every map that a mount asks for. */
async function withIdMaps<T>(launcher: Launcher, files: Files, spec: Spec, work: (idMapping: (mount: Mount) => string | undefined) => Promise<T>): Promise<T> {
  const mapsOf = (mount: Mount): { uid: string, gid: string } | undefined => {
    const asked = mount.options?.some((option) => option === 'idmap' || option === 'ridmap')
    const [uids, gids] = mount.uidMappings?.length ? [mount.uidMappings, mount.gidMappings ?? []] : asked ? [spec.linux?.uidMappings ?? [], spec.linux?.gidMappings ?? []] : [[], []]
    return uids.length ? { uid: lines(uids), gid: lines(gids) } : undefined
  }
  const wanted = new Map((spec.mounts ?? []).map(mapsOf).filter((maps) => maps !== undefined).map((maps) => [maps.uid + maps.gid, maps]))
  const paths = new Map<string, string>()
  const next = async (rest: [string, { uid: string, gid: string }][]): Promise<T> => {
    const [first, ...others] = rest
    if (!first) return await work((mount) => {
      const maps = mapsOf(mount)
      return maps && paths.get(maps.uid + maps.gid)
    })
    return await withUserNamespace(launcher, files.directory, `ids-${others.length}`, first[1], (path) => {
      paths.set(first[0], path)
      return next(others)
    })
  }
  return await next([...wanted])
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
export async function startContainer(launcher: Launcher, root: string, id: string): Promise<void> {
  const { files, kept } = load(root, id)
  const status = statusOf({ files, kept })
  if (status === 'stopped') throw invalid('cannot start a container that has stopped')
  if (status !== 'created') throw invalid('cannot start an already running container')
  try {
    await runHooksInside(launcher, files, kept, 'startContainer', 'created')
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
