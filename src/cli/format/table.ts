import { ExitError, UsageError, type Flag } from '../command.ts'
import { messageOf } from '../../lib/errors.ts'
import type { Console } from '../console.ts'
import { compileTemplate, goJson } from '../../lib/template.ts'

/** A row of a listing: what each field shows. */
export type Row = Readonly<Record<string, unknown>>

/** The flag --format of a listing. */
export const formatFlag = { type: 'string', help: "Format output: 'table' (default), 'table TEMPLATE', 'json', or a Go template 'TEMPLATE'" } as const satisfies Flag

export interface Listing {
  /** A --format, or empty for the usual columns. */
  format: string
  /** The usual columns. */
  columns: readonly string[]
  /** Column heads by field; a field without one is headed by its own name in capitals. */
  heads: Readonly<Record<string, string>>
}

/** Lays cells out as Go's tabwriter does in Docker's tables: columns ten wide or more, three blanks apart. */
export function layOut(rows: readonly (readonly string[])[]): string[] {
  const widths: number[] = []
  for (const row of rows) row.slice(0, -1).forEach((cell, at) => (widths[at] = Math.max(widths[at] ?? 10, [...cell].length + 3)))
  return rows.map((row) => row.map((cell, at) => (at === row.length - 1 ? cell : cell + ' '.repeat(widths[at]! - [...cell].length))).join(''))
}

/** Compiles a person's template. */
export function templateOf(source: string): (value: unknown) => string {
  try {
    return compileTemplate(source.replaceAll('\\t', '\t').replaceAll('\\n', '\n'))
  } catch (error) {
    throw new ExitError(1, `failed to parse template: ${messageOf(error)}`)
  }
}

/** The lines of a listing. */
export function listingLines(rows: readonly Row[], { format, columns, heads }: Listing): string[] {
  if (format === 'json') return rows.map((row) => goJson(Object.fromEntries(Object.entries(row).filter(([, value]) => typeof value !== 'function').toSorted(([a], [b]) => (a < b ? -1 : 1)))))
  const table = format === '' || format === 'table' ? columns.map((column) => `{{.${column}}}`).join('\t') : /^table\s/.test(format) ? format.replace(/^table\s+/, '') : undefined
  const template = templateOf(table ?? format)
  const render = (row: Row): string => {
    try {
      return template(row)
    } catch (error) {
      throw new ExitError(1, `failed to execute template: ${messageOf(error)}`)
    }
  }
  if (table === undefined) return rows.map(render)
  const names = new Set([...columns, ...Object.keys(heads), ...rows.flatMap((row) => Object.keys(row))])
  const head = Object.fromEntries([...names].map((name) => [name, heads[name] ?? name.toUpperCase()]))
  // a label's column is headed by the label's own name
  const lines = [render({ ...head, Label: (name: string) => name.split(/[.-]/).at(-1)!.toUpperCase() }), ...rows.map(render)]
  return layOut(lines.map((line) => line.split('\t')))
}

/** Prints a listing. */
export function printListing(console: Console, rows: readonly Row[], listing: Listing): void {
  for (const line of listingLines(rows, listing)) console.print(line)
}

/** The fields of a row that labels are: all of them, and one by its name. */
export function labelFields(labels: Readonly<Record<string, string>> | null): { Labels: string, Label: (name: string) => string } {
  return { Labels: Object.entries(labels ?? {}).map(([key, value]) => `${key}=${value}`).toSorted().join(','), Label: (name) => labels?.[name] ?? '' }
}

/** Shortens a text to `length` characters, the last of which says so. */
export function ellipsis(text: string, length: number): string {
  const letters = [...text]
  return letters.length <= length ? text : `${letters.slice(0, length - 1).join('')}…`
}

/** A time as Go prints it: `2026-11-21 14:56:00 +0000 UTC`. */
export function goTime(seconds: number): string {
  const date = new Date(seconds * 1000)
  const two = (value: number): string => String(value).padStart(2, '0')
  const offset = -date.getTimezoneOffset()
  const sign = offset < 0 ? '-' : '+'
  const zone = offset === 0 ? 'UTC' : new Intl.DateTimeFormat('en', { timeZoneName: 'short' }).formatToParts(date).find(({ type }) => type === 'timeZoneName')!.value
  return `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())} ${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())} ${sign}${two(Math.floor(Math.abs(offset) / 60))}${two(Math.abs(offset) % 60)} ${zone}`
}

/** `name=value` filters as the API takes them: a JSON map of lists. Undefined where there are none. */
export function filtersOf(filters: readonly string[]): string | undefined {
  if (filters.length === 0) return undefined
  const map: Record<string, string[]> = {}
  for (const filter of filters) {
    const equals = filter.indexOf('=')
    if (equals < 0) throw new UsageError(`invalid argument ${JSON.stringify(filter)} for "-f, --filter" flag: invalid filter '${filter}'`)
    const name = filter.slice(0, equals).trim().toLowerCase()
    ;(map[name] ??= []).push(filter.slice(equals + 1).trim())
  }
  return JSON.stringify(map)
}
