import { mkdirSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { codeOf } from '../lib/errors.ts'
import { readIfThere, unlinkIfThere, writeFileAtomic } from '../lib/files.ts'
import type { Edge, EntityKind } from './graphdb.ts'

/** What a copy has: an entity's body, the edges that leave it, and its names. */
export interface Copy { body: unknown, edges: Edge[] }

/** Copies of entities: a JSON file each, in a directory for each kind. */
export class Copies {
  readonly #root: string

  constructor(root: string) {
    this.#root = root
  }

  /** A file of an entity's; an id may have any character but NUL. */
  #path(kind: EntityKind, id: string): string {
    return join(this.#root, kind, `${encodeURIComponent(id)}.json`)
  }

  write(kind: EntityKind, id: string, copy: Copy): void {
    const write = (): void => writeFileAtomic(this.#path(kind, id), JSON.stringify(copy), { durable: false })
    try {
      write()
    } catch (error) {
      if (codeOf(error) !== 'ENOENT') throw error
      mkdirSync(join(this.#root, kind), { recursive: true, mode: 0o700 })
      write()
    }
  }

  remove(kind: EntityKind, id: string): void {
    unlinkIfThere(this.#path(kind, id))
  }

  ids(kind: EntityKind): string[] {
    try {
      return readdirSync(join(this.#root, kind)).filter((name) => name.endsWith('.json')).map((name) => decodeURIComponent(name.slice(0, -'.json'.length)))
    } catch (error) {
      if (codeOf(error) === 'ENOENT') return []
      throw error
    }
  }

  /** A copy, or undefined for one that is not whole. */
  read(kind: EntityKind, id: string): Copy | undefined {
    try {
      return JSON.parse(readIfThere(this.#path(kind, id)) ?? '') as Copy
    } catch (error) {
      if (error instanceof SyntaxError) return undefined
      throw error
    }
  }
}
