import { closeSync, fsyncSync, openSync, readFileSync, renameSync, unlinkSync, writeFileSync } from 'node:fs'
import { lstat, readdir } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { randomBytes } from 'node:crypto'
import { codeOf } from './errors.ts'

/** Replaces a file so that a reader, or a machine that lost power, sees the old or the new content, never a mixture. One
 * that is not `durable` costs a tenth, and may be lost, or empty, with the power. */
export function writeFileAtomic(path: string, data: string | Uint8Array, { durable = true }: { durable?: boolean } = {}): void {
  const temporary = `${path}.${randomBytes(4).toString('hex')}.tmp`
  const fd = openSync(temporary, 'wx', 0o600)
  try {
    writeFileSync(fd, data)
    if (durable) fsyncSync(fd)
  } catch (error) {
    unlinkSync(temporary)
    throw error
  } finally {
    closeSync(fd)
  }
  renameSync(temporary, path)
  if (!durable) return
  const directory = openSync(dirname(path), 'r')
  try {
    fsyncSync(directory)
  } finally {
    closeSync(directory)
  }
}

const MISSING = new Set(['ENOENT', 'ENOTDIR', 'ESRCH']) // the last: a file of a process that has ended meanwhile (proc(5))

/** The text of a file, or undefined where there is none. */
export function readIfThere(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8')
  } catch (error) {
    if (MISSING.has(codeOf(error) ?? '')) return undefined
    throw error
  }
}

/** Removes a file that may be gone already. */
export function unlinkIfThere(path: string): void {
  try {
    unlinkSync(path)
  } catch (error) {
    if (codeOf(error) !== 'ENOENT') throw error
  }
}

/** Bytes of the files in a tree. What goes meanwhile does not count. */
export async function treeSize(directory: string): Promise<number> {
  let size = 0
  for (const entry of (await readdir(directory, { withFileTypes: true }).catch(gone)) ?? []) {
    const path = join(directory, entry.name)
    if (entry.isDirectory()) size += await treeSize(path)
    else if (entry.isFile()) size += (await lstat(path).catch(gone))?.size ?? 0
  }
  return size
}

function gone(error: unknown): undefined {
  if (codeOf(error) !== 'ENOENT') throw error
}
