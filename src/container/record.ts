import type { Endpoint } from '../libnetwork/sandbox.ts'
import type { ContainerConfig, HostConfig } from './body.ts'
import type { MountPoint } from './mounts.ts'
import type { Membership } from './network.ts'

export type Status = 'created' | 'running' | 'paused' | 'restarting' | 'removing' | 'exited' | 'dead'

/** What is kept of a container in the graph, so that an engine that comes back knows it. */
export interface ContainerRecord {
  id: string
  name: string
  created: string
  /** The image's id, and its chain's top at creation. */
  image: string
  topLayer?: string
  config: ContainerConfig
  host: HostConfig
  /** The command as it runs: path and arguments. */
  path: string
  args: string[]
  driver: string
  state: ContainerState
  restartCount: number
  /** What is mounted in it beside what all have. */
  mounts: MountPoint[]
  /** The networks that it is in whenever it runs, and while it does its places in them. */
  networks: Membership[]
  endpoints: Endpoint[]
  /** Stopped by a person: `unless-stopped` leaves it so. */
  manuallyStopped: boolean
}

export interface ContainerState {
  status: Status
  pid: number
  exitCode: number
  error: string
  oomKilled: boolean
  startedAt: string
  finishedAt: string
  /** Of a container with a health check that has run. */
  health?: Health
}

export interface Health { status: 'starting' | 'healthy' | 'unhealthy', failingStreak: number, /** The last five. */ log: ProbeResult[] }

/** One run of a health check. */
export interface ProbeResult { start: string, end: string, exitCode: number, output: string }

export const NEVER = '0001-01-01T00:00:00Z'

/** True for a container that has a process: running, paused. */
export function isRunning(record: ContainerRecord): boolean {
  return record.state.status === 'running' || record.state.status === 'paused'
}
