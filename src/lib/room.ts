import { statfsSync } from 'node:fs'
import { system } from './errors.ts'

const STEP = 1 << 20
const LEAST = 8 << 20
const MOST = 256 << 20

/** Sees to it that what fills a disk with what others send leaves a hundredth of it, and between 8 and 256 MiB: those who
 * keep the books need room to write that it is full. */
export class Room {
  readonly #path: string
  #written = STEP

  /** `path` is anything on the disk. */
  constructor(path: string) {
    this.#path = path
  }

  /** Counts bytes that are about to be written. Throws `system` where they are too many. */
  take(bytes: number): void {
    this.#written += bytes
    if (this.#written < STEP) return
    this.#written = 0
    const { bavail, blocks, bsize } = statfsSync(this.#path)
    if (bavail * bsize < Math.min(MOST, Math.max(LEAST, blocks * bsize / 100))) throw system('no space left on device')
  }
}
