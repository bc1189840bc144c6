/** Mutual exclusion by key, first come first served. Keys that nobody holds cost nothing. */
export class KeyedLock {
  readonly #tails = new Map<string, Promise<void>>()

  /** Waits for the key and returns its holder; `await using` gives it back. */
  async hold(key: string): Promise<AsyncDisposable & Disposable> {
    const before = this.#tails.get(key)
    const { promise, resolve } = Promise.withResolvers<void>()
    this.#tails.set(key, promise)
    await before
    const release = (): void => {
      resolve()
      if (this.#tails.get(key) === promise) this.#tails.delete(key)
    }
    return {
      [Symbol.dispose]: release,
      async [Symbol.asyncDispose]() {
        release()
      },
    }
  }

  /** Runs `work` while holding the key. */
  async with<T>(key: string, work: () => Promise<T>): Promise<T> {
    using _held = await this.hold(key)
    return await work()
  }
}
