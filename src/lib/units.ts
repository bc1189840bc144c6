import { invalid } from './errors.ts'

const factors: Record<string, number> = { '': 1, b: 1, k: 1024, m: 1024 ** 2, g: 1024 ** 3, t: 1024 ** 4, p: 1024 ** 5 }

/** Bytes from a size as people write it, in powers of 1024: `512m`, `1.5g`, `64kb`, `1GiB`. */
export function parseSize(text: string): number {
  const match = /^(\d+(?:\.\d+)?) ?([bkmgtp]?)(?:i?b)?$/i.exec(text.trim())
  if (!match) throw invalid(`invalid size: '${text}'`)
  return Math.floor(Number(match[1]) * factors[match[2]!.toLowerCase()]!)
}

/** A size with four significant digits in powers of 1000, as `docker images` prints it: 1.24MB. */
export function humanSize(bytes: number): string {
  return human(bytes, 1000, ['B', 'kB', 'MB', 'GB', 'TB', 'PB', 'EB'], 3)
}

/** In powers of 1024, as `docker stats` prints it: 7.629MiB. */
export function binarySize(bytes: number): string {
  return human(bytes, 1024, ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB', 'EiB'], 4)
}

function human(bytes: number, base: number, units: readonly string[], digits: number): string {
  let value = bytes
  let unit = 0
  while (value >= base && unit < units.length - 1) {
    value /= base
    unit++
  }
  return String(Number(value.toPrecision(digits))) + units[unit]
}

/** A span of time as people say it: `5 minutes`, as in Docker's "Up 5 minutes". */
export function humanDuration(milliseconds: number): string {
  const seconds = Math.floor(milliseconds / 1000)
  if (seconds < 1) return 'Less than a second'
  if (seconds === 1) return '1 second'
  if (seconds < 60) return `${seconds} seconds`
  const minutes = Math.floor(seconds / 60)
  if (minutes === 1) return 'About a minute'
  if (minutes < 60) return `${minutes} minutes`
  const hours = Math.floor(minutes / 60 + 0.5)
  if (hours === 1) return 'About an hour'
  if (hours < 48) return `${hours} hours`
  if (hours < 24 * 7 * 2) return `${Math.floor(hours / 24)} days`
  if (hours < 24 * 30 * 2) return `${Math.floor(hours / 24 / 7)} weeks`
  if (hours < 24 * 365 * 2) return `${Math.floor(hours / 24 / 30)} months`
  return `${Math.floor(hours / 24 / 365)} years`
}

/** Milliseconds from a Go duration (`1h30m`, `1.5s`), or undefined. */
export function parseDuration(text: string): number | undefined {
  const units: Record<string, number> = { ns: 1e-6, us: 1e-3, 'µs': 1e-3, ms: 1, s: 1000, m: 60_000, h: 3_600_000 }
  const match = /^(?:\d+(?:\.\d+)?(?:ns|us|µs|ms|s|m|h))+$/.exec(text)
  if (!match) return undefined
  let total = 0
  for (const [, value, unit] of text.matchAll(/(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)/g)) total += Number(value) * units[unit!]!
  return total
}

/** Milliseconds since 1970 from what Docker's `since` and `until` take: a unix time with a fraction, RFC 3339, or a
 * duration before now. */
export function parseTime(text: string, now: number): number {
  if (/^\d+(\.\d+)?$/.test(text)) return Number(text) * 1000
  const duration = parseDuration(text)
  if (duration !== undefined) return now - duration
  const time = Date.parse(text)
  if (Number.isNaN(time)) throw invalid(`failed to parse value as time or duration: ${JSON.stringify(text)}`)
  return time
}

/** A duration as Go's clients write it: `300ms`, `1.5s`, `1m30s`, `2h0m0s`. */
export function goDuration(milliseconds: number): string {
  if (milliseconds < 1000) return `${milliseconds}ms`
  const [hours, minutes, seconds] = [Math.floor(milliseconds / 3600_000), Math.floor(milliseconds / 60_000) % 60, milliseconds / 1000 % 60]
  return `${hours ? `${hours}h` : ''}${hours || minutes ? `${minutes}m` : ''}${seconds}s`
}
