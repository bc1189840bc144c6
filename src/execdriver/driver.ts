import type { Readable, Writable } from 'node:stream'
import { BerthError } from '../lib/errors.ts'
import type { Cgroup } from '../libcontainer/cgroups/cgroup.ts'
import type { NetworkPlan } from '../libcontainer/network.ts'
import type { RootIdMap, RootMount } from '../libcontainer/rootfs.ts'
import type { NamespaceType, ProcessSpec, Spec } from '../libcontainer/spec.ts'
import type { Seccomp } from '../libcontainer/seccomp/profile.ts'

/** What a process's streams are: a terminal of that many rows and columns, or pipes, of which stdin may be missing. */
export interface Streams { terminal?: { rows: number, columns: number } | undefined, stdin: boolean }

/** A container's first process: an OCI spec over a root that the driver mounts. */
export interface StartRequest {
  id: string
  spec: Spec
  root: RootMount
  cgroup: Cgroup
  streams: Streams
  /** What is made in the root where it is missing: empty files, and links to a target. */
  make: readonly { path: string, target?: string }[]
  /** What its network namespace gets, where it has one of its own. */
  network?: NetworkPlan | undefined
  /** The maps that the root's files get. */
  rootIdMap?: RootIdMap
  /** The host's id of the process's user, to whom its pipes belong. 0 if not given. */
  owner?: number
}

/** A further process in a running container. */
export interface ExecRequest {
  container: string
  /** Names this process among the container's. */
  id: string
  /** The container's first process, and the namespaces that it does not share with the host. */
  pid: number
  namespaces: readonly NamespaceType[]
  process: ProcessSpec
  seccomp?: Seccomp | undefined
  cgroup: Cgroup
  streams: Streams
  owner?: number
}

/** A process that has begun. It outlives the engine; its output waits in its pipes until somebody reads. */
export interface LiveProcess {
  readonly pid: number
  /** The process that keeps it, and its descriptors, while no engine is there. */
  readonly monitorPid: number
  /** Its input; undefined where it has none, or has closed it. */
  readonly stdin: Writable | undefined
  /** Makes it see the end of its input. To be called once `stdin` has closed; a terminal has no such end. */
  endInput(): void
  /** Its output, nothing of which has been read yet. A terminal has one stream. */
  readonly outputs: readonly { stream: 'stdout' | 'stderr', from: Readable }[]
  /** Sets the size of its terminal; does nothing where it has none. */
  resize(rows: number, columns: number): void
  /** The exit status, as a shell tells it; undefined where nobody saw the end. Never rejects. */
  readonly ended: Promise<number | undefined>
  /** What is kept for it may go: its output has been read, its end recorded. May be called twice. */
  release(): void
}

/** What is left of a container's last run: a process that lives, one that ended while no engine ran, or nothing. */
export interface Recovered { process?: LiveProcess, exit?: { status: number, at: Date }, /** When the process began. */ startedAt?: Date }

/** Runs containers' processes. `start` once a container's run, then `exec` any number of times; after a restart of the
 * engine `recover` first. */
export interface ExecDriver {
  readonly name: string
  /** Makes the container and executes its process. Rejects with `ProcessFailure`, having undone everything. */
  start(request: StartRequest): Promise<LiveProcess>
  /** Executes a further process. Rejects with `ProcessFailure`. */
  exec(request: ExecRequest): Promise<LiveProcess>
  /** Takes up a container's run, for an engine that has come back. A run without a living process is to be released. */
  recover(container: string): Recovered
  /** Forgets a container's last run, and ends what lives of it. Does nothing where there is none. */
  release(container: string): void
  /** The containers that there are runs of, also those that the engine does not know. */
  runs(): string[]
}

/** A process that could not be made or executed: the system call that failed, on what, and why. */
export class ProcessFailure extends BerthError {
  /** `exec /bin/foo: no such file or directory`. */
  readonly what: string
  /** `ENOENT`. */
  readonly errno: string
  /** True where the program itself could not be executed, rather than its surroundings made. */
  readonly atExec: boolean
  /** True where no file of that name was found along PATH. */
  readonly notFound: boolean

  constructor(what: string, errno: string, found: { atExec: boolean, notFound: boolean }) {
    super('system', what)
    this.what = what
    this.errno = errno
    this.atExec = found.atExec
    this.notFound = found.notFound
  }
}
