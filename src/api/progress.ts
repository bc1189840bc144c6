import { humanSize } from '../lib/units.ts'

/** A line of what a long request tells while it works (API: CreateImageInfo, PushImageInfo). */
export interface ProgressLine {
  id?: string
  status?: string
  stream?: string
  /** The bar, drawn, for clients that draw none. */
  progress?: string
  /** Bytes. */
  progressDetail?: { current?: number, total?: number }
  /** What a program wants to know of the result. */
  aux?: object
  error?: string
  errorDetail?: { message: string }
}

/** Who is told of progress. */
export type Report = (line: ProgressLine) => void

/** A bar as Docker draws it: `[=====>     ]  1.2MB/4MB`. */
export function bar(current: number, total: number, columns: number): string {
  if (!total || current > total) return current ? humanSize(current).padStart(8) : ''
  const width = columns > 110 ? 50 : 25
  const filled = Math.floor(current / total * width)
  const arrow = filled < width ? `${'='.repeat(filled)}>${' '.repeat(width - filled)}` : '='.repeat(width + 1)
  return `[${arrow.slice(0, width + 1)}]  ${humanSize(current).padStart(6)}/${humanSize(total)}`
}

/** A line about something whose size is known. */
export function progressOf(id: string, status: string, current: number, total: number): ProgressLine {
  return { id, status, progressDetail: { current, total }, progress: bar(current, total, 120) }
}
