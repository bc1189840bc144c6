import type { Writable } from 'node:stream'

/** Resolves once a stream has room again, or never will, since it has closed. */
export function drained(stream: Writable): Promise<void> {
  if (stream.destroyed) return Promise.resolve()
  return new Promise((resolve) => {
    const done = (): void => {
      stream.off('drain', done)
      stream.off('close', done)
      resolve()
    }
    stream.on('drain', done)
    stream.on('close', done)
  })
}

/** Writes, and resolves once there is room for more. */
export async function writeAll(to: Writable, data: string | Uint8Array): Promise<void> {
  if (!to.write(data)) await drained(to)
}

/** A stream's bytes without the first `count`. */
export async function* withoutFirst(stream: AsyncIterable<Buffer>, count: number): AsyncGenerator<Buffer> {
  let left = count
  for await (const chunk of stream) {
    const skipped = Math.min(left, chunk.length)
    left -= skipped
    if (skipped < chunk.length) yield chunk.subarray(skipped)
  }
}
