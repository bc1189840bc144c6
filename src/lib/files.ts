import { closeSync, fsyncSync, openSync, readFileSync, renameSync, writeFileSync, writeSync } from 'node:fs'
import { rm, rename, mkdir } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { randomBytes } from 'node:crypto'
import { codeOf } from './errors.ts'

/** Replaces a file so that a reader, or a machine that lost power, sees the old or the new content, never a mixture. */
export function writeFileAtomic(path: string, data: string | Uint8Array, mode = 0o600): void {
  const temporary = `${path}.${randomBytes(4).toString('hex')}.tmp`
  const fd = openSync(temporary, 'wx', mode)
  try {
    writeSync(fd, data as Uint8Array)
    fsyncSync(fd)
  } finally {
    closeSync(fd)
  }
  renameSync(temporary, path)
  const directory = openSync(dirname(path), 'r')
  try {
    fsyncSync(directory)
  } finally {
    closeSync(directory)
  }
}

/** The text of a file, or undefined where there is none. */
export function readIfThere(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8')
  } catch (error) {
    if (codeOf(error) === 'ENOENT' || codeOf(error) === 'ENOTDIR') return undefined
    throw error
  }
}

/** Makes a directory tree disappear at once by renaming it into `trash`, then deletes it there. */
export async function discard(path: string, trash: string): Promise<void> {
  await mkdir(trash, { recursive: true, mode: 0o700 })
  const grave = join(trash, randomBytes(8).toString('hex'))
  try {
    await rename(path, grave)
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return
    throw error
  }
  await rm(grave, { recursive: true, force: true, maxRetries: 3 })
}

/** Writes a small kernel or run-time file without the ceremony of an atomic replacement. */
export function writeFile(path: string, data: string): void {
  writeFileSync(path, data)
}
