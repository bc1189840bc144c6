import { closeSync, openSync, readSync, writeSync } from 'node:fs'
import { system } from '../lib/errors.ts'
import { strerror } from '../sys/errno.ts'
import { O_NOFOLLOW, openInRoot } from '../sys/fs.ts'
import { CompressedFile, DescriptorBytes, decompressed, type Bytes } from './bytes.ts'
import type { Packed } from './pack.ts'

const RAW = 0
const CONTENT = 1

/** Bytes of records that are compressed at once. */
const BATCH = 64 << 10

/** Keeps what an archive has besides file contents in a file: records of `RAW length bytes` and `CONTENT offset length
 * path`, compressed. A layer's archive can so be written again with the digest that its image's config names. */
export class SplitWriter {
  readonly #to: CompressedFile
  #parts: Buffer[] = []
  #waiting = 0
  #raw: Buffer[] = []
  #rawLength = 0

  constructor(path: string) {
    this.#to = new CompressedFile(path)
  }

  raw(data: Buffer): void {
    if (data.length === 0) return
    this.#raw.push(Buffer.from(data))
    this.#rawLength += data.length
    if (this.#rawLength >= BATCH) this.#endRaw()
  }

  content(path: string, offset: number, length: number): void {
    if (length === 0) return
    this.#endRaw()
    const name = Buffer.from(path, 'latin1')
    const head = Buffer.alloc(19)
    head[0] = CONTENT
    head.writeDoubleLE(offset, 1)
    head.writeDoubleLE(length, 9)
    head.writeUInt16LE(name.length, 17)
    this.#put(head, name)
  }

  #endRaw(): void {
    if (this.#rawLength === 0) return
    const head = Buffer.alloc(5)
    head[0] = RAW
    head.writeUInt32LE(this.#rawLength, 1)
    this.#put(head, ...this.#raw)
    this.#raw = []
    this.#rawLength = 0
  }

  #put(...parts: Buffer[]): void {
    this.#parts.push(...parts)
    for (const { length } of parts) this.#waiting += length
    if (this.#waiting >= BATCH) this.#flush()
  }

  #flush(): void {
    this.#to.write(Buffer.concat(this.#parts))
    this.#parts = []
    this.#waiting = 0
  }

  end(): void {
    this.#endRaw()
    this.#flush()
    this.#to.end()
  }

  /** Gives up; the file is for whoever made the directory to remove. */
  [Symbol.dispose](): void {
    this.#to[Symbol.dispose]()
  }
}

/** Reads records one after the other. */
class Records {
  readonly #from: Bytes
  #buffer: Buffer = Buffer.allocUnsafe(2 * BATCH)
  #start = 0
  #end = 0

  constructor(from: Bytes) {
    this.#from = from
  }

  /** The next bytes, which are valid until the next call; undefined at the end. */
  take(length: number): Buffer | undefined {
    if (this.#end - this.#start < length) {
      const larger = length > this.#buffer.length ? Buffer.allocUnsafe(2 * length) : this.#buffer
      this.#buffer.copy(larger, 0, this.#start, this.#end)
      this.#buffer = larger
      this.#end -= this.#start
      this.#start = 0
      while (this.#end < length) {
        const n = this.#from.read(this.#buffer, this.#end, this.#buffer.length - this.#end)
        if (n === 0) {
          if (this.#end === 0) return undefined
          throw system('the records of a layer\'s archive end early')
        }
        this.#end += n
      }
    }
    const bytes = this.#buffer.subarray(this.#start, this.#start + length)
    this.#start += length
    return bytes
  }

  must(length: number): Buffer {
    const bytes = this.take(length)
    if (!bytes) throw system('the records of a layer\'s archive end early')
    return bytes
  }
}

/** Writes the archive again to descriptor `fd`, from the records in a file and the tree at `root`; for a worker. */
export function replay(fd: number, root: number, split: string): Packed {
  const source = openSync(split, 'r')
  try {
    return replayAll(fd, root, new Records(decompressed(new DescriptorBytes(source))))
  } finally {
    closeSync(source)
  }
}

function replayAll(fd: number, root: number, records: Records): Packed {
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
  for (let kind = records.take(1); kind; kind = records.take(1)) {
    if (kind[0] === RAW) {
      put(records.must(records.must(4).readUInt32LE()))
      continue
    }
    const head = records.must(18)
    let offset = head.readDoubleLE()
    let left = head.readDoubleLE(8)
    const path = records.must(head.readUInt16LE(16)).toString('latin1')
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
