import type { LiveProcess } from '../execdriver/driver.ts'
import type { LogDriver } from '../logdriver/driver.ts'
import type { Cgroup } from '../libcontainer/cgroups/cgroup.ts'
import type { NameServer } from '../libnetwork/dns/server.ts'
import { OutputHub } from './hub.ts'
import { Stdin } from './stdin.ts'
import { isRunning, type ContainerRecord } from './record.ts'

export type WaitCondition = 'not-running' | 'next-exit' | 'removed'

/** A container as the engine holds it: what is kept, and what is alive. */
export class Container {
  readonly record: ContainerRecord
  readonly output = new OutputHub()
  readonly stdin = new Stdin()
  process: LiveProcess | undefined
  /** When its process began, by the clock that never jumps (performance.now()). */
  began = 0
  cgroup: Cgroup | undefined
  log: LogDriver | undefined
  /** Answers its questions for names, on networks that have them. */
  nameServer: NameServer | undefined
  /** Ids of the execs that run. */
  readonly execs = new Set<string>()
  readonly #waiters = new Map<WaitCondition, Set<(result: WaitResult) => void>>()
  /** Cancels a restart that is waiting for its time. */
  cancelRestart: (() => void) | undefined
  /** Ends the watch over its health, where there is one. */
  stopHealth: (() => void) | undefined
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

  /** Ends the log of a run; it is opened again for the next. */
  closeLog(): void {
    this.log?.close()
    this.log = undefined
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
