import { closeSync, existsSync, fstatSync, openSync, readSync, renameSync, statSync, unlinkSync, writeSync } from 'node:fs'
import { invalid } from '../lib/errors.ts'
import { parseSize } from '../lib/units.ts'
import type { LogDriver, LogEntry, LogQuery } from './driver.ts'

const LINE_LIMIT = 16 << 10
const DEFAULT_MAX_SIZE = 20 << 20
const DEFAULT_MAX_FILES = 5
const known = new Set(['max-size', 'max-file', 'labels', 'labels-regex', 'env', 'env-regex', 'tag', 'compress', 'mode', 'max-buffer-size'])

interface Kept { log: string, stream: 'stdout' | 'stderr', time: string, attrs?: Record<string, string> }

/** Opens Docker's json-file log: a line of JSON an entry, `{"log":…,"stream":…,"time":…}`. Unlike Docker's it is capped
 * by default, at five files of 20 MB; `max-size=-1` takes the cap away. */
export function openJsonFile(path: string, options: Record<string, string>): LogDriver {
  for (const name of Object.keys(options)) if (!known.has(name)) throw invalid(`unknown log opt '${name}' for json-file log driver`)
  const maxSize = options['max-size'] === undefined ? DEFAULT_MAX_SIZE : options['max-size'] === '-1' ? Infinity : parseSize(options['max-size'])
  const maxFiles = options['max-file'] === undefined ? DEFAULT_MAX_FILES : Number(options['max-file'])
  if (!Number.isInteger(maxFiles) || maxFiles < 1) throw invalid(`max-file cannot be less than 1`)
  return new JsonFile(path, maxSize, maxFiles)
}

class JsonFile implements LogDriver {
  readonly name = 'json-file'
  readonly path: string
  readonly #maxSize: number
  readonly #maxFiles: number
  #fd: number | undefined
  #size = 0
  readonly #partial = { stdout: Buffer.alloc(0), stderr: Buffer.alloc(0) }
  readonly #watchers = new Set<() => void>()
  #closed = false
  /** How often the file was rotated: a reader sees by it that its file has got another name. */
  #generation = 0

  constructor(path: string, maxSize: number, maxFiles: number) {
    this.path = path
    this.#maxSize = maxSize
    this.#maxFiles = maxFiles
  }

  write(stream: 'stdout' | 'stderr', data: Buffer): void {
    const time = new Date().toISOString().replace('Z', '') + String(Math.floor((performance.now() % 1) * 1e6)).padStart(6, '0') + 'Z'
    let rest: Buffer = this.#partial[stream].length ? Buffer.concat([this.#partial[stream], data]) : data
    let out = ''
    const tail = `,"stream":"${stream}","time":"${time}"}\n`
    for (;;) {
      let end = rest.indexOf(10)
      if (end < 0 && rest.length < LINE_LIMIT) break
      end = end < 0 || end >= LINE_LIMIT ? LINE_LIMIT : end + 1
      out += '{"log":' + JSON.stringify(rest.toString('utf8', 0, end)) + tail
      rest = rest.subarray(end)
    }
    this.#partial[stream] = Buffer.from(rest)
    if (out) this.#append(out)
  }

