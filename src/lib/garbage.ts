import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'

/** How many bytes of buffers may have passed before those that nobody has any more are given back. */
const PASSING = 8 << 20

type Collect = (options: { type: 'minor' }) => void

let collect: Collect | undefined

/** Counts bytes that pass through this process in buffers of their own, and has the young garbage collected now and then:
 * V8 lets some sixty megabytes of them pile up before it does so by itself, since it sees only their handles. A collection
 * takes a fraction of a millisecond. */
export class Passing {
  #bytes = 0

  pass(bytes: number): void {
    this.#bytes += bytes
    if (this.#bytes < PASSING) return
    this.#bytes = 0
    if (!collect) {
      setFlagsFromString('--expose-gc')
      collect = runInNewContext('gc') as Collect
      setFlagsFromString('--no-expose-gc')
    }
    collect({ type: 'minor' })
  }
}
