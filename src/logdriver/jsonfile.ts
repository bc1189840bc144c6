import { fstatSync, readSync } from 'node:fs'
import { join } from 'node:path'
import type { LogDriver, LogEntry, LogInfo, LogQuery, Stream } from './driver.ts'
import { Lines, now, timeText } from './lines.ts'
import { LogFile, type Codec } from './logfile.ts'
import { attributeOptions, attributesOf, checkOptions, fileOptions, tagOf, type Options } from './options.ts'

type Warn = (message: string, error: unknown) => void

/** Docker's json-file log: a line of JSON an entry, `{"log":…,"stream":…,"attrs":…,"time":…}`. Unlike Docker's it is capped
 * by default, at five files of 20 MB; `max-size=-1` takes the cap away. */
export function jsonFile(info: LogInfo, options: Options, warn: Warn): LogDriver {
  checkOptions('json-file', options, ['max-size', 'max-file', 'compress', ...attributeOptions])
  const attributes = { ...attributesOf(info, options), ...(options['tag'] && { tag: tagOf(info, options) }) }
  return new JsonFile(new LogFile(join(info.directory, `${info.id}-json.log`), codec, { ...fileOptions(options, { compress: false }), warn }), attributes)
}

class JsonFile implements LogDriver {
  readonly name = 'json-file'
  readonly #file: LogFile
  readonly #lines = new Lines()
  readonly #attributes: string

  constructor(file: LogFile, attributes: Record<string, string>) {
    this.#file = file
    this.#attributes = Object.keys(attributes).length ? `"attrs":${JSON.stringify(attributes)},` : ''
  }

  get path(): string {
    return this.#file.path
  }

  write(stream: Stream, data: Buffer): boolean {
    const tail = this.#tail(stream)
    let out = ''
    this.#lines.write(stream, data, (line) => {
      const entry = `{"log":${JSON.stringify(line.toString('utf8'))}${tail}`
      if (out && out.length + entry.length > this.#file.room) {
        this.#file.append(Buffer.from(out))
        out = ''
      }
      out += entry
    })
    if (out) this.#file.append(Buffer.from(out))
    return true
  }

  #tail(stream: Stream): string {
    return `,"stream":"${stream}",${this.#attributes}"time":"${timeText(now())}"}\n`
  }

  drained(then: () => void): void {
    then()
  }

  close(): void {
    this.#lines.end((stream, line) => this.#file.append(Buffer.from(`{"log":${JSON.stringify(line.toString('utf8'))}${this.#tail(stream)}`)))
    this.#file.close()
  }

  read(query: LogQuery): AsyncIterable<LogEntry[]> {
    return this.#file.read(query)
  }
}

interface Kept { log: string, stream: Stream, time: string, attrs?: Record<string, string> }

const codec: Codec = { entries, tail }

function* entries(fd: number, from: number): Generator<[LogEntry, number]> {
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

/** A part of a line that goes on counts as one. */
function tail(fd: number, count: number): { from: number, found: number } {
  const { size } = fstatSync(fd)
  if (count === 0) return { from: size, found: 0 }
  const block = Buffer.allocUnsafe(64 << 10)
  let found = 0
  for (let end = size; end > 0;) {
    const begin = Math.max(0, end - block.length)
    readSync(fd, block, 0, end - begin, begin)
    for (let at = block.lastIndexOf(10, end - begin - 1); at >= 0; at = at ? block.lastIndexOf(10, at - 1) : -1) {
      if (begin + at === size - 1) continue
      if (++found === count) return { from: begin + at + 1, found }
    }
    end = begin
  }
  return { from: 0, found: size > 0 ? found + 1 : 0 }
}
