import type { LogDriver, Stream } from './driver.ts'
import { Lines, now, trimmed } from './lines.ts'
import type { Shipper } from './ship.ts'

/** A line as drivers that send it get it. */
export interface Line { stream: Stream, text: Buffer, partial: boolean, /** Nanoseconds since 1970. */ time: bigint }

/** A log whose lines go elsewhere, each as `encode` has it. */
export class RemoteLog implements LogDriver {
  readonly name: string
  readonly #shipper: Shipper
  readonly #encode: (line: Line) => Buffer
  readonly #lines = new Lines()
  readonly #later: boolean

  /** With `later`, that nobody answers yet does not keep a container from starting. */
  constructor(name: string, shipper: Shipper, encode: (line: Line) => Buffer, { later = false }: { later?: boolean } = {}) {
    this.name = name
    this.#shipper = shipper
    this.#encode = encode
    this.#later = later
  }

  async open(): Promise<void> {
    if (!this.#later) await this.#shipper.open()
  }

  write(stream: Stream, data: Buffer): boolean {
    const time = now()
    let room = true
    this.#lines.write(stream, data, (line) => (room = this.#send(stream, line, time)))
    return room
  }

  #send(stream: Stream, line: Buffer, time: bigint): boolean {
    return this.#shipper.send(this.#encode({ stream, ...trimmed(line), time }))
  }

  drained(then: () => void): void {
    this.#shipper.drained(then)
  }

  close(): void {
    this.#lines.end((stream, line) => this.#send(stream, line, now()))
    this.#shipper.close()
  }
}
