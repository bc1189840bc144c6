import { closeSync, readFileSync, readSync, writeSync } from 'node:fs'
import { zstdCompressSync, zstdDecompressSync } from 'node:zlib'
import { system } from '../lib/errors.ts'
import { strerror } from '../sys/errno.ts'
import { O_NOFOLLOW, openInRoot } from '../sys/fs.ts'
import type { Packed } from './pack.ts'

const RAW = 0
const CONTENT = 1

/** Keeps what an archive has besides file contents: records of `RAW length bytes` and `CONTENT offset length path`,
 * compressed. A layer's archive can so be written again with the digest that its image's config names. */
export class SplitWriter {
  readonly #parts: Buffer[] = []
  #raw: Buffer[] = []

  raw(data: Buffer): void {
    if (data.length) this.#raw.push(Buffer.from(data))
  }

  content(path: string, offset: number, length: number): void {
    if (length === 0) return
    this.#flush()
    const name = Buffer.from(path, 'latin1')
    const head = Buffer.alloc(19)
    head[0] = CONTENT
    head.writeDoubleLE(offset, 1)
    head.writeDoubleLE(length, 9)
    head.writeUInt16LE(name.length, 17)
    this.#parts.push(head, name)
  }

  #flush(): void {
    const length = this.#raw.reduce((sum, piece) => sum + piece.length, 0)
    if (length === 0) return
    const head = Buffer.alloc(5)
    head[0] = RAW
    head.writeUInt32LE(length, 1)
    this.#parts.push(head, ...this.#raw)
    this.#raw = []
  }

  end(): Buffer {
    this.#flush()
    return zstdCompressSync(Buffer.concat(this.#parts))
  }
}

/** Writes the archive again to descriptor `fd`, from the records in a file and the tree at `root`; for a worker. */
export function replay(fd: number, root: number, split: string): Packed {
  const records = zstdDecompressSync(readFileSync(split))
  const buffer = Buffer.allocUnsafe(1 << 20)
  let filled = 0
  let size = 0
  const flush = (): void => {
    for (let done = 0; done < filled;) done += writeSync(fd, buffer, done, filled - done)
    size += filled
    filled = 0
  }
  const put = (data: Buffer): void => {
    for (let at = 0; at < data.length;) {
      if (filled === buffer.length) flush()
      const n = data.copy(buffer, filled, at)
      filled += n
      at += n
    }
  }
  for (let at = 0; at < records.length;) {
    if (records[at] === RAW) {
      const length = records.readUInt32LE(at + 1)
      put(records.subarray(at + 5, at + 5 + length))
      at += 5 + length
      continue
    }
    let offset = records.readDoubleLE(at + 1)
    let left = records.readDoubleLE(at + 9)
    const nameLength = records.readUInt16LE(at + 17)
    const path = records.toString('latin1', at + 19, at + 19 + nameLength)
    at += 19 + nameLength
    const file = openInRoot(root, Buffer.from(path, 'latin1'), O_NOFOLLOW)
    if (file < 0) throw system(`the layer's file /${path} is gone: ${strerror(-file)}`)
    try {
      while (left > 0) {
        if (filled === buffer.length) flush()
        const n = readSync(file, buffer, filled, Math.min(left, buffer.length - filled), offset)
        if (n === 0) throw system(`the layer's file /${path} is shorter than it was`)
        filled += n
        offset += n
        left -= n
      }
    } finally {
      closeSync(file)
    }
  }
  flush()
  return { size }
}
