/** Lets at most `size` at once do something; the rest wait in order. */
export class Limit {
  readonly #size: number
  readonly #waiting: (() => void)[] = []
  #count = 0

  constructor(size: number) {
    this.#size = size
  }

  /** True where the next would have to wait. */
  get full(): boolean {
    return this.#count >= this.#size
  }

  /** Runs `work` when there is room. Who is aborted while it waits does not run. */
  async with<T>(signal: AbortSignal, work: () => Promise<T>): Promise<T> {
    signal.throwIfAborted()
    if (this.#count >= this.#size) await this.#wait(signal)
    else this.#count++
    try {
      return await work()
    } finally {
      const next = this.#waiting.shift()
      if (next) next() // which takes this one's place
      else this.#count--
    }
  }

  async #wait(signal: AbortSignal): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    const abort = (): void => {
      this.#waiting.splice(this.#waiting.indexOf(resolve), 1)
      reject(signal.reason)
    }
    this.#waiting.push(resolve)
    signal.addEventListener('abort', abort, { once: true })
    try {
      await promise
    } finally {
      signal.removeEventListener('abort', abort)
    }
  }
}
