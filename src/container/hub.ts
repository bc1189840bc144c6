import type { Duplex, Readable } from 'node:stream'
import { STREAM, encodeFrame } from '../api/frames.ts'
import { drained } from '../lib/streams.ts'

/** Somebody who gets a container's output. */
export interface Sink {
  /** Takes a piece; false asks to wait for `drained`. */
  write(stream: 'stdout' | 'stderr', data: Buffer): boolean
  /** Calls back once there is room again, or never will be. */
  drained(then: () => void): void
  /** No more will come. */
  end(): void
}

const STALLED = 60_000
/** Bytes of a piece behind which there is likely more. */
const FULL = 32 << 10

/** One container's output, from its source to all who listen: every sink gets every byte in order. Memory is bounded: as
 * long as a sink is full nothing more is read, so that the process waits rather than the engine's heap growing; a sink
 * that takes nothing for a minute is cut off. */
export class OutputHub {
  readonly #sinks = new Set<Sink>()
  #sources: Readable[] = []
  #full = new Set<Sink>()

  /** Adds a listener; the returned function removes it. */
  add(sink: Sink): () => void {
    this.#sinks.add(sink)
    return () => this.#remove(sink)
  }

  #remove(sink: Sink): void {
    this.#sinks.delete(sink)
    this.#settled(sink)
  }

  /** Hands on what a source says. Resolves at its end. */
  read(source: Readable, stream: 'stdout' | 'stderr'): Promise<void> {
    if (source.closed) return Promise.resolve() // it ended, having said nothing, before anybody listened
    this.#sources.push(source)
    return new Promise((resolve) => {
      source.on('data', (data: Buffer) => {
        this.#pass(stream, data)
        if (data.length < FULL) return
        // a process that never stops talking has its turn, and then the others
        source.pause()
        setImmediate(() => {
          if (this.#full.size === 0) source.resume()
        })
      })
      source.on('error', () => source.destroy()) // a terminal's master reports its end as EIO
      source.once('close', () => {
        this.#sources = this.#sources.filter((other) => other !== source)
        resolve()
      })
      if (this.#full.size) source.pause()
    })
  }

  #pass(stream: 'stdout' | 'stderr', data: Buffer): void {
    for (const sink of this.#sinks) {
      if (sink.write(stream, data) || this.#full.has(sink)) continue
      this.#full.add(sink)
      for (const source of this.#sources) source.pause()
      const timer = setTimeout(() => {
        this.#remove(sink)
        sink.end()
      }, STALLED)
      sink.drained(() => {
        clearTimeout(timer)
        this.#settled(sink)
      })
    }
  }

  #settled(sink: Sink): void {
    if (this.#full.delete(sink) && this.#full.size === 0) for (const source of this.#sources) source.resume()
  }

  /** Ends every sink. */
  end(): void {
    for (const sink of [...this.#sinks]) {
      this.#remove(sink)
      sink.end()
    }
  }
}

/** A sink that writes to a connection, with frame headers unless it is `raw`. */
export function connectionSink(connection: Duplex, options: { raw: boolean, stdout: boolean, stderr: boolean }): Sink {
  return {
    write(stream, data) {
      if (!options[stream] || connection.destroyed || connection.writableEnded) return true
      return connection.write(options.raw ? data : encodeFrame(STREAM[stream], data))
    },
    drained: (then) => void drained(connection).then(then),
    end() {
      if (!connection.destroyed) connection.end()
    },
  }
}
