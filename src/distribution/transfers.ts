/** Work that many may want at once, and that is done once: a blob that two clients pull. Who comes later joins. When the
 * last has hung up the work is cancelled. */
export class Transfers<T, P> {
  readonly #running = new Map<string, Transfer<T, P>>()

  /** Waits for the work named `key`, which is begun unless somebody has. `watch` is told of its progress, the latest first;
   * `take` is called with the result before the work gives up what it holds for it. */
  async join(key: string, watcher: Watcher<T, P>, signal: AbortSignal, begin: (report: (progress: P) => void, signal: AbortSignal, give: (result: T) => void) => Promise<T>): Promise<T> {
    signal.throwIfAborted()
    let transfer = this.#running.get(key)
    if (!transfer) {
      const started = new Transfer<T, P>(() => {
        if (this.#running.get(key) === started) this.#running.delete(key)
      })
      transfer = started
      this.#running.set(key, started)
      started.run(begin)
    }
    return await transfer.wait(watcher, signal)
  }
}

export interface Watcher<T, P> { watch?: (progress: P) => void, take?: (result: T) => void }

class Transfer<T, P> {
  readonly #watchers = new Set<Watcher<T, P>>()
  readonly #abort = new AbortController()
  #latest: { progress: P } | undefined
  readonly #ended: () => void
  #work: Promise<T> | undefined

  /** `ended` is called when nobody can join any more. */
  constructor(ended: () => void) {
    this.#ended = ended
  }

  run(begin: (report: (progress: P) => void, signal: AbortSignal, give: (result: T) => void) => Promise<T>): void {
    const report = (progress: P): void => {
      this.#latest = { progress }
      for (const { watch } of this.#watchers) watch?.(progress)
    }
    const give = (result: T): void => {
      this.#ended() // who comes now would be too late to take it
      for (const { take } of this.#watchers) take?.(result)
    }
    this.#work = begin(report, this.#abort.signal, give).finally(this.#ended)
    this.#work.catch(() => {}) // those who wait see it
  }

  async wait(watcher: Watcher<T, P>, signal: AbortSignal): Promise<T> {
    this.#watchers.add(watcher)
    if (this.#latest) watcher.watch?.(this.#latest.progress)
    const { promise: gone, reject } = Promise.withResolvers<never>()
    const hangUp = (): void => {
      this.#watchers.delete(watcher)
      if (this.#watchers.size === 0) {
        this.#ended()
        this.#abort.abort(signal.reason)
      }
      reject(signal.reason)
    }
    signal.addEventListener('abort', hangUp, { once: true })
    try {
      return await Promise.race([this.#work!, gone])
    } finally {
      signal.removeEventListener('abort', hangUp)
      this.#watchers.delete(watcher)
    }
  }
}
