import { join } from 'node:path'
import type { Archiver } from '../archive/archive.ts'
import type { Engine } from '../engine/engine.ts'
import type { Events } from '../engine/events.ts'
import type { ExecDriver } from '../execdriver/driver.ts'
import type { ImageStore } from '../image/store.ts'
import type { LayerStore } from '../layer/store.ts'
import type { IdMaps } from '../lib/idmap.ts'
import type { KeyedLock } from '../lib/lock.ts'
import type { Trash } from '../lib/trash.ts'
import type { CgroupTrees } from '../libcontainer/cgroups/cgroup.ts'
import type { Networks } from '../libnetwork/controller.ts'
import type { Volumes } from '../volume/volumes.ts'
import type { LogDriver, LogInfo } from '../logdriver/driver.ts'
import type { Zygote } from '../sys/zygote.ts'
import type { HostConfig } from './body.ts'
import type { Container } from './container.ts'
import type { ExecStore } from './exec.ts'
import type { ContainerStore } from './store.ts'
import type { UserFiles } from './user.ts'

/** What the host offers, found out once. */
export interface HostFacts {
  kernel: string
  cgroupVersion: 1 | 2
  apparmor: boolean
  /** The profile of containers that ask for no other, where the kernel has it. */
  apparmorProfile?: string | undefined
  selinux: boolean
  cpus: number
}

/** Health checks that were made since the engine began. */
export interface HealthCounts { all: number, failed: number }

/** The maps of containers' user namespaces, and the path of one that has them. */
export interface Remap extends IdMaps { path: string }

/** What the work on containers uses. */
export interface ContainerDeps {
  containers: ContainerStore
  execs: ExecStore
  images: ImageStore
  layers: LayerStore
  trash: Trash
  archiver: Archiver
  engine: Engine
  events: Events
  execDriver: ExecDriver
  /** One holder a container: every transition of its state happens under its lock. */
  lock: KeyedLock
  trees: CgroupTrees
  facts: HostFacts
  /** Undefined where containers' users are the host's. */
  remap: Remap | undefined
  zygote: Zygote
  dataRoot: string
  execRoot: string
  volumes: Volumes
  cgroupParent: string
  /** The user files of images that were read lately, by top layer. */
  imageUsers: Map<string, UserFiles>
  initPath: string
  networks: Networks
  /** The daemon's hostname, and its defaults for published ports and for names. */
  hostname: string
  publish: { /** '' for all of the host's. */ address: string, ipv6: boolean, hostGateway: string }
  dns: { servers: readonly string[], search: readonly string[], options: readonly string[] }
  openLog: (name: string, info: LogInfo, options: Record<string, string>) => LogDriver
  /** The log of containers that ask for no driver. */
  defaultLog: { driver: string, options: Record<string, string> }
  warn: (message: string, error?: unknown) => void
  /** Called at named places of the work, so that a test can kill the engine there. */
  failpoint: (name: string) => void
  healthCounts: HealthCounts
  /** Called with a container that has become unhealthy. */
  unhealthy: (container: Container) => void
  /** The engine is going down: what exits now is not restarted. */
  isStopping: () => boolean
}

/** The user namespace of a container, if it has one. */
export function remapOf(deps: Pick<ContainerDeps, 'remap'>, host: Pick<HostConfig, 'UsernsMode'>): Remap | undefined {
  return host.UsernsMode === 'host' ? undefined : deps.remap
}

/** A container's own directory, for its log and its files in /etc. */
export function containerDirectory(deps: Pick<ContainerDeps, 'dataRoot'>, id: string): string {
  return join(deps.dataRoot, 'containers', id)
}
