import { spawn } from 'node:child_process'
import { readSync } from 'node:fs'
import { Duplex, Transform } from 'node:stream'
import { Passing } from '../lib/garbage.ts'

const XZ = Buffer.from([0xfd, 0x37, 0x7a, 0x58, 0x5a, 0])

/** bzip2 and xz, which Node lacks, by the programs of that name. */
function expand(program: 'bzip2' | 'xz'): Duplex {
  const child = spawn(program, ['-dc'], { stdio: ['pipe', 'pipe', 'ignore'] })
  const stream = Duplex.from({ writable: child.stdin, readable: child.stdout } as never)
  child.on('error', (error) => stream.destroy(error))
  child.on('exit', (status) => {
    if (status) stream.destroy(new Error(`${program} can't decompress this: status ${status}`))
  })
  return stream
}

const programFor = (head: Buffer): 'bzip2' | 'xz' | undefined => (head.toString('latin1', 0, 3) === 'BZh' ? 'bzip2' : head.subarray(0, 6).equals(XZ) ? 'xz' : undefined)

/** True for a file whose first bytes are bzip2's or xz's. */
export function needsProgram(fd: number): boolean {
  const head = Buffer.alloc(XZ.length)
  readSync(fd, head, 0, head.length, 0)
  return programFor(head) !== undefined
}

/** Passes an archive on, decompressed if its first bytes are bzip2's or xz's; gzip and zstd are left to who unpacks it. */
export class Expanded extends Transform {
  #head: Buffer = Buffer.alloc(0)
  readonly #passing = new Passing()
  #inner: Duplex | undefined | null

  #decide(): void {
    const program = programFor(this.#head)
    this.#inner = program ? expand(program) : null
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
    this.#passing.pass(chunk.length)
    if (this.#inner === undefined) {
      this.#head = this.#head.length ? Buffer.concat([this.#head, chunk]) : chunk
      if (this.#head.length < XZ.length) return callback()
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
