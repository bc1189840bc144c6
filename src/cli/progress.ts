import type { Readable } from 'node:stream'
import { bar, type ProgressLine } from '../api/progress.ts'
import { ExitError } from './command.ts'
import type { Console } from './console.ts'
import { jsonLines } from './lines.ts'

/** Shows a stream of progress: bars in place on a terminal, plain lines of what changed elsewhere. Throws the error that
 * it ends with, and returns the last statuses without an id. */
export async function showProgress(from: Readable, console: Console, quiet = false): Promise<string[]> {
  const rows = new Map<string, number>()
  const statuses: string[] = []
  const tty = Boolean(console.stdout.isTTY)
  const last = new Map<string, string>()
  for await (const line of jsonLines<ProgressLine>(from)) {
    if (line.error) throw new ExitError(1, line.errorDetail?.message ?? line.error)
    if (line.stream) {
      if (!quiet) console.stdout.write(line.stream)
      continue
    }
    if (line.status && !line.id) statuses.push(line.status)
    if (quiet || line.status === undefined) continue
    const { current = 0, total = 0 } = line.progressDetail ?? {}
    const text = `${line.id ? `${line.id}: ` : ''}${line.status}`
    if (!tty) {
      if (total || last.get(line.id ?? '') === line.status) continue // a bar that moves is nothing for a file
      if (line.id) last.set(line.id, line.status)
      console.print(text)
    } else if (!line.id) console.print(text)
    else {
      const shown = `${text} ${total || current ? bar(current, total, console.stdout.columns ?? 80) : (line.progress ?? '')}`.trimEnd()
      const row = rows.get(line.id)
      if (row === undefined) {
        rows.set(line.id, rows.size)
        console.print(shown)
      } else console.stdout.write(`\x1b[${rows.size - row}A\r\x1b[2K${shown}\x1b[${rows.size - row}B\r`)
    }
  }
  return statuses
}
