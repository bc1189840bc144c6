import type { Stream } from './driver.ts'

/** Longer lines come in parts. */
export const LINE_LIMIT = 16 << 10

/** Cuts output into lines. */
export class Lines {
  readonly #partial = { stdout: Buffer.alloc(0), stderr: Buffer.alloc(0) }

  /** Hands on each line that has ended, with its newline, and parts of one that is too long without. */
  write(stream: Stream, data: Buffer, take: (line: Buffer) => void): void {
    let rest: Buffer = this.#partial[stream].length ? Buffer.concat([this.#partial[stream], data]) : data
    for (;;) {
      let end = rest.indexOf(10)
      if (end < 0 && rest.length < LINE_LIMIT) break
      end = end < 0 || end >= LINE_LIMIT ? LINE_LIMIT : end + 1
      take(rest.subarray(0, end))
      rest = rest.subarray(end)
    }
    this.#partial[stream] = Buffer.from(rest)
  }

  /** Hands on what has no newline. */
  end(take: (stream: Stream, line: Buffer) => void): void {
    for (const stream of ['stdout', 'stderr'] as const) {
      if (this.#partial[stream].length) take(stream, this.#partial[stream])
      this.#partial[stream] = Buffer.alloc(0)
    }
  }
}

/** A line without its newline, and whether more of it comes. */
export function trimmed(line: Buffer): { text: Buffer, partial: boolean } {
  return line.at(-1) === 10 ? { text: line.subarray(0, -1), partial: false } : { text: line, partial: true }
}

/** Now, in nanoseconds since 1970. */
export function now(): bigint {
  return BigInt(Date.now()) * 1_000_000n + BigInt(Math.floor((performance.now() % 1) * 1e6))
}

/** A time in nanoseconds since 1970 as RFC 3339 has it, with nine digits of a fraction. */
export function timeText(nanoseconds: bigint): string {
  const seconds = Number(nanoseconds / 1_000_000_000n)
  if (seconds !== last.seconds) last = { seconds, text: new Date(seconds * 1000).toISOString().slice(0, 19) }
  return `${last.text}.${String(nanoseconds % 1_000_000_000n).padStart(9, '0')}Z`
}

let last = { seconds: -1, text: '' }
