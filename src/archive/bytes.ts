import { closeSync, openSync, readSync, writeSync } from 'node:fs'
import { constants, createGunzip, createZstdCompress, createZstdDecompress } from 'node:zlib'
import { invalid, system } from '../lib/errors.ts'

/** Bytes that come in order, read synchronously on a worker thread. */
export interface Bytes {
  /** Reads up to `length` bytes to `buffer`, at least one; 0 at the end. */
  read(buffer: Buffer, offset: number, length: number): number
}

/** What a descriptor has, from where it stands. */
export class DescriptorBytes implements Bytes {
  readonly #fd: number

  constructor(fd: number) {
    this.#fd = fd
  }

  read(buffer: Buffer, offset: number, length: number): number {
    return readSync(this.#fd, buffer, offset, length, null)
  }
}

const STATE = 0
const CHANGES = 1
const LENGTH = 1
const TAKEN = 2
const OPEN = 0
const COMPLETE = 1
const FAILED = 2

/** How far a file has grown that one thread writes and another reads. */
export class Growth {
  readonly shared: SharedArrayBuffer
  readonly #flags: Int32Array
  readonly #counts: BigInt64Array

  constructor(shared: SharedArrayBuffer = new SharedArrayBuffer(24)) {
    this.shared = shared
    this.#flags = new Int32Array(shared, 0, 2)
    this.#counts = new BigInt64Array(shared)
  }

