import { existsSync, readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import type { Socket } from 'node:net'
import { readIfThere } from '../lib/files.ts'
import type { LogDriver } from '../logdriver/driver.ts'
import type { Cgroup } from '../libcontainer/cgroups/cgroup.ts'
import { OutputHub } from './hub.ts'
import { Stdin } from './stdin.ts'
import { isRunning, type ContainerRecord } from './record.ts'

export type WaitCondition = 'not-running' | 'next-exit' | 'removed'

/** A process of a container while its monitor lives: its init, or one that exec began. */
export interface LiveProcess {
  pid: number
  monitorPid: number
  /** The master side of its terminal. */
  terminal?: number
  events: Socket
}

/** A container as the engine holds it: what is kept, and what is alive. */
export class Container {
  record: ContainerRecord
  readonly output = new OutputHub()
  readonly stdin = new Stdin()
  process: LiveProcess | undefined
  cgroup: Cgroup | undefined
  log: LogDriver | undefined
  /** Ids of the execs that run. */
  readonly execs = new Set<string>()
  readonly #waiters = new Map<WaitCondition, Set<(result: WaitResult) => void>>()
  /** Cancels a restart that is waiting for its time. */
  cancelRestart: (() => void) | undefined
  removed = false
  /** Set while a person's stop or kill is under way: the restart policy must not undo it. */
  stopping = false

  constructor(record: ContainerRecord) {
    this.record = record
  }

  get id(): string {
    return this.record.id
  }

  get running(): boolean {
    return isRunning(this.record)
  }

  /** Resolves with the exit status when the condition holds: at once for `not-running` if it holds already. */
  wait(condition: WaitCondition, signal: AbortSignal): Promise<WaitResult> {
    if (condition === 'not-running' && !this.running && this.record.state.status !== 'restarting') return Promise.resolve(this.result())
    if (condition === 'removed' && this.removed) return Promise.resolve(this.result())
    const { promise, resolve, reject } = Promise.withResolvers<WaitResult>()
    const waiters = this.#waiters.get(condition) ?? new Set()
    this.#waiters.set(condition, waiters)
    waiters.add(resolve)
    signal.addEventListener('abort', () => {
      waiters.delete(resolve)
      reject(signal.reason)
    })
    return promise
  }

  result(): WaitResult {
    return { status: this.record.state.exitCode }
  }

  /** Tells those who wait for a condition. */
  notify(condition: WaitCondition): void {
    const waiters = this.#waiters.get(condition)
    this.#waiters.delete(condition)
    for (const resolve of waiters ?? []) resolve(this.result())
  }

  /** Attributes of its events. */
  attributes(): Record<string, string> {
    return { image: this.record.config.Image, name: this.record.name, ...this.record.config.Labels }
  }
}

export interface WaitResult { status: number }

/** The files of a container's run, below the exec root; gone with a reboot, as its processes are. */
export interface RunFiles { directory: string, events: string, exit: string, pid: string, stdin: string, stdout: string, stderr: string }

/** Where a process's files are; `exec` names one that exec began. */
export function runFiles(execRoot: string, id: string, exec?: string): RunFiles {
  const directory = exec ? join(execRoot, 'containers', id, 'exec', exec) : join(execRoot, 'containers', id)
  const at = (name: string): string => join(directory, name)
  return { directory, events: at('events'), exit: at('exit'), pid: at('pid'), stdin: at('stdin'), stdout: at('stdout'), stderr: at('stderr') }
}

/** The monitor and the process that a run's pid file names; zeros where there is none. */
export function readPids(directory: string): { monitorPid: number, pid: number } {
  const [monitorPid = 0, pid = 0] = (readIfThere(join(directory, 'pid')) ?? '').trim().split(' ').map(Number)
  return { monitorPid, pid }
}

/** True where a process is a living monitor, and neither a zombie nor another that has got its number. */
export function isMonitor(pid: number): boolean {
  return pid > 0 && / \(berth-monitor\) [^ZX]/.test(readIfThere(`/proc/${pid}/stat`) ?? '')
}

/** Ends a run that is over: its monitor may go, its output has been read, and so may those of its execs. */
export function endRun(files: RunFiles): void {
  const execs = join(files.directory, 'exec')
  const directories = [files.directory, ...(existsSync(execs) ? readdirSync(execs).map((name) => join(execs, name)) : [])]
  for (const directory of directories) {
    const { monitorPid } = readPids(directory)
    if (!isMonitor(monitorPid)) continue
    try {
      process.kill(monitorPid, 'SIGUSR2')
    } catch {
      // it has gone meanwhile
    }
  }
  rmSync(files.directory, { recursive: true, force: true })
}
