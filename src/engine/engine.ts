import { BerthError, messageOf } from '../lib/errors.ts'

/** A piece of work with a name: all that the daemon does is one. */
export interface Job<Input, Output> {
  readonly name: string
  /** What it is done to, for the table: an id, a name. */
  subject?(input: Input): string
  run(input: Input, context: JobContext): Promise<Output>
}

/** What a running job is given. */
export interface JobContext {
  /** The job's number in the table. */
  readonly id: number
  /** Aborts when the client hangs up, somebody cancels the job, or the daemon stops. */
  readonly signal: AbortSignal
  /** Says how far it is. */
  progress(text: string): void
}

export type JobStatus = 'running' | 'done' | 'failed' | 'cancelled'

/** A row of the table of jobs. */
export interface JobRecord {
  id: number
  name: string
  subject: string
  status: JobStatus
  started: Date
  /** Milliseconds that it has run. */
  duration: number
  progress: string
  error?: string
}

interface Running { record: JobRecord, abort: AbortController, begun: number, done: Promise<void> }

const REMEMBERED = 100

/** The table of jobs: runs them, lists them, cancels them, and ends them before the daemon does. */
export class Engine {
  readonly #running = new Map<number, Running>()
  readonly #recent: JobRecord[] = []
  readonly #cleanups: (() => Promise<void> | void)[] = []
  readonly #watchers: ((ended: JobRecord) => void)[] = []
  #ids = 0
  #stopping = false

  /** Runs a job to its end. A `signal` that aborts cancels it. */
  async run<Input, Output>(job: Job<Input, Output>, input: Input, options: { signal?: AbortSignal } = {}): Promise<Output> {
    if (this.#stopping) throw new BerthError('unavailable', 'the engine is shutting down')
    const id = ++this.#ids
    const abort = new AbortController()
    const signal = options.signal ? AbortSignal.any([abort.signal, options.signal]) : abort.signal
    const record: JobRecord = { id, name: job.name, subject: job.subject?.(input) ?? '', status: 'running', started: new Date(), duration: 0, progress: '' }
    const { promise: done, resolve } = Promise.withResolvers<void>()
    const begun = performance.now()
    this.#running.set(id, { record, abort, begun, done })
    try {
      const output = await job.run(input, { id, signal, progress: (text) => void (record.progress = text) })
      record.status = 'done'
      return output
    } catch (error) {
      record.status = signal.aborted ? 'cancelled' : 'failed'
      record.error = messageOf(error)
      throw error
    } finally {
      record.duration = performance.now() - begun
      this.#running.delete(id)
      for (const watch of this.#watchers) watch(record)
      this.#recent.push(record)
      if (this.#recent.length > REMEMBERED) this.#recent.shift()
      resolve()
    }
  }

  /** Tells of every job that has ended, from now on. */
  onEnd(watch: (ended: JobRecord) => void): void {
    this.#watchers.push(watch)
  }

  /** The jobs that run, and with `all` those that ended last. */
  jobs(all = false): JobRecord[] {
    const running = [...this.#running.values()].map(({ record, begun }) => ({ ...record, duration: performance.now() - begun }))
    return all ? [...this.#recent, ...running] : running
  }

  /** Cancels a running job and waits for its end. */
  async cancel(id: number): Promise<void> {
    const running = this.#running.get(id)
    if (!running) throw new BerthError('not-found', `No such job: ${id}`)
    running.abort.abort(new BerthError('cancelled', `job ${id} was cancelled`))
    await running.done
  }

  /** Has `work` run when the engine shuts down, last added first. */
  onShutdown(work: () => Promise<void> | void): void {
    this.#cleanups.push(work)
  }

  /** Refuses new jobs, cancels those that run, waits for them for `grace` milliseconds, and cleans up. */
  async shutdown(grace = 10_000): Promise<void> {
    if (this.#stopping) return
    this.#stopping = true
    const running = [...this.#running.values()]
    for (const { abort } of running) abort.abort(new BerthError('cancelled', 'the engine is shutting down'))
    const timeout = AbortSignal.timeout(grace)
    await Promise.race([Promise.all(running.map(({ done }) => done)), new Promise((resolve) => timeout.addEventListener('abort', resolve))])
    for (const work of this.#cleanups.toReversed()) await work()
  }
}
