import { mkdirSync, renameSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { randomBytes } from 'node:crypto'
import { codeOf } from './errors.ts'

/** Where directory trees go that are deleted: they disappear at once, by a rename, and their blocks are given back one
 * tree after the other in the background. What a crash leaves is for `empty`. */
export class Trash {
  readonly #directory: string
  readonly #warn: (message: string, error: unknown) => void
  #work: Promise<void> = Promise.resolve()

  /** `directory` must be on the file system of what is thrown away. */
  constructor(directory: string, warn: (message: string, error: unknown) => void) {
    this.#directory = directory
    this.#warn = warn
    mkdirSync(directory, { recursive: true, mode: 0o700 })
  }

  /** Makes a tree disappear; one that is not there is no error. */
  put(path: string): void {
    const grave = join(this.#directory, randomBytes(8).toString('hex'))
    try {
      renameSync(path, grave)
    } catch (error) {
      if (codeOf(error) === 'ENOENT') return
      throw error
    }
    this.#delete(grave)
  }

  /** Deletes what earlier runs left. */
  async empty(): Promise<void> {
    await rm(this.#directory, { recursive: true, force: true })
    mkdirSync(this.#directory, { recursive: true, mode: 0o700 })
  }

  /** Resolves when all that has been put here is deleted. */
  settled(): Promise<void> {
    return this.#work
  }

  #delete(grave: string): void {
    this.#work = this.#work.then(() => rm(grave, { recursive: true, force: true, maxRetries: 3 })).catch((error: unknown) => this.#warn(`can't delete ${grave}; it is tried again when the engine starts`, error))
  }
}
