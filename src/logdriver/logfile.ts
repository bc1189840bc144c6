import { closeSync, createReadStream, createWriteStream, existsSync, fstatSync, openSync, renameSync, unlinkSync, writeSync } from 'node:fs'
import { pipeline } from 'node:stream/promises'
import { createGunzip, createGzip } from 'node:zlib'
import { unlinkIfThere } from '../lib/files.ts'
import type { LogEntry, LogQuery } from './driver.ts'

/** How entries are in a file. */
export interface Codec {
  /** The entries from a byte on, each with the place after it; one that is not complete yet is left. */
  entries(fd: number, from: number): Generator<[LogEntry, number]>
  /** Where the last `count` entries begin, and how many there are from there on. */
  tail(fd: number, count: number): { from: number, found: number }
}

export interface LogFileOptions { maxSize: number, maxFiles: number, compress: boolean, warn: (message: string, error: unknown) => void }

/** Entries that are handed on at once. */
const BATCH = 500

/** A log in files: PATH is the youngest, PATH.1 the one before it, …; where asked, the older ones are compressed. */
export class LogFile {
  readonly path: string
  readonly #codec: Codec
  readonly #options: LogFileOptions
  #fd: number | undefined
  #size = 0
  readonly #watchers = new Set<() => void>()
  #closed = false
  /** How often the file was rotated: a reader sees by it that its file has got another name. */
  #generation = 0

  constructor(path: string, codec: Codec, options: LogFileOptions) {
    this.path = path
    this.#codec = codec
    this.#options = options
  }

  /** How many bytes fit before the next rotation. */
  get room(): number {
    this.#begin()
    return this.#size === 0 ? this.#options.maxSize : this.#options.maxSize - this.#size
  }

