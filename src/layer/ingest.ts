import { close, fstatSync, ftruncate, openSync, read, write } from 'node:fs'
import { createHash, type Hash } from 'node:crypto'
import { promisify } from 'node:util'
import { Room } from '../lib/room.ts'
import { Growth } from '../archive/bytes.ts'
import type { ArchiveFile } from '../archive/archive.ts'

const readAt = promisify(read)
const writeAt = promisify(write)
const closeAsync = promisify(close)
const truncate = promisify(ftruncate)

/** A file that grows: it is written, and hashed, while it may be unpacked already. What a break left in it is kept, and goes
 * on. */
export class Ingest implements AsyncDisposable {
  readonly path: string
  readonly #algorithm: string
  readonly #fd: number
  readonly #room: Room
  readonly #whole = Promise.withResolvers<void>()
  #hash: Hash
  #length = 0
  #growth = new Growth()

  private constructor(path: string, algorithm: string) {
    this.path = path
    this.#fd = openSync(path, 'a+', 0o600)
    this.#algorithm = algorithm
    this.#room = new Room(path)
    this.#hash = createHash(algorithm)
  }

  /** Opens the file at a path, or makes it. What it has already counts as written; whether it is right is seen at the end,
   * by the digest. */
  static async open(path: string, algorithm: string): Promise<Ingest> {
    const ingest = new Ingest(path, algorithm)
    const { size } = fstatSync(ingest.#fd)
    const buffer = Buffer.allocUnsafe(Math.min(size, 1 << 20))
    while (ingest.#length < size) {
      const { bytesRead } = await readAt(ingest.#fd, buffer, 0, buffer.length, ingest.#length)
      if (bytesRead === 0) break
      ingest.#hash.update(buffer.subarray(0, bytesRead))
      ingest.#length += bytesRead
    }
    ingest.#growth.length = ingest.#length
    return ingest
  }

  /** Bytes that are there. */
  get length(): number {
    return this.#length
  }

  /** Bytes that who unpacks it has taken. */
  get taken(): number {
    return this.#growth.taken
  }

  async append(data: Buffer): Promise<void> {
    this.#room.take(data.length)
    for (let done = 0; done < data.length;) done += (await writeAt(this.#fd, data, done, data.length - done)).bytesWritten
    this.#hash.update(data)
    this.#length += data.length
    this.#growth.length = this.#length
  }

  /** The digest of what is there. */
  digest(): string {
    return `${this.#algorithm}:${this.#hash.copy().digest('hex')}`
  }

  /** Throws away what is there: it was wrong. Whoever has read of it fails. */
  async reset(): Promise<void> {
    this.#growth.end('failed')
    this.#growth = new Growth()
    await truncate(this.#fd, 0)
    this.#hash = createHash(this.#algorithm)
    this.#length = 0
  }

  /** What is there and what comes. */
  get file(): ArchiveFile {
    return { path: `/proc/self/fd/${this.#fd}`, growth: this.#growth, whole: this.#whole.promise } // it may be renamed meanwhile
  }

  /** Ends the growth. */
  end(how: 'complete' | 'failed'): void {
    if (this.#growth.open) this.#growth.end(how)
    this.#whole.resolve()
  }

  /** Ends the writing. The file stays. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.end('failed')
    await closeAsync(this.#fd)
  }
}
