import { createReadStream, statSync } from 'node:fs'
import { Transform, type Readable } from 'node:stream'
import { bar } from '../api/progress.ts'
import { messageOf } from '../lib/errors.ts'
import { ExitError } from './command.ts'
import type { Console } from './console.ts'

/** Opens an archive that a person names. */
export function openFile(path: string): Readable {
  try {
    if (statSync(path).isDirectory()) throw new Error(`${path} is a directory, not a tar archive`)
    return createReadStream(path, { highWaterMark: 1 << 20 })
  } catch (error) {
    throw new ExitError(1, messageOf(error).replace(/^ENOENT: .*$/, `open ${path}: no such file or directory`))
  }
}

/** Lets an upload be seen: a bar on stderr while a file of known size passes. */
export function withBar(from: Readable, path: string, what: string, console: Console): Readable {
  if (!console.stderr.isTTY) return from
  const total = statSync(path).size
  let sent = 0
  let shown = 0
  const through = new Transform({ transform(chunk: Buffer, _encoding, done) {
    sent += chunk.length
    if (Date.now() - shown > 100 && sent < total) {
      shown = Date.now()
      console.stderr.write(`\r\x1b[2K${what} ${bar(sent, total, console.stderr.columns ?? 80)}`)
    }
    done(null, chunk)
  }, flush(done) {
    if (shown) console.stderr.write('\r\x1b[2K')
    done()
  } })
  from.once('error', (error) => through.destroy(error))
  return from.pipe(through)
}
