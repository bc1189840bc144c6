import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'

/** How many bytes of buffers may have passed before those that nobody has any more are given back. */
const PASSING = 3 << 20

type Collect = (options?: { type: 'minor' | 'major' }) => void

let known: Collect | undefined

function collect(type: 'minor' | 'major'): void {
  if (!known) {
    setFlagsFromString('--expose-gc') // of the whole process, and so never taken back: another thread may be at this line
    known = runInNewContext('gc') as Collect
  }
  known({ type })
}

/** Counts bytes that pass through this process in buffers of their own, and has the young garbage collected now and then:
 * V8 lets some sixty megabytes of them pile up before it does so by itself, since it sees only their handles. A collection
 * takes a fraction of a millisecond. */
export class Passing {
  #bytes = 0

  pass(bytes: number): void {
    this.#bytes += bytes
    if (this.#bytes < PASSING) return
    this.#bytes = 0
    collect('minor')
  }
}

/** Gives back the buffers of work that is over, where this thread has got more than `limit` bytes of them. It takes some
 * milliseconds. */
export function dropBuffers(limit: number): void {
  if (process.memoryUsage().arrayBuffers > limit) collect('major')
}
