import type { IdMapping } from '../lib/idmap.ts'
import type { Seccomp } from './seccomp/profile.ts'

/** The OCI runtime specification 1.2, config.json, as far as Linux goes. libcontainer's only input: the engine writes one
 * for each container, and `berth runtime` reads one from a bundle. */
export interface Spec {
  ociVersion: string
  process?: ProcessSpec
  root?: { path: string, readonly?: boolean }
  hostname?: string
  domainname?: string
  mounts?: Mount[]
  hooks?: Partial<Record<HookName, Hook[]>>
  annotations?: Record<string, string>
  linux?: LinuxSpec
}

export type HookName = 'prestart' | 'createRuntime' | 'createContainer' | 'startContainer' | 'poststart' | 'poststop'
export interface Hook { path: string, args?: string[], env?: string[], timeout?: number }

export interface ProcessSpec {
  terminal?: boolean
  consoleSize?: { height: number, width: number }
  user: { uid: number, gid: number, umask?: number, additionalGids?: number[] }
  args?: string[]
  env?: string[]
  cwd: string
  capabilities?: Partial<Record<'bounding' | 'effective' | 'inheritable' | 'permitted' | 'ambient', string[]>>
  rlimits?: { type: string, soft: number, hard: number }[]
  noNewPrivileges?: boolean
  apparmorProfile?: string
  selinuxLabel?: string
  oomScoreAdj?: number
  ioPriority?: { class: string, priority: number }
  scheduler?: { policy: string, nice?: number, priority?: number, flags?: string[], runtime?: number, deadline?: number, period?: number }
}

export interface Mount {
  destination: string
  type?: string
  source?: string
  options?: string[]
  uidMappings?: IdMapping[]
  gidMappings?: IdMapping[]
}

export type NamespaceType = 'pid' | 'network' | 'mount' | 'ipc' | 'uts' | 'user' | 'cgroup' | 'time'
export interface Namespace { type: NamespaceType, path?: string }
export interface Device { type: 'c' | 'b' | 'u' | 'p', path: string, major?: number, minor?: number, fileMode?: number, uid?: number, gid?: number }

export interface LinuxSpec {
  namespaces?: Namespace[]
  uidMappings?: IdMapping[]
  gidMappings?: IdMapping[]
  devices?: Device[]
  cgroupsPath?: string
  resources?: Resources
  rootfsPropagation?: string
  seccomp?: Seccomp
  sysctl?: Record<string, string>
  maskedPaths?: string[]
  readonlyPaths?: string[]
  mountLabel?: string
}

export interface DeviceRule { allow: boolean, type?: string, major?: number, minor?: number, access?: string }
export interface Throttle { major: number, minor: number, rate: number }

/** `linux.resources`. Bytes, microseconds, and bytes or operations a second. */
export interface Resources {
  devices?: DeviceRule[]
  memory?: {
    limit?: number, reservation?: number, swap?: number, kernel?: number, kernelTCP?: number
    swappiness?: number, disableOOMKiller?: boolean
  }
  cpu?: {
    shares?: number, quota?: number, period?: number, burst?: number, realtimeRuntime?: number, realtimePeriod?: number
    cpus?: string, mems?: string, idle?: number
  }
  pids?: { limit: number }
  blockIO?: {
    weight?: number, leafWeight?: number
    weightDevice?: { major: number, minor: number, weight?: number }[]
    throttleReadBpsDevice?: Throttle[], throttleWriteBpsDevice?: Throttle[]
    throttleReadIOPSDevice?: Throttle[], throttleWriteIOPSDevice?: Throttle[]
  }
  hugepageLimits?: { pageSize: string, limit: number }[]
  unified?: Record<string, string>
}
