/** Docker's multiplexed stream: each piece of output has a header of eight bytes, its stream and its length
 * (Engine API, ContainerAttach, "Stream format"). */
export const STREAM = { stdin: 0, stdout: 1, stderr: 2, systemError: 3 } as const

/** Bytes of a header. */
export const FRAME_HEAD = 8

/** Writes the header of a piece. Returns the place after it. */
export function writeFrameHead(to: Buffer, at: number, stream: number, length: number): number {
  to.writeUInt32LE(stream, at)
  return to.writeUInt32BE(length, at + 4)
}

/** A piece of output with its header. */
export function encodeFrame(stream: number, data: Uint8Array): Buffer {
  const frame = Buffer.allocUnsafe(FRAME_HEAD + data.length)
  frame.set(data, writeFrameHead(frame, 0, stream, data.length))
  return frame
}

/** Takes a multiplexed stream apart as it arrives. */
export class FrameParser {
  #rest: Buffer = Buffer.alloc(0)
  #left = 0
  #stream = 0
  readonly #take: (stream: number, data: Buffer) => void

  constructor(take: (stream: number, data: Buffer) => void) {
    this.#take = take
  }

  write(chunk: Buffer): void {
    let at = 0
    while (at < chunk.length) {
      if (this.#left === 0) {
        const need = 8 - this.#rest.length
        const head = chunk.subarray(at, at + need)
        this.#rest = Buffer.concat([this.#rest, head])
        at += head.length
        if (this.#rest.length < 8) return
        this.#stream = this.#rest[0]!
        this.#left = this.#rest.readUInt32BE(4)
        this.#rest = Buffer.alloc(0)
        continue
      }
      const piece = chunk.subarray(at, at + this.#left)
      at += piece.length
      this.#left -= piece.length
      this.#take(this.#stream, piece)
    }
  }
}
