import { Worker } from 'node:worker_threads'
import { closeSync, constants, createReadStream, openSync } from 'node:fs'
import { Socket, type OnReadOpts } from 'node:net'
import { finished, pipeline } from 'node:stream/promises'
import { Readable, type Writable } from 'node:stream'
import { BerthError, messageOf, system } from '../lib/errors.ts'
import { makePipe } from '../sys/fs.ts'
import { giveMemoryBack } from '../sys/memory.ts'
import type { Growth } from './bytes.ts'
import type { Change } from './changes.ts'
import { Expanded, needsProgram } from './decompress.ts'
import type { PackOptions, Packed } from './pack.ts'
import type { Unpacked, UnpackOptions } from './unpack.ts'
import type { Reply, Task } from './worker.ts'

/** An archive in a file. */
export interface ArchiveFile {
  path: string
  /** For one that still grows. */
  growth?: Growth
  /** Resolves when it grows no more, for better or worse. */
  whole?: Promise<void>
}

const PIPE_SIZE = 1 << 20
/** Bytes that are written to somebody at once. */
const POURED = 256 << 10
/** How many threads more there may be that wait for what clients send. */
const WAITING = 8
const IDLE = 5000

/** Archives packed and unpacked on worker threads: their system calls are synchronous, and the event loop has others to
 * serve. At most `size` run at once; the rest wait. Those that wait for a client themselves are beyond that number. */
export class Archiver implements Disposable {
  readonly #size: number
  readonly #idle: { worker: Worker, timer: NodeJS.Timeout }[] = []
  readonly #waiting: ((worker: Worker) => void)[] = []
  #count = 0
  #following = false

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
  async unpack(archive: Readable | ArchiveFile, root: number, options: UnpackOptions, signal?: AbortSignal): Promise<Unpacked> {
    return archive instanceof Readable ? await this.#unpackStream(archive, root, options, signal) : await this.#unpackFile(archive, root, options, signal)
  }

  async #unpackStream(archive: Readable, root: number, options: UnpackOptions, signal: AbortSignal | undefined): Promise<Unpacked> {
    const pipe = makePipe(PIPE_SIZE)
    const writer = new Socket({ fd: pipe.write, readable: false, writable: true })
    const work = this.#run({ task: 'unpack', fd: pipe.read, root, options }, { waits: true }) as Promise<Unpacked>
    const feed = pipeline(archive, new Expanded(), writer, { ...(signal && { signal }) })
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

  /** Follows one file at a time while it grows: a thread that waits for the network is one that others don't have. */
  async #unpackFile({ path, growth, whole }: ArchiveFile, root: number, options: UnpackOptions, signal: AbortSignal | undefined): Promise<Unpacked> {
    const fd = openSync(path, constants.O_RDONLY)
    if (!growth && needsProgram(fd)) return await this.#unpackStream(createReadStream('', { fd, highWaterMark: PIPE_SIZE }), root, options, signal)
    const follow = growth?.open && !this.#following
    if (growth?.open && !follow) await whole
    if (follow) this.#following = true
    try {
      return await this.#run({ task: 'unpack', fd, ...(growth && { growth: growth.shared }), root, options }) as Unpacked
    } finally {
      if (follow) this.#following = false
    }
  }

  /** Packs the tree at `root` into a stream that `take` reads. */
  async pack<T>(root: number, options: PackOptions, take: (stream: Readable) => Promise<T>): Promise<{ taken: T, packed: Packed }> {
    const { stream, packed } = this.#write((fd) => ({ task: 'pack', fd, root, options }))
    // the packer must not wait for somebody who has given up
    const taken = take(stream).catch((error: unknown) => {
      stream.destroy()
      throw error
    })
    const [took, done] = await Promise.allSettled([taken, packed])
    if (took.status === 'rejected') throw took.reason
    if (done.status === 'rejected') throw done.reason
    return { taken: took.value, packed: done.value }
  }

  /** Packs the tree at `root` to somebody who takes it, and ends what it is written to; destroys that where it can't be
   * whole. All passes through one buffer: a stream's chunks would be garbage, two hundred megabytes of which cost as much
   * time as the packing. */
  async packTo(to: Writable, root: number, options: PackOptions, signal: AbortSignal): Promise<Packed> {
    const buffer = Buffer.allocUnsafe(POURED)
    const { stream, packed } = this.#write((fd) => ({ task: 'pack', fd, root, options }), {
      buffer,
      callback: (length) => {
        to.write(buffer.subarray(0, length), (error) => {
          if (error) stream.destroy(error)
          else stream.resume()
        })
        return false // until that is written
      },
    })
    const stop = (): void => void stream.destroy(signal.aborted ? signal.reason as Error : new Error('nobody takes the archive any more'))
    to.once('close', stop)
    signal.addEventListener('abort', stop)
    try {
      await finished(stream.resume(), { writable: false })
      to.off('close', stop)
      await finished(to.end())
      return await packed
    } catch (error) {
      to.destroy(error as Error)
      await packed.catch(() => {}) // it is told of above, or has no pipe any more
      throw error
    } finally {
      to.off('close', stop)
      signal.removeEventListener('abort', stop)
    }
  }

  /** Writes the archive from which the tree at `root` was unpacked with `split`, byte for byte. */
  replay(root: number, split: string): { stream: Readable, packed: Promise<Packed> } {
    return this.#write((fd) => ({ task: 'replay', fd, root, split }))
  }

  #write(taskFor: (fd: number) => Task, onread?: OnReadOpts): { stream: Socket, packed: Promise<Packed> } {
    const ends = makePipe(PIPE_SIZE)
    const stream = new Socket({ fd: ends.read, readable: true, writable: false, onread })
    const packed = this.#run(taskFor(ends.write)) as Promise<Packed>
    // the pipe ends only now: its end is that of a whole archive
    packed.then(() => closeSync(ends.write), (error: Error) => {
      stream.destroy(error)
      closeSync(ends.write)
    })
    return { stream, packed }
  }

  /** What turns one tree into the other, apart from some paths. */
  async compare(before: number, after: number, ignore: readonly string[] = []): Promise<Change[]> {
    return (await this.#run({ task: 'compare', before, after, ignore })) as Change[]
  }

  /** Writes all of a file system to its disk; `root` is any open directory on it (syncfs(2)). */
  async sync(root: number): Promise<void> {
    await this.#run({ task: 'sync', root })
  }

  /** `waits` is for what may have to wait for others than this machine. */
  async #run(task: Task, { waits = false }: { waits?: boolean } = {}): Promise<Unpacked | Packed | Change[] | undefined> {
    const worker = await this.#take(waits ? this.#size + WAITING : this.#size)
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
      void worker.terminate().then(giveMemoryBack)
    }, IDLE).unref()
    this.#idle.push({ worker, timer })
    giveMemoryBack()
  }

  async #take(size: number): Promise<Worker> {
    const idle = this.#idle.pop()
    clearTimeout(idle?.timer)
    if (idle) return idle.worker
    if (this.#count < size) {
      this.#count++
      const file = import.meta.filename.endsWith('.ts') ? './worker.ts' : './archive-worker.js'
      const worker = new Worker(new URL(file, import.meta.url), { trackUnmanagedFds: false })
      worker.unref()
      return worker
    }
    return await new Promise((resolve) => this.#waiting.push(resolve))
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
