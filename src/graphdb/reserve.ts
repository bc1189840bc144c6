import { statSync, truncateSync, writeFileSync } from 'node:fs'
import { randomBytes } from 'node:crypto'
import { codeOf } from '../lib/errors.ts'

/** Bytes that are kept. */
const SIZE = 1 << 20
/** How a full disk shows; Node has no name for EDQUOT. */
const full = new Set(['ENOSPC', 'UNKNOWN'])
/** Milliseconds until it is tried again to take room that was given up. */
const PAUSE = 5000

/** Room on a disk, kept by a file for the time when there is no other: on a full disk something must still be removed, and
 * that takes a little room itself. */
export class Reserve {
  readonly #path: string
  #held = false
  #tried = -PAUSE

  constructor(path: string) {
    this.#path = path
    this.#held = (statSync(path, { throwIfNoEntry: false })?.size ?? 0) >= SIZE
    this.keep()
  }

  /** Takes the room, where it is not held and there is some. */
  keep(): void {
    if (this.#held || performance.now() - this.#tried < PAUSE) return
    this.#tried = performance.now()
    try {
      writeFileSync(this.#path, randomBytes(SIZE), { mode: 0o600 }) // a file system could compress zeros away
      this.#held = true
    } catch (error) {
      if (!full.has(codeOf(error) ?? '')) throw error
      truncateSync(this.#path, 0)
    }
  }

  /** Gives the room up. */
  release(): void {
    if (!this.#held) return
    truncateSync(this.#path, 0)
    this.#held = false
    this.#tried = performance.now()
  }
}
