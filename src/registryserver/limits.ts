import { parseDuration } from '../lib/units.ts'
import { invalid } from '../lib/errors.ts'
import { refuse } from './answer.ts'

/** So many in so many milliseconds. */
export interface Rate { count: number, period: number }

/** Reads `100/6h`. */
export function parseRate(text: string): Rate {
  const [, count = '', period = ''] = /^(\d+)\/(.+)$/.exec(text) ?? []
  const milliseconds = parseDuration(/^\d/.test(period) ? period : `1${period}`)
  if (!Number(count) || !milliseconds) throw invalid(`invalid rate ${JSON.stringify(text)}: it is COUNT/DURATION, as in 100/6h or 50/s`)
  return { count: Number(count), period: milliseconds }
}

/** How many of those who ask are remembered. */
const MANY = 100_000

/** Lets everybody do something so often in any stretch of time, and says how often still, as Docker Hub does. */
export class RateLimit {
  readonly #rate: Rate
  readonly #buckets = new Map<string, { left: number, at: number }>()

  constructor(rate: Rate) {
    this.#rate = rate
  }

  /** Counts one of `who`. Returns headers for the answer; throws TOOMANYREQUESTS. */
  take(who: string, now = Date.now()): Record<string, string> {
    const { count, period } = this.#rate
    const before = this.#buckets.get(who) ?? { left: count, at: now }
    const left = Math.min(count, before.left + (now - before.at) / period * count)
    const window = Math.round(period / 1000)
    const headers = { 'RateLimit-Limit': `${count};w=${window}`, 'RateLimit-Remaining': `${Math.max(0, Math.floor(left - 1))};w=${window}` }
    this.#buckets.delete(who) // so that the map is in the order of the last use
    this.#buckets.set(who, { left: left < 1 ? left : left - 1, at: now })
    if (this.#buckets.size > MANY) this.#buckets.delete(this.#buckets.keys().next().value!)
    if (left >= 1) return headers
    throw refuse('TOOMANYREQUESTS', 'too many requests', { headers: { ...headers, 'Retry-After': String(Math.ceil((1 - left) * period / count / 1000)) } })
  }
}
