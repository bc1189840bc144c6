import { readFileSync } from 'node:fs'
import { codeOf } from '../../lib/errors.ts'

/** One value for one control file. `tolerate` is for files that a kernel may lack. */
export interface Write { path: string, value: string, optional?: boolean }

/** Figures in bytes, nanoseconds and counts, from one reading of a cgroup's files. */
export interface CgroupStats {
  memory: { usage: number, maxUsage: number, limit: number, failures: number, stats: Record<string, number> }
  cpu: { total: number, kernel: number, user: number, perCpu: number[], periods: number, throttledPeriods: number, throttledTime: number }
  pids: { current: number, limit: number }
  blkio: { serviceBytes: IoEntry[], serviced: IoEntry[] }
}
export interface IoEntry { major: number, minor: number, op: string, value: number }

/** The text of a control file, or nothing where it is not there. */
export function read(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch (error) {
    if (['ENOENT', 'ENODEV', 'EOPNOTSUPP'].includes(codeOf(error) ?? '')) return ''
    throw error
  }
}

/** The number in a control file; `max` and what is above 2^53 read as infinity's stand-in, the largest int64. */
export function readNumber(path: string): number {
  const text = read(path).trim()
  return text === 'max' ? Number(0x7fffffffffffffffn) : Number(text || 0)
}

/** A control file of lines `name number`. */
export function readKeyed(path: string): Record<string, number> {
  const values: Record<string, number> = {}
  for (const line of read(path).split('\n')) {
    const [name, value] = line.split(' ')
    if (name && value) values[name] = Number(value)
  }
  return values
}