  #append(text: string): void {
    if (this.#fd === undefined) {
      this.#fd = openSync(this.path, 'a', 0o640)
      this.#size = fstatSync(this.#fd).size
    }
    const bytes = Buffer.from(text)
    if (this.#size > 0 && this.#size + bytes.length > this.#maxSize) this.#rotate()
    for (let done = 0; done < bytes.length;) done += writeSync(this.#fd, bytes, done)
    this.#size += bytes.length
    for (const wake of this.#watchers) wake()
  }

  #rotate(): void {
    closeSync(this.#fd!)
    if (this.#maxFiles === 1) unlinkSync(this.path)
    else {
      for (let i = this.#maxFiles - 1; i > 1; i--) if (existsSync(`${this.path}.${i - 1}`)) renameSync(`${this.path}.${i - 1}`, `${this.path}.${i}`)
      renameSync(this.path, `${this.path}.1`)
    }
    this.#fd = openSync(this.path, 'a', 0o640)
    this.#size = 0
    this.#generation++
  }

  close(): void {
    const time = new Date().toISOString()
    for (const stream of ['stdout', 'stderr'] as const) {
      if (this.#partial[stream].length) this.#append(JSON.stringify({ log: this.#partial[stream].toString('utf8'), stream, time }) + '\n')
      this.#partial[stream] = Buffer.alloc(0)
    }
    if (this.#fd !== undefined) closeSync(this.#fd)
    this.#fd = undefined
    this.#closed = true
    for (const wake of this.#watchers) wake()
  }

  async *read(query: LogQuery): AsyncGenerator<LogEntry> {
    const files = []
    for (let i = this.#maxFiles - 1; i >= 1; i--) files.push(`${this.path}.${i}`)
    files.push(this.path)
    let generation = this.#generation
    const wanted = (entry: LogEntry): boolean => {
      const time = Date.parse(entry.time)
      return (query.since === undefined || time >= query.since) && (query.until === undefined || time <= query.until)
    }
    const opened = files.filter((file) => existsSync(file)).map((file) => openSync(file, 'r'))
    let last = opened.at(-1)
    try {
      const tail = query.tail !== undefined ? startsOf(opened, query.tail) : opened.map((fd) => ({ fd, from: 0 }))
      let position = 0
      for (const { fd, from } of tail) {
        position = from
        for (const [entry, next] of entriesOf(fd, from)) {
          position = next
          if (wanted(entry)) yield entry
          if (query.signal.aborted) return
        }
      }
      if (!query.follow) return
      for (;;) {
        if (query.signal.aborted) return
        if (last === undefined && existsSync(this.path)) {
          last = openSync(this.path, 'r')
          opened.push(last)
          position = 0
        }
        let any = false
        for (const [entry, next] of last === undefined ? [] : entriesOf(last, position)) {
          any = true
          position = next
          if (query.until !== undefined && Date.parse(entry.time) > query.until) return
          if (wanted(entry)) yield entry
          if (query.signal.aborted) return
        }
        if (any) continue
        if (generation !== this.#generation) {
          generation++ // the file is read to its end; the next one in age follows
          const behind = this.#generation - generation
          const path = behind === 0 ? this.path : `${this.path}.${behind}`
          if (existsSync(path)) {
            last = openSync(path, 'r')
            opened.push(last)
          }
          position = 0
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

/** The entries of a file from a byte on, each with the place after it. A line that is not complete yet is left. */
function* entriesOf(fd: number, from: number): Generator<[LogEntry, number]> {
  const buffer = Buffer.allocUnsafe(64 << 10)
  let rest: Buffer = Buffer.alloc(0)
  let at = from
  let place = from
  for (;;) {
    const n = readSync(fd, buffer, 0, buffer.length, at)
    if (n === 0) return
    at += n
    let chunk: Buffer = rest.length ? Buffer.concat([rest, buffer.subarray(0, n)]) : Buffer.from(buffer.subarray(0, n))
    for (let end = chunk.indexOf(10); end >= 0; end = chunk.indexOf(10)) {
      const text = chunk.toString('utf8', 0, end)
      place += end + 1
      chunk = chunk.subarray(end + 1)
      const entry = parseEntry(text)
      if (entry) yield [entry, place]
    }
    rest = chunk
  }
}

/** A torn line, as a crash leaves one, is passed over. */
function parseEntry(text: string): LogEntry | undefined {
  try {
    const kept = JSON.parse(text) as Kept
    return { stream: kept.stream, time: kept.time, line: kept.log, ...(kept.attrs && { attributes: kept.attrs }) }
  } catch {
    return undefined
  }
}

/** Where in which files the last `count` lines begin. A part of a line that goes on counts with its end. */
function startsOf(fds: readonly number[], count: number): { fd: number, from: number }[] {
  const starts: { fd: number, from: number }[] = []
  let left = count
  for (const fd of fds.toReversed()) {
    if (left === 0 && starts.length) break
    const { size } = statSync(`/proc/self/fd/${fd}`)
    const block = Buffer.allocUnsafe(64 << 10)
    let from = 0
    scan: for (let end = size; end > 0;) {
      const begin = Math.max(0, end - block.length)
      readSync(fd, block, 0, end - begin, begin)
      for (let i = end - begin - 1; i >= 0; i--) {
        if (block[i] !== 10 || begin + i === size - 1) continue
        if (--left <= 0) {
          from = begin + i + 1
          break scan
        }
      }
      end = begin
    }
    if (count === 0) from = size
    else if (from === 0 && size > 0) left = Math.max(0, left - 1)
    starts.unshift({ fd, from })
    if (from > 0) break
  }
  return starts
}