  /** Bytes that are there. */
  get length(): number {
    return Number(Atomics.load(this.#counts, LENGTH))
  }

  set length(bytes: number) {
    Atomics.store(this.#counts, LENGTH, BigInt(bytes))
    this.#notify()
  }

  /** Bytes that the reader has taken. */
  get taken(): number {
    return Number(Atomics.load(this.#counts, TAKEN))
  }

  set taken(bytes: number) {
    Atomics.store(this.#counts, TAKEN, BigInt(bytes))
  }

  get open(): boolean {
    return Atomics.load(this.#flags, STATE) === OPEN
  }

  /** Ends the growth: the reader ends there, or fails. */
  end(how: 'complete' | 'failed'): void {
    Atomics.store(this.#flags, STATE, how === 'complete' ? COMPLETE : FAILED)
    this.#notify()
  }

  #notify(): void {
    Atomics.add(this.#flags, CHANGES, 1)
    Atomics.notify(this.#flags, CHANGES)
  }

  /** Blocks this thread until there is more than `at`. Returns the length, which is no more at the end. Throws for a writer
   * that has given up. */
  wait(at: number): number {
    for (;;) {
      const changes = Atomics.load(this.#flags, CHANGES)
      const state = Atomics.load(this.#flags, STATE)
      if (state === FAILED) throw system('the transfer has ended early')
      const { length } = this
      if (length > at || state === COMPLETE) return length
      Atomics.wait(this.#flags, CHANGES, changes)
    }
  }
}

/** A file that grows, from its beginning. */
export class GrowingBytes implements Bytes {
  readonly #fd: number
  readonly #growth: Growth
  #at = 0

  constructor(fd: number, growth: Growth) {
    this.#fd = fd
    this.#growth = growth
  }

  read(buffer: Buffer, offset: number, length: number): number {
    const there = this.#growth.wait(this.#at)
    const n = there > this.#at ? readSync(this.#fd, buffer, offset, Math.min(length, there - this.#at), this.#at) : 0
    this.#at += n
    this.#growth.taken = this.#at
    return n
  }
}

const INPUT = 128 << 10
const { Z_SYNC_FLUSH, Z_FINISH, ZSTD_e_continue, ZSTD_e_end } = constants

/** What of zlib's streams lets them be used a step at a time without a stream: no promise, no copy, no thread between. */
interface Handle {
  writeSync(flush: number, input: Buffer, inputAt: number, inputLeft: number, output: Buffer, outputAt: number, outputLeft: number): void
  reset(): void
  close(): void
  onerror: (message: string, errno: number, code: string) => void
}

/** Decompresses gzip or zstd. Members and frames that follow one another are one. */
class Decompressed implements Bytes {
  readonly #from: Bytes
  readonly #input = Buffer.allocUnsafe(INPUT)
  readonly #handle: Handle
  readonly #state: Uint32Array
  readonly #kind: 'gzip' | 'zstd'
  #start = 0
  #end = 0
  #drained = false
  #closed = false
  #failure: string | undefined

  constructor(from: Bytes, kind: 'gzip' | 'zstd', head: Buffer) {
    this.#from = from
    this.#kind = kind
    this.#end = head.copy(this.#input)
    const stream = (kind === 'gzip' ? createGunzip() : createZstdDecompress()) as unknown as { _handle: Handle, _writeState: Uint32Array }
    this.#handle = stream._handle
    this.#state = stream._writeState
    this.#handle.onerror = (message) => void (this.#failure = message)
  }

  /** To give what there is; at the end of the input also to say whether that may end there. */
  #flush(): number {
    return this.#kind === 'gzip' ? (this.#drained ? Z_FINISH : Z_SYNC_FLUSH) : this.#drained ? ZSTD_e_end : ZSTD_e_continue
  }

  read(buffer: Buffer, offset: number, length: number): number {
    if (this.#closed) return 0
    for (;;) {
      if (this.#start === this.#end && !this.#drained) {
        this.#start = 0
        this.#end = this.#from.read(this.#input, 0, INPUT)
        this.#drained = this.#end === 0
      }
      this.#handle.writeSync(this.#flush(), this.#input, this.#start, this.#end - this.#start, buffer, offset, length)
      if (this.#failure !== undefined) throw invalid(`can't decompress the archive: ${this.#failure}`)
      const [outputLeft = 0, inputLeft = 0] = this.#state
      this.#start = this.#end - inputLeft
      if (outputLeft < length) return length - outputLeft
      if (this.#drained) {
        this.#handle.close()
        this.#closed = true
        return 0
      }
      if (inputLeft === 0) continue
      // a member has ended, and another follows, or what is no archive's
      if (this.#kind === 'gzip' && this.#input[this.#start] === 0x1f) this.#handle.reset()
      else {
        while (this.#from.read(this.#input, 0, INPUT) > 0); // whoever writes it sees no broken pipe
        this.#start = this.#end
        this.#drained = true
      }
    }
  }
}

/** The bytes themselves, from those already read on. */
class Unread implements Bytes {
  #head: Buffer
  readonly #from: Bytes

  constructor(head: Buffer, from: Bytes) {
    this.#head = head
    this.#from = from
  }

  read(buffer: Buffer, offset: number, length: number): number {
    if (this.#head.length === 0) return this.#from.read(buffer, offset, length)
    const n = this.#head.copy(buffer, offset, 0, length)
    this.#head = this.#head.subarray(n)
    return n
  }
}

/** An archive's bytes, decompressed where its first are gzip's or zstd's. */
export function decompressed(from: Bytes): Bytes {
  const head = Buffer.alloc(4)
  let there = 0
  for (let n = 1; there < head.length && n > 0; there += n) n = from.read(head, there, head.length - there)
  const known = head.subarray(0, there)
  const kind = head[0] === 0x1f && head[1] === 0x8b ? 'gzip' : head.readUInt32LE(0) === 0xfd2fb528 ? 'zstd' : undefined
  return kind ? new Decompressed(from, kind, known) : new Unread(known, from)
}

/** A file that is written compressed with zstd, synchronously. */
export class CompressedFile implements Disposable {
  readonly #fd: number
  readonly #output = Buffer.allocUnsafe(INPUT)
  readonly #handle: Handle
  readonly #state: Uint32Array
  #failure: string | undefined
  #open = true

  constructor(path: string) {
    const stream = createZstdCompress() as unknown as { _handle: Handle, _writeState: Uint32Array }
    this.#handle = stream._handle
    this.#state = stream._writeState
    this.#handle.onerror = (message) => void (this.#failure = message)
    this.#fd = openSync(path, 'w', 0o600)
  }

  write(data: Buffer): void {
    this.#step(data, ZSTD_e_continue)
  }

  #step(data: Buffer, flush: number): void {
    for (let at = 0, full = true; at < data.length || full;) {
      this.#handle.writeSync(flush, data, at, data.length - at, this.#output, 0, this.#output.length)
      if (this.#failure !== undefined) throw new Error(`zstd: ${this.#failure}`)
      const [outputLeft = 0, inputLeft = 0] = this.#state
      at = data.length - inputLeft
      full = outputLeft === 0
      const filled = this.#output.length - outputLeft
      for (let done = 0; done < filled;) done += writeSync(this.#fd, this.#output, done, filled - done)
    }
  }

  end(): void {
    this.#step(Buffer.alloc(0), ZSTD_e_end)
    this[Symbol.dispose]()
  }

  [Symbol.dispose](): void {
    if (!this.#open) return
    this.#open = false
    this.#handle.close()
    closeSync(this.#fd)
  }
}
