import { mkdirSync, readFileSync, readdirSync, rmdirSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { codeOf, invalid, messageOf, system } from '../../lib/errors.ts'
import { sendSignal } from '../../sys/signal.ts'
import { read, readKeyed, type CgroupStats, type Write } from './files.ts'
import { writeV1, statsV1 } from './v1.ts'
import { writeV2, statsV2 } from './v2.ts'
import type { Resources } from '../spec.ts'

/** Where the machine's cgroup trees are mounted. On version 1 and hybrid machines each controller has a tree; on
 * version 2 there is only `unified`. */
export interface CgroupTrees {
  version: 1 | 2
  /** Mount point by controller: `cpu`, `memory`, …, `systemd`; or `unified` alone. */
  trees: ReadonlyMap<string, string>
}

const wanted = new Set(['cpu', 'cpuacct', 'cpuset', 'memory', 'devices', 'freezer', 'blkio', 'pids', 'net_cls', 'net_prio', 'perf_event', 'hugetlb', 'rdma', 'misc'])

/** Reads the mount table (cgroups(7)). A hybrid machine counts as version 1. */
export function findCgroupTrees(mountinfo: string = readFileSync('/proc/self/mountinfo', 'utf8')): CgroupTrees {
  const trees = new Map<string, string>()
  let unified: string | undefined
  for (const line of mountinfo.split('\n')) {
    const [left, right] = line.split(' - ')
    const mountPoint = left?.split(' ')[4]
    const [type, , options = ''] = right?.split(' ') ?? []
    if (!mountPoint) continue
    if (type === 'cgroup2') unified = mountPoint
    if (type !== 'cgroup') continue
    for (const option of options.split(',')) {
      if (wanted.has(option)) trees.set(option, mountPoint)
      if (option === 'name=systemd') trees.set('systemd', mountPoint)
    }
  }
  if (trees.has('memory') || trees.has('pids') || !unified) return { version: 1, trees }
  return { version: 2, trees: new Map([['unified', unified]]) }
}

/** Makes a directory in each tree under which containers' cgroups can be made: on version 1 its cpuset gets the cpus and
 * memory nodes of the one above, which a new one lacks, and hands them on; on version 2 the controllers are enabled. */
export function prepareCgroupParent(trees: CgroupTrees, path: string): void {
  for (const mountPoint of new Set(trees.trees.values())) mkdirSync(join(mountPoint, path), { recursive: true })
  const cpuset = trees.trees.get('cpuset')
  const unified = trees.version === 2 ? trees.trees.get('unified') : undefined
  const levels = path.split('/').filter(Boolean).map((_, i, parts) => parts.slice(0, i + 1).join('/'))
  for (const level of cpuset ? levels : []) {
    const directory = join(cpuset!, level)
    for (const file of ['cpuset.cpus', 'cpuset.mems'])
      if (!read(join(directory, file)).trim()) writeFileSync(join(directory, file), read(join(dirname(directory), file)).trim())
    writeFileSync(join(directory, 'cgroup.clone_children'), '1')
  }
  for (const level of unified ? ['', ...levels] : []) {
    const directory = join(unified!, level)
    const controllers = read(join(directory, 'cgroup.controllers')).trim().split(' ').filter(Boolean)
    if (controllers.length) writeFileSync(join(directory, 'cgroup.subtree_control'), controllers.map((name) => `+${name}`).join(' '))
  }
}

/** A container's place in the trees: its directories, limits and figures. */
export class Cgroup {
  readonly version: 1 | 2
  /** Directory by controller, each tree once. */
  readonly directories: ReadonlyMap<string, string>
  readonly path: string

  /** `path` is absolute in each tree, as OCI's cgroupsPath is. */
  constructor(trees: CgroupTrees, path: string) {
    if (!path.startsWith('/') || path.split('/').includes('..')) throw invalid(`invalid cgroup path: ${JSON.stringify(path)}`)
    this.version = trees.version
    this.path = path
    this.directories = new Map([...trees.trees].map(([controller, mountPoint]) => [controller, join(mountPoint, path)]))
  }

  /** The directories without those that share a tree. */
  unique(): string[] {
    return [...new Set(this.directories.values())]
  }

  /** The control files to write for `resources`, in an order that the kernel takes for a fresh cgroup. */
  writes(resources: Resources): Write[] {
    return this.version === 1 ? writeV1(this.directories, resources) : writeV2(this.directories.get('unified')!, resources)
  }

  /** Changes limits of a cgroup that is in use. Memory is tried with swap first where the other order is refused. */
  update(resources: Resources): void {
    const writes = this.writes(resources)
    const failed = writes.filter((write) => !tryWrite(write))
    for (const write of failed) apply(write)
  }

  stats(): CgroupStats {
    return this.version === 1 ? statsV1(this.directories) : statsV2(this.directories.get('unified')!)
  }

  /** How often the kernel killed a process here for lack of memory. */
  oomKills(): number {
    const [file, name] = this.version === 1
      ? [join(this.directories.get('memory') ?? '', 'memory.oom_control'), 'oom_kill']
      : [join(this.directories.get('unified')!, 'memory.events'), 'oom_kill']
    return readKeyed(file)[name] ?? 0
  }

  /** Stops or continues every process (freezer). Resolves once the kernel says that it is so. */
  async freeze(frozen: boolean): Promise<void> {
    const [directory, file, value, wait] = this.version === 1
      ? [this.directories.get('freezer'), 'freezer.state', frozen ? 'FROZEN' : 'THAWED', frozen ? 'FROZEN' : 'THAWED'] as const
      : [this.directories.get('unified'), 'cgroup.freeze', frozen ? '1' : '0', frozen ? 'frozen 1' : 'frozen 0'] as const
    if (!directory) throw system('the freezer cgroup is not mounted on this machine')
    for (let tries = 0; tries < 1000; tries++) {
      writeFileSync(join(directory, file), value)
      const state = readFileSync(join(directory, this.version === 1 ? file : 'cgroup.events'), 'utf8')
      if (state.includes(wait)) return
      await new Promise((resolve) => setTimeout(resolve, tries < 10 ? 1 : 10))
    }
    throw system(`the processes of ${this.path} do not ${frozen ? 'freeze' : 'thaw'}`)
  }

  /** True where the processes are frozen, or the cgroup is not there any more. */
  frozen(): boolean {
    const file = this.version === 1 ? join(this.directories.get('freezer') ?? '', 'freezer.state') : join(this.directories.get('unified')!, 'cgroup.freeze')
    return ['FROZEN', '1'].includes(read(file).trim())
  }

  /** The processes in this cgroup and in those below it. */
  processes(): number[] {
    const directory = this.directories.get('devices') ?? this.directories.get('pids') ?? this.directories.get('unified') ?? this.unique()[0]
    return directory ? [...new Set(processesBelow(directory))] : []
  }

  /** Sends a signal to all of them. */
  kill(signal: NodeJS.Signals | number): void {
    for (const pid of this.processes()) sendSignal(pid, signal)
  }

  /** As `remove`, killing what is in it, for up to half a second while it goes. */
  async removeSoon(): Promise<boolean> {
    for (let tries = 0; tries < 50; tries++) {
      if (this.remove()) return true
      this.kill('SIGKILL')
      await new Promise((resolve) => setTimeout(resolve, 10))
    }
    return this.remove()
  }

  /** Removes the directories and those below them; processes still in them keep them: EBUSY comes back as false. */
  remove(): boolean {
    return this.unique().map(removeTree).every(Boolean)
  }
}

function processesBelow(directory: string): number[] {
  const own = read(join(directory, 'cgroup.procs')).split('\n').filter(Boolean).map(Number)
  return [...own, ...childrenOf(directory).flatMap(processesBelow)]
}

function childrenOf(directory: string): string[] {
  try {
    return readdirSync(directory, { withFileTypes: true }).filter((entry) => entry.isDirectory()).map((entry) => join(directory, entry.name))
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return []
    throw error
  }
}

function removeTree(directory: string): boolean {
  try {
    rmdirSync(directory)
    return true
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return true
    if (codeOf(error) !== 'EBUSY') throw error
  }
  const children = childrenOf(directory)
  if (children.length === 0 || !children.map(removeTree).every(Boolean)) return false
  try {
    rmdirSync(directory)
    return true
  } catch (error) {
    if (codeOf(error) === 'EBUSY') return false
    throw error
  }
}

function apply(write: Write): void {
  try {
    writeFileSync(write.path, write.value, { flag: 'r+' }) // the usual flags would create it, and fail otherwise
  } catch (error) {
    if (write.optional && codeOf(error) === 'ENOENT') return
    throw system(`write ${write.value} to ${write.path}: ${messageOf(error)}`, error)
  }
}

function tryWrite(write: Write): boolean {
  try {
    apply(write)
    return true
  } catch {
    return false // tried again, and thrown, once the others are written
  }
}