  #begin(): number {
    if (this.#fd === undefined) {
      this.#fd = openSync(this.path, 'a', 0o640)
      this.#size = fstatSync(this.#fd).size
    }
    return this.#fd
  }

  append(bytes: Uint8Array): void {
    this.#begin()
    if (this.#size > 0 && this.#size + bytes.length > this.#options.maxSize) this.#rotate()
    for (let done = 0; done < bytes.length;) done += writeSync(this.#begin(), bytes, done)
    this.#size += bytes.length
    for (const wake of this.#watchers) wake()
  }

  #rotate(): void {
    const { maxFiles, compress, warn } = this.#options
    closeSync(this.#fd!)
    if (maxFiles === 1) unlinkSync(this.path)
    else {
      for (const end of ['', '.gz']) unlinkIfThere(`${this.path}.${maxFiles - 1}${end}`)
      for (let at = maxFiles - 1; at > 1; at--) for (const end of ['', '.gz']) if (existsSync(`${this.path}.${at - 1}${end}`)) renameSync(`${this.path}.${at - 1}${end}`, `${this.path}.${at}${end}`)
      renameSync(this.path, `${this.path}.1`)
    }
    this.#generation++
    this.#fd = openSync(this.path, 'a', 0o640)
    this.#size = 0
    if (compress) this.#compress(this.#generation).catch((error: unknown) => warn(`can't compress an old file of the log ${this.path}`, error))
  }

  /** Compresses the file that became PATH.1 by a rotation; others may follow meanwhile. */
  async #compress(generation: number): Promise<void> {
    const temporary = `${this.path}.${generation}.gz.tmp`
    const source = createReadStream('', { fd: openSync(`${this.path}.1`, 'r') }) // at once: in a moment another file has its name
    try {
      await pipeline(source, createGzip(), createWriteStream(temporary, { mode: 0o640 }))
      const at = `${this.path}.${this.#generation - generation + 1}`
      if (!existsSync(at)) return unlinkIfThere(temporary) // it is too old by now
      renameSync(temporary, `${at}.gz`)
      unlinkSync(at)
    } catch (error) {
      unlinkIfThere(temporary)
      throw error
    }
  }

  close(): void {
    if (this.#fd !== undefined) closeSync(this.#fd)
    this.#fd = undefined
    this.#closed = true
    for (const wake of this.#watchers) wake()
  }

  /** Opens the file that was rotated so often. */
  #open(age: number): { fd: number, compressed: boolean } | undefined {
    const path = age === 0 ? this.path : `${this.path}.${age}`
    for (const compressed of [false, true]) {
      try {
        return { fd: openSync(compressed ? `${path}.gz` : path, 'r'), compressed }
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
      }
    }
    return undefined
  }

  /** Unpacks a compressed file into one without a name. */
  async #unpacked({ fd, compressed }: { fd: number, compressed: boolean }): Promise<number> {
    if (!compressed) return fd
    const temporary = `${this.path}.${process.pid}.${performance.now()}.tmp`
    await pipeline(createReadStream('', { fd, autoClose: false, start: 0 }), createGunzip(), createWriteStream(temporary, { mode: 0o600 }))
    const unpacked = openSync(temporary, 'r')
    unlinkSync(temporary)
    return unpacked
  }

  async *read(query: LogQuery): AsyncGenerator<LogEntry[]> {
    const { maxFiles } = this.#options
    const all = query.since === undefined && query.until === undefined
    const wanted = ({ time }: LogEntry): boolean => {
      if (all) return true
      const at = Date.parse(time)
      return (query.since === undefined || at >= query.since) && (query.until === undefined || at <= query.until)
    }
    const opened = new Set<number>()
    const keep = (fd: number): number => {
      opened.add(fd)
      return fd
    }
    try {
      // all at once, since they get other names when the log is rotated
      let generation = this.#generation
      const files = Array.from({ length: maxFiles }, (_, age) => this.#open(age)).filter((file) => file !== undefined)
      for (const { fd } of files) keep(fd)
      // from the youngest back, as far as is asked for
      const parts: { fd: number, from: number }[] = []
      let left = query.tail ?? Infinity
      for (const file of files) {
        if (left <= 0 && parts.length) break
        const fd = keep(await this.#unpacked(file))
        const { from, found } = left === Infinity ? { from: 0, found: 0 } : this.#codec.tail(fd, left)
        left -= found
        parts.unshift({ fd, from })
      }
      let last = existsSync(this.path) ? parts.at(-1) : undefined // the youngest may not be there yet
      let batch: LogEntry[] = []
      let looked = 0
      for (const part of parts)
        for (const [entry, next] of this.#codec.entries(part.fd, part.from)) {
          part.from = next
          if (wanted(entry)) batch.push(entry)
          if (++looked % BATCH) continue
          yield batch
          batch = []
          if (query.signal.aborted) return
        }
      if (batch.length) yield batch
      if (!query.follow) return
      for (;;) {
        if (query.signal.aborted) return
        if (!last) {
          const first = this.#open(0)
          if (first) last = { fd: keep(first.fd), from: 0 }
        }
        let any = false
        batch = []
        for (const [entry, next] of last ? this.#codec.entries(last.fd, last.from) : []) {
          any = true
          last!.from = next
          if (wanted(entry)) batch.push(entry)
          else if (query.until !== undefined && Date.parse(entry.time) > query.until) {
            yield batch
            return
          }
          if (++looked % BATCH === 0) break
        }
        if (batch.length) yield batch
        if (any) continue
        if (generation !== this.#generation) {
          generation++ // the file is read to its end; the next one in age follows
          const next = this.#open(this.#generation - generation)
          if (next) last = { fd: keep(await this.#unpacked({ ...next, fd: keep(next.fd) })), from: 0 }
          continue
        }
        if (this.#closed) return
        if (query.until !== undefined && Date.now() > query.until) return
        await this.#more(query.signal, query.until)
      }
    } finally {
      for (const fd of opened) closeSync(fd)
    }
  }

  #more(signal: AbortSignal, until: number | undefined): Promise<void> {
    return new Promise((resolve) => {
      const done = (): void => {
        this.#watchers.delete(done)
        signal.removeEventListener('abort', done)
        clearTimeout(timer)
        resolve()
      }
      const timer = until === undefined ? undefined : setTimeout(done, Math.max(0, until - Date.now()) + 1)
      this.#watchers.add(done)
      signal.addEventListener('abort', done)
    })
  }
}
