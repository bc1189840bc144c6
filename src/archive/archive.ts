import { Worker } from 'node:worker_threads'
import { closeSync } from 'node:fs'
import { Socket } from 'node:net'
import { pipeline } from 'node:stream/promises'
import { Transform, type Readable } from 'node:stream'
import { createGunzip, createZstdDecompress, createBunzip } from './decompress.ts'
import { BerthError, messageOf, system } from '../lib/errors.ts'
import { makePipe } from '../sys/fs.ts'
import type { Change } from './changes.ts'
import type { PackOptions, Packed } from './pack.ts'
import type { Unpacked, UnpackOptions } from './unpack.ts'
import type { Reply, Task } from './worker.ts'

const PIPE_SIZE = 1 << 20
const IDLE = 5000

/** Archives packed and unpacked on worker threads: their system calls are synchronous, and the event loop has others to
 * serve. At most `size` run at once; the rest wait. */
export class Archiver implements Disposable {
  readonly #size: number
  readonly #idle: { worker: Worker, timer: NodeJS.Timeout }[] = []
  readonly #waiting: ((worker: Worker) => void)[] = []
  #count = 0

  constructor(size = 2) {
    this.#size = size
  }

  [Symbol.dispose](): void {
    for (const { worker, timer } of this.#idle) {
      clearTimeout(timer)
      void worker.terminate()
    }
  }

  /** Unpacks an archive, compressed or not, into the tree at `root`. */
  async unpack(archive: Readable, root: number, options: UnpackOptions, signal?: AbortSignal): Promise<Unpacked> {
    const pipe = makePipe(PIPE_SIZE)
    const writer = new Socket({ fd: pipe.write, readable: false, writable: true })
    const work = this.#run({ task: 'unpack', fd: pipe.read, root, options }) as Promise<Unpacked>
    const feed = pipeline(archive, new Decompress(), writer, { ...(signal && { signal }) })
    const [unpacked, fed] = await Promise.allSettled([work, feed])
    if (signal?.aborted) throw signal.reason
    // the worker's error says what is wrong; the feed's is then only that nobody reads any more
    if (unpacked.status === 'rejected') {
      const feedError = fed.status === 'rejected' && (fed.reason as NodeJS.ErrnoException).code !== 'EPIPE' ? fed.reason : undefined
      throw feedError instanceof BerthError ? feedError : unpacked.reason
    }
    if (fed.status === 'rejected') throw system(`can't read the archive: ${messageOf(fed.reason)}`, fed.reason)
    return unpacked.value
  }

  /** Packs the tree at `root` into a stream. `packed` settles when the last byte has been read from it. */
  pack(root: number, options: PackOptions): { stream: Readable, packed: Promise<Packed> } {
    return this.#write((fd) => ({ task: 'pack', fd, root, options }))
  }

  /** Writes the archive from which the tree at `root` was unpacked with `split`, byte for byte. */
  replay(root: number, split: string): { stream: Readable, packed: Promise<Packed> } {
    return this.#write((fd) => ({ task: 'replay', fd, root, split }))
  }

  #write(taskFor: (fd: number) => Task): { stream: Readable, packed: Promise<Packed> } {
    const pipe = makePipe(PIPE_SIZE)
    const stream = new Socket({ fd: pipe.read, readable: true, writable: false })
    const packed = this.#run(taskFor(pipe.write)) as Promise<Packed>
    packed.catch((error: unknown) => stream.destroy(error instanceof Error ? error : new Error(String(error))))
    return { stream, packed }
  }

  /** What turns one tree into the other, apart from some paths. */
  async compare(before: number, after: number, ignore: readonly string[] = []): Promise<Change[]> {
    return (await this.#run({ task: 'compare', before, after, ignore })) as Change[]
  }

  async #run(task: Task): Promise<Unpacked | Packed | Change[]> {
    const worker = await this.#take()
    try {
      const reply = await new Promise<Reply>((resolve, reject) => {
        worker.once('message', resolve)
        worker.once('error', reject)
        worker.postMessage(task)
      })
      if ('ok' in reply) return reply.ok
      const { kind, message, code } = reply.error
      const cause = code ? Object.assign(new Error(message), { code }) : undefined
      throw kind ? new BerthError(kind, message, { cause }) : code ? system(message, cause) : new Error(message)
    } finally {
      worker.removeAllListeners('message')
      worker.removeAllListeners('error')
      const next = this.#waiting.shift()
      if (next) next(worker)
      else this.#rest(worker)
    }
  }

  /** A worker without work ends after a while: it holds some thirty megabytes. */
  #rest(worker: Worker): void {
    const timer = setTimeout(() => {
      this.#idle.splice(this.#idle.findIndex((idle) => idle.worker === worker), 1)
      this.#count--
      void worker.terminate()
    }, IDLE).unref()
    this.#idle.push({ worker, timer })
  }

  async #take(): Promise<Worker> {
    const idle = this.#idle.pop()
    clearTimeout(idle?.timer)
    if (idle) return idle.worker
    if (this.#count < this.#size) {
      this.#count++
      const file = import.meta.filename.endsWith('.ts') ? './worker.ts' : './archive-worker.js'
      const worker = new Worker(new URL(file, import.meta.url), { trackUnmanagedFds: false })
      worker.unref()
      return worker
    }
    return await new Promise((resolve) => this.#waiting.push(resolve))
  }
}

/** Passes an archive on, decompressed if its first bytes are gzip's, zstd's or bzip2's. */
export class Decompress extends Transform {
  #head: Buffer = Buffer.alloc(0)
  #inner: Transform | undefined | null

  #decide(): void {
    const head = this.#head
    if (head[0] === 0x1f && head[1] === 0x8b) this.#inner = createGunzip()
    else if (head.readUInt32LE(0) === 0xfd2fb528) this.#inner = createZstdDecompress()
    else if (head.toString('latin1', 0, 3) === 'BZh' || head.subarray(0, 6).equals(Buffer.from([0xfd, 0x37, 0x7a, 0x58, 0x5a, 0]))) this.#inner = createBunzip(head[0] === 0xfd ? 'xz' : 'bzip2')
    else this.#inner = null
    this.#inner?.on('data', (data: Buffer) => {
      if (!this.push(data)) this.#inner!.pause()
    })
    this.#inner?.on('error', (error) => this.destroy(error))
  }

  override _read(size: number): void {
    this.#inner?.resume()
    super._read(size)
  }

  override _transform(chunk: Buffer, _encoding: BufferEncoding, callback: (error?: Error | null, data?: Buffer) => void): void {
    if (this.#inner === undefined) {
      this.#head = this.#head.length ? Buffer.concat([this.#head, chunk]) : chunk
      if (this.#head.length < 6) return callback()
      this.#decide()
      chunk = this.#head
    }
    if (this.#inner === null) return callback(null, chunk)
    this.#inner!.write(chunk, (error) => callback(error ?? null))
  }

  override _flush(callback: (error?: Error | null, data?: Buffer) => void): void {
    if (!this.#inner) return this.#inner === undefined ? callback(null, this.#head) : callback()
    this.#inner.once('end', () => callback())
    this.#inner.end()
  }
}

/** Closes a descriptor when `work` is done. */
export async function withDescriptor<T>(fd: number, work: (fd: number) => Promise<T>): Promise<T> {
  try {
    return await work(fd)
  } finally {
    closeSync(fd)
  }
}
