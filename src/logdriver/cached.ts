import type { LogDriver, LogEntry, LogQuery, Stream } from './driver.ts'

/** A log that can't be read, beside one that can: what is written goes to both. */
export class CachedLog implements LogDriver {
  readonly #log: LogDriver
  readonly #cache: LogDriver

  constructor(log: LogDriver, cache: LogDriver) {
    this.#log = log
    this.#cache = cache
  }

  get name(): string {
    return this.#log.name
  }

  async open(): Promise<void> {
    await this.#cache.open?.()
    await this.#log.open?.()
  }

  write(stream: Stream, data: Buffer): boolean {
    this.#cache.write(stream, data)
    return this.#log.write(stream, data)
  }

  drained(then: () => void): void {
    this.#log.drained(then)
  }

  close(): void {
    this.#cache.close()
    this.#log.close()
  }

  read(query: LogQuery): AsyncIterable<LogEntry[]> {
    return this.#cache.read!(query)
  }
}
