import { createReadStream, existsSync, mkdirSync, readdirSync, renameSync, statSync } from 'node:fs'
import { copyFile, rm, utimes } from 'node:fs/promises'
import { join } from 'node:path'
import type { Readable } from 'node:stream'
import type { ArchiveFile } from '../archive/archive.ts'
import { invalid } from '../lib/errors.ts'
import { randomName } from '../lib/ids.ts'
import { unlinkIfThere } from '../lib/files.ts'
import { checkDigest } from '../reference/reference.ts'
import { Ingest } from './ingest.ts'

/** A layer's archive as registries have it: mostly compressed. `size` is in bytes. */
export interface Blob { mediaType: string, digest: string, size: number }

/** How long what a broken transfer left waits for the next, in milliseconds. */
const KEEP = 24 * 3600_000

/** What the files begin with of blobs that are being made. */
const NAMELESS = 'new-'

/** Blobs by digest, in files: `blobs/ALGORITHM/HEX`. Those that are being fetched, and what is left of those that were, are
 * in `ingest`. */
export class Blobs {
  readonly #blobs: string
  readonly #ingest: string

  constructor(root: string) {
    this.#blobs = join(root, 'blobs')
    this.#ingest = join(root, 'ingest')
    for (const directory of [this.#blobs, this.#ingest]) mkdirSync(directory, { recursive: true, mode: 0o700 })
  }

  #path(digest: string): string {
    checkDigest(digest) // it becomes a path
    return join(this.#blobs, ...digest.split(':'))
  }

  has(digest: string): boolean {
    return existsSync(this.#path(digest))
  }

  open(digest: string): Readable {
    return createReadStream(this.#path(digest), { highWaterMark: 1 << 20 })
  }

  /** A blob as what is unpacked. */
  file(digest: string): ArchiveFile {
    return { path: this.#path(digest) }
  }

  /** As `open`, from a byte on, up to before another. */
  slice(digest: string, start: number, end: number): Readable {
    return createReadStream(this.#path(digest), { start, end: end - 1, highWaterMark: 256 << 10 })
  }

  size(digest: string): number {
    return statSync(this.#path(digest)).size
  }

  /** Begins, or goes on with, the file of a blob whose digest is known. One at a time may do so. */
  async begin(digest: string): Promise<Ingest> {
    checkDigest(digest)
    const ingest = await Ingest.open(join(this.#ingest, digest.replace(':', '-')), digest.split(':')[0]!)
    const now = new Date()
    await utimes(ingest.path, now, now)
    return ingest
  }

  /** Begins the file of a blob that nobody knows yet. */
  make(): Promise<Ingest> {
    return Ingest.open(join(this.#ingest, NAMELESS + randomName()), 'sha256')
  }

  /** Takes a copy of a file over as a blob, if it is what the digest says. */
  async adopt(path: string, digest: string): Promise<void> {
    checkDigest(digest)
    if (this.has(digest)) return
    const copy = join(this.#ingest, NAMELESS + randomName())
    await copyFile(path, copy)
    await using ingest = await Ingest.open(copy, digest.split(':')[0]!)
    if (ingest.digest() === digest) return this.commit(ingest, digest)
    this.drop(ingest)
    throw invalid(`invalid archive: ${digest} is really ${ingest.digest()}`)
  }

  /** Drops what an ingest has. */
  drop(ingest: Ingest): void {
    unlinkIfThere(ingest.path)
  }

  /** Takes a whole and verified file over as a blob. It may be lost with the power until its file system has been synced. */
  commit(ingest: Ingest, digest: string): void {
    const path = this.#path(digest)
    mkdirSync(join(path, '..'), { recursive: true, mode: 0o700 })
    renameSync(ingest.path, path)
  }

  async remove(digest: string): Promise<void> {
    await rm(this.#path(digest), { force: true })
  }

  /** Puts blobs that nobody wants back among those being fetched, where they are verified before use: they are what a crash,
   * or a pull that was given up, left. Old ones are deleted. */
  sweep(wanted: (digest: string) => boolean): void {
    for (const algorithm of readdirSync(this.#blobs))
      for (const hex of readdirSync(join(this.#blobs, algorithm)))
        if (!wanted(`${algorithm}:${hex}`)) renameSync(join(this.#blobs, algorithm, hex), join(this.#ingest, `${algorithm}-${hex}`))
    for (const name of readdirSync(this.#ingest)) {
      const path = join(this.#ingest, name)
      if (name.startsWith(NAMELESS) || statSync(path).mtimeMs < Date.now() - KEEP) unlinkIfThere(path)
    }
  }

  /** Deletes what nobody wants: of transfers that were given up. Returns the bytes that this gave back. */
  prune(wanted: (digest: string) => boolean): number {
    let freed = 0
    const prune = (path: string, digest: string): void => {
      if (wanted(digest)) return
      freed += statSync(path, { throwIfNoEntry: false })?.size ?? 0
      unlinkIfThere(path)
    }
    for (const algorithm of readdirSync(this.#blobs)) for (const hex of readdirSync(join(this.#blobs, algorithm))) prune(join(this.#blobs, algorithm, hex), `${algorithm}:${hex}`)
    for (const name of readdirSync(this.#ingest)) if (!name.startsWith(NAMELESS)) prune(join(this.#ingest, name), name.replace('-', ':'))
    return freed
  }
}
