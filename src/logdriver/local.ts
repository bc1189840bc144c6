import { fstatSync, mkdirSync, readSync } from 'node:fs'
import { dirname, join } from 'node:path'
import type { LogDriver, LogEntry, LogInfo, LogQuery, Stream } from './driver.ts'
import { Lines, now, timeText, trimmed } from './lines.ts'
import { LogFile, type Codec } from './logfile.ts'
import { checkOptions, fileOptions, type Options } from './options.ts'

type Warn = (message: string, error: unknown) => void

/** Docker's local log, in its format: protocol buffers, each between its length and its length. Smaller than JSON, and the
 * end is found without reading what is before it. */
export function localLog(info: LogInfo, options: Options, warn: Warn, file = 'local-logs/container.log'): LogDriver {
  checkOptions('local', options, ['max-size', 'max-file', 'compress'])
  return new LocalLog(new LogFile(join(info.directory, file), codec, { ...fileOptions(options, { compress: true }), warn }))
}

class LocalLog implements LogDriver {
  readonly name = 'local'
  readonly #file: LogFile
  readonly #lines = new Lines()

  constructor(file: LogFile) {
    this.#file = file
  }

  async open(): Promise<void> {
    mkdirSync(dirname(this.#file.path), { recursive: true, mode: 0o700 })
  }

  write(stream: Stream, data: Buffer): boolean {
    let frames: Buffer[] = []
    let bytes = 0
    const head = headOf(stream, now())
    this.#lines.write(stream, data, (line) => {
      const frame = encode(head, line)
      if (bytes && bytes + frame.length > this.#file.room) {
        this.#file.append(Buffer.concat(frames))
        frames = []
        bytes = 0
      }
      frames.push(frame)
      bytes += frame.length
    })
    if (frames.length) this.#file.append(Buffer.concat(frames))
    return true
  }

  drained(then: () => void): void {
    then()
  }

  close(): void {
    this.#lines.end((stream, line) => this.#file.append(encode(headOf(stream, now()), line)))
    this.#file.close()
  }

  read(query: LogQuery): AsyncIterable<LogEntry[]> {
    return this.#file.read(query)
  }
}

// fields of LogEntry (Docker, api/types/plugins/logdriver/entry.proto), with their wire types
const SOURCE = 1 << 3 | 2
const TIME = 2 << 3
const LINE = 3 << 3 | 2
const PARTIAL = 4 << 3

function varint(value: number): number[] {
  const bytes: number[] = []
  let rest = value
  for (; rest > 0x7f; rest = Math.floor(rest / 0x80)) bytes.push(rest % 0x80 | 0x80)
  bytes.push(rest)
  return bytes
}

/** What all messages of a stream at a time begin with. */
function headOf(stream: Stream, time: bigint): number[] {
  const bytes: number[] = []
  let rest = time
  for (; rest > 0x7fn; rest >>= 7n) bytes.push(Number(rest & 0x7fn) | 0x80)
  return [SOURCE, stream.length, ...Buffer.from(stream), TIME, ...bytes, Number(rest), LINE]
}

function encode(head: readonly number[], line: Buffer): Buffer {
  const { text, partial } = trimmed(line)
  const size = varint(text.length)
  const length = head.length + size.length + text.length + (partial ? 2 : 0)
  const frame = Buffer.allocUnsafe(length + 8)
  frame.writeUInt32BE(length, 0)
  let at = 4
  for (const byte of head) frame[at++] = byte
  for (const byte of size) frame[at++] = byte
  at += text.copy(frame, at)
  if (partial) {
    frame[at++] = PARTIAL
    frame[at++] = 1
  }
  frame.writeUInt32BE(length, at)
  return frame
}

/** Reads the message between two places; undefined where it is none. */
function decode(bytes: Buffer, from: number, to: number): LogEntry | undefined {
  let at = from
  const number = (): number => {
    let value = 0
    for (let unit = 1; at < to; unit *= 0x80) {
      const byte = bytes[at++]!
      value += (byte & 0x7f) * unit
      if (byte < 0x80) return value
    }
    return value
  }
  let [stream, time, line, partial]: [Stream | undefined, bigint, string, boolean] = [undefined, 0n, '', false]
  while (at < to) {
    const key = number()
    if (key === TIME) {
      // in two halves: it has more digits than a number
      let [low, high] = [0, 0]
      for (let group = 0; at < to; group++) {
        const byte = bytes[at++]!
        if (group < 7) low += (byte & 0x7f) * 0x80 ** group
        else high += (byte & 0x7f) * 0x80 ** (group - 7)
        if (byte < 0x80) break
      }
      time = BigInt(low) + (BigInt(high) << 49n)
    } else if ((key & 7) === 0) {
      const value = number()
      if (key === PARTIAL) partial = value !== 0
    } else if ((key & 7) === 2) {
      const length = number()
      if (key === SOURCE) stream = length === 6 ? (bytes[at + 3] === 0x6f ? 'stdout' : 'stderr') : undefined
      if (key === LINE) line = bytes.toString('utf8', at, at + length)
      at += length
    } else return undefined
  }
  return stream && { stream, time: timeText(time), line: partial ? line : `${line}\n` }
}

const MAX_MESSAGE = 1 << 20

const codec: Codec = {
  *entries(fd, from) {
    const { size } = fstatSync(fd)
    let window = Buffer.alloc(0)
    let start = from
    /** Sees to it that bytes are in the window. Returns where, or undefined where the file has not got them. */
    const have = (at: number, length: number): number | undefined => {
      if (at + length > size) return undefined
      if (at < start || at + length > start + window.length) {
        window = Buffer.allocUnsafe(Math.min(size - at, Math.max(length, 64 << 10)))
        start = at
        readSync(fd, window, 0, window.length, at)
      }
      return at - start
    }
    for (let at = from; ;) {
      const head = have(at, 4)
      if (head === undefined) return
      const length = window.readUInt32BE(head)
      if (length > MAX_MESSAGE) return // what a crash has torn
      const place = have(at, length + 8)
      if (place === undefined) return
      const entry = decode(window, place + 4, place + 4 + length)
      at += length + 8
      if (entry) yield [entry, at]
    }
  },
  tail(fd, count) {
    let at = fstatSync(fd).size
    let found = 0
    const block = Buffer.allocUnsafe(64 << 10)
    let begin = at
    while (found < count && at >= 8) {
      if (at - 4 < begin) {
        begin = Math.max(0, at - block.length)
        readSync(fd, block, 0, at - begin, begin)
      }
      const before = at - 8 - block.readUInt32BE(at - 4 - begin)
      if (before < 0) break
      at = before
      found++
    }
    return { from: at, found }
  },
}
