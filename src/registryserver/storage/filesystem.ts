import { mkdirSync } from 'node:fs'
import { lstat, mkdir, open, readFile, readdir, rename, rm, rmdir, stat, unlink, utimes } from 'node:fs/promises'
import { randomBytes } from 'node:crypto'
import { dirname, join } from 'node:path'
import { codeOf, conflict, messageOf, notFound, system } from '../../lib/errors.ts'
import { claimDirectory } from '../../sys/fs.ts'
import type { Appender, Storage } from './driver.ts'

const CHUNK = 256 << 10
const TEMPORARY = '.tmp-'

/** A registry's files in a directory. One process at a time may have it. */
export function openFileSystem(root: string): Storage {
  mkdirSync(root, { recursive: true, mode: 0o755 })
  if (!claimDirectory(root)) throw conflict(`the registry's directory ${root} is in use by another registry`)
  const at = (path: string): string => join(root, path)

  const failed = (what: string, path: string, error: unknown): Error => {
    if (codeOf(error) === 'ENOENT') return notFound(`${path} is not there`, error)
    return system(`${what} ${path}: ${codeOf(error) === 'ENOSPC' ? 'no space left on device' : messageOf(error)}`, error)
  }

  /** Makes a directory durable: its names, and those that lead to it as far as they are new. */
  const settle = async (directory: string, from = directory): Promise<void> => {
    for (let path = directory; path.startsWith(root); path = dirname(path)) {
      const handle = await open(path, 'r')
      try {
        await handle.sync()
      } finally {
        await handle.close()
      }
      if (path === from) break
    }
  }

  const makeDirectory = async (path: string): Promise<string> => {
    const first = await mkdir(path, { recursive: true })
    return first === undefined ? path : dirname(first)
  }

  return {
    name: 'filesystem',

    async get(path) {
      try {
        return await readFile(at(path))
      } catch (error) {
        if (['ENOENT', 'ENOTDIR', 'EISDIR'].includes(codeOf(error) ?? '')) return undefined
        throw failed('read', path, error)
      }
    },

    async put(path, data) {
      const target = at(path)
      const temporary = join(dirname(target), TEMPORARY + randomBytes(6).toString('hex'))
      try {
        const made = await makeDirectory(dirname(target))
        const file = await open(temporary, 'wx', 0o644)
        try {
          await file.writeFile(data)
          await file.sync()
        } finally {
          await file.close()
        }
        await rename(temporary, target)
        await settle(dirname(target), made)
      } catch (error) {
        await rm(temporary, { force: true })
        throw failed('write', path, error)
      }
    },

    async stat(path) {
      try {
        const { size, mtimeMs } = await stat(at(path))
        return { size, changed: mtimeMs }
      } catch (error) {
        if (['ENOENT', 'ENOTDIR'].includes(codeOf(error) ?? '')) return undefined
        throw failed('stat', path, error)
      }
    },

    async touch(path) {
      const now = new Date()
      try {
        await utimes(at(path), now, now)
      } catch (error) {
        throw failed('touch', path, error)
      }
    },

    async* read(path, start, end) {
      const file = await open(at(path), 'r').catch((error: unknown) => {
        throw failed('read', path, error)
      })
      try {
        // two buffers in turn: one is filled while the other is used
        const buffers = [CHUNK, CHUNK].map((size) => Buffer.allocUnsafeSlow(Math.min(size, Math.max(1, end - start))))
        const fill = (turn: number, position: number): Promise<{ bytesRead: number }> => {
          const filled = file.read(buffers[turn]!, 0, Math.min(buffers[turn]!.length, end - position), position)
          filled.catch(() => {}) // it is seen when its turn comes
          return filled
        }
        let next = start < end ? fill(0, start) : undefined
        for (let position = start, turn = 0; next; turn = 1 - turn) {
          const { bytesRead } = await next
          if (bytesRead === 0) throw system(`${path} ends after ${position} bytes`)
          position += bytesRead
          next = position < end ? fill(1 - turn, position) : undefined
          yield buffers[turn]!.subarray(0, bytesRead)
        }
        await next
      } finally {
        await file.close()
      }
    },

    async append(path): Promise<Appender> {
      try {
        await mkdir(dirname(at(path)), { recursive: true })
        const file = await open(at(path), 'a', 0o644)
        let { size: length } = await file.stat()
        return {
          get length() {
            return length
          },
          async write(data) {
            try {
              for (let done = 0; done < data.length;) {
                const { bytesWritten } = await file.write(data, done, data.length - done)
                length += bytesWritten
                done += bytesWritten
              }
            } catch (error) {
              throw failed('write', path, error)
            }
          },
          close: () => file.close(),
        }
      } catch (error) {
        throw failed('append to', path, error)
      }
    },

    async commit(from, to) {
      try {
        const file = await open(at(from), 'r')
        try {
          await file.sync()
        } finally {
          await file.close()
        }
        const made = await makeDirectory(dirname(at(to)))
        await rename(at(from), at(to))
        await settle(dirname(at(to)), made)
      } catch (error) {
        throw failed('move', from, error)
      }
    },

    async list(path) {
      try {
        return (await readdir(at(path))).filter((name) => !name.startsWith(TEMPORARY)).sort()
      } catch (error) {
        if (['ENOENT', 'ENOTDIR'].includes(codeOf(error) ?? '')) return []
        throw failed('list', path, error)
      }
    },

    async remove(path) {
      try {
        const status = await lstat(at(path)).catch((error: unknown) => {
          if (codeOf(error) !== 'ENOENT') throw error
        })
        if (status?.isDirectory()) await rm(at(path), { recursive: true, force: true })
        else if (status) await unlink(at(path))
        // directories that are empty now are there no more
        for (let directory = dirname(at(path)); directory.length > root.length; directory = dirname(directory)) await rmdir(directory)
      } catch (error) {
        if (!['ENOENT', 'ENOTEMPTY', 'EEXIST', 'ENOTDIR'].includes(codeOf(error) ?? '')) throw failed('remove', path, error)
      }
    },

    close: () => Promise.resolve(),
  }
}
