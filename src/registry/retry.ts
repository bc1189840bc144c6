import { setTimeout as sleep } from 'node:timers/promises'
import { isKind } from '../lib/errors.ts'
import { refusalOf } from './failure.ts'

export interface RetryOptions {
  /** How often it is tried in all. */
  attempts: number
  /** Milliseconds before the second try; they double with each. */
  delay?: number
  signal?: AbortSignal | undefined
  /** Told before each wait. */
  waiting?: (milliseconds: number, error: unknown) => void
  /** How far it is, in bytes say: what got further since starts counting anew. */
  progress?: () => number
}

/** How often a small request is tried, which fails fast: whoever waits can say it again. */
export const SMALL_ATTEMPTS = 3


const FIRST_DELAY = 250
const LONGEST_DELAY = 10_000
/** A server that wants to be left alone for longer is refused: whoever waits for the answer should hear of it. */
const LONGEST_WISH = 60_000
const MAX_TOO_MANY = 3

/** Does something that may fail for a moment again and again: what a connection broke, what a server could not do now, and
 * what it had too many of, for which it may say when to come again (RFC 9110, "Retry-After"). */
export async function retry<T>(work: (attempt: number) => Promise<T>, options: RetryOptions): Promise<T> {
  let failures = 0
  let furthest = options.progress?.() ?? 0
  let tooMany = 0
  for (let attempt = 1; ; attempt++) {
    try {
      return await work(attempt)
    } catch (error) {
      if (options.signal?.aborted) throw options.signal.reason
      const refusal = refusalOf(error)
      const progress = options.progress?.() ?? 0
      if (progress > furthest) failures = 0
      furthest = Math.max(furthest, progress)
      failures++
      if (refusal?.status === 429) tooMany++
      const again = isKind(error, 'unavailable') && failures < options.attempts && tooMany < MAX_TOO_MANY && (refusal?.retryAfter ?? 0) <= LONGEST_WISH
      if (!again) throw error
      const backOff = Math.min((options.delay ?? FIRST_DELAY) * 2 ** (failures - 1), LONGEST_DELAY)
      const wait = refusal?.retryAfter ?? backOff * (0.75 + Math.random() / 2) // those who failed together should not come back together
      options.waiting?.(wait, error)
      await sleep(wait, undefined, options.signal ? { signal: options.signal } : {}).catch(() => {
        throw options.signal!.reason
      })
    }
  }
}
