import { mkdirSync, readdirSync, renameSync, rmdirSync, unlinkSync } from 'node:fs'
import { readdir, rm, rmdir, unlink } from 'node:fs/promises'
import { join } from 'node:path'
import { codeOf } from './errors.ts'

const DELAY = 50
const FEW = 100

/** Where directory trees go that are deleted: they disappear at once, by a rename, and their blocks are given back a
 * little later, when whoever asked has got the answer. What a crash leaves is for `empty`. */
export class Trash {
  readonly #directory: string
  readonly #warn: (message: string, error: unknown) => void
  #graves: string[] = []
  #work: Promise<void> | undefined
  #count = 0

  /** `directory` must be on the file system of what is thrown away. */
  constructor(directory: string, warn: (message: string, error: unknown) => void) {
    this.#directory = directory
    this.#warn = warn
    mkdirSync(directory, { recursive: true, mode: 0o700 })
  }

  /** Makes a tree disappear; one that is not there is no error. */
  put(path: string): void {
    const grave = join(this.#directory, `${process.pid}-${this.#count++}`)
    try {
      renameSync(path, grave)
    } catch (error) {
      if (codeOf(error) === 'ENOENT') return
      throw error
    }
    this.#graves.push(grave)
    this.#work ??= this.#deleteAll()
  }

  /** Deletes what earlier runs left. */
  async empty(): Promise<void> {
    await rm(this.#directory, { recursive: true, force: true })
    mkdirSync(this.#directory, { recursive: true, mode: 0o700 })
  }

  /** Resolves when all that has been put here is deleted. */
  async settled(): Promise<void> {
    await this.#work
  }

  async #deleteAll(): Promise<void> {
    await new Promise((resolve) => setTimeout(resolve, DELAY))
    for (let grave = this.#graves.shift(); grave !== undefined; grave = this.#graves.shift()) {
      try {
        // what a container leaves is mostly a dozen files: to delete those at once is cheaper than to have it done
        if (!deleteFew(grave, { left: FEW })) await deleteMany(grave)
      } catch (error) {
        this.#warn(`can't delete ${grave}; it is tried again when the engine starts`, error)
      }
      await new Promise((resolve) => setImmediate(resolve))
    }
    this.#work = undefined
  }
}

/** Deletes a tree, one entry after the other: `rm` of Node begins with all of a directory's at once, which takes memory. */
async function deleteMany(path: string): Promise<void> {
  for (const entry of await readdir(path, { withFileTypes: true })) {
    const child = join(path, entry.name)
    await (entry.isDirectory() ? deleteMany(child) : unlink(child))
  }
  await rmdir(path)
}

/** Deletes a tree unless it has too many entries; false where something is left. */
function deleteFew(path: string, budget: { left: number }): boolean {
  const entries = readdirSync(path, { withFileTypes: true })
  budget.left -= entries.length
  if (budget.left < 0) return false
  for (const entry of entries) {
    const child = join(path, entry.name)
    if (!entry.isDirectory()) unlinkSync(child)
    else if (!deleteFew(child, budget)) return false
  }
  rmdirSync(path)
  return true
}
