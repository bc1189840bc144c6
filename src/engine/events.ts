/** Something that happened to a container, an image, a volume, a network or the daemon (API: SystemEventsResponse). */
export interface Event {
  type: 'container' | 'image' | 'volume' | 'network' | 'daemon'
  action: string
  id: string
  attributes: Record<string, string>
  /** Nanoseconds since 1970. */
  time: bigint
}

const KEPT = 256

/** The events of the engine: the last 256 are kept for those who ask later. */
export class Events {
  readonly #kept: Event[] = []
  readonly #listeners = new Set<(event: Event) => void>()
  #last = 0n

  emit(type: Event['type'], action: string, id: string, attributes: Record<string, string> = {}): void {
    let time = BigInt(Date.now()) * 1_000_000n + BigInt(Math.floor((performance.now() % 1) * 1e6))
    if (time <= this.#last) time = this.#last + 1n // in order, also when the clock jumps back
    this.#last = time
    const event = { type, action, id, attributes, time }
    this.#kept.push(event)
    if (this.#kept.length > KEPT) this.#kept.shift()
    for (const listener of this.#listeners) listener(event)
  }

  get listeners(): number {
    return this.#listeners.size
  }

  kept(): readonly Event[] {
    return this.#kept
  }

  /** Calls `listener` for every event from now on, until the returned function is called. */
  listen(listener: (event: Event) => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }
}
