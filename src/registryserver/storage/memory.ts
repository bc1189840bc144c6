import { notFound } from '../../lib/errors.ts'
import type { Storage } from './driver.ts'

/** A registry's files in memory: for trying it out, and gone with the process. */
export function openMemory(): Storage {
  const files = new Map<string, { pieces: Buffer[], size: number, changed: number }>()
  const known = (path: string): { pieces: Buffer[], size: number, changed: number } => {
    const file = files.get(path)
    if (!file) throw notFound(`${path} is not there`)
    return file
  }
  return {
    name: 'memory',
    get: async (path) => files.has(path) ? Buffer.concat(known(path).pieces) : undefined,
    async put(path, data) {
      files.set(path, { pieces: [Buffer.from(data)], size: data.length, changed: Date.now() })
    },
    async stat(path) {
      const file = files.get(path)
      return file && { size: file.size, changed: file.changed }
    },
    async touch(path) {
      known(path).changed = Date.now()
    },
    async* read(path, start, end) {
      let at = 0
      for (const piece of known(path).pieces) {
        const wanted = piece.subarray(Math.max(0, start - at), Math.max(0, end - at))
        if (wanted.length) yield wanted
        at += piece.length
      }
    },
    async append(path) {
      const file = files.get(path) ?? { pieces: [], size: 0, changed: Date.now() }
      files.set(path, file)
      return {
        get length() {
          return file.size
        },
        async write(data) {
          file.pieces.push(Buffer.from(data))
          file.size += data.length
          file.changed = Date.now()
        },
        close: async () => {},
      }
    },
    async commit(from, to) {
      const file = known(from)
      files.set(to, file)
      files.delete(from)
    },
    async list(path) {
      const prefix = path === '' ? '' : `${path}/`
      return [...new Set([...files.keys()].filter((name) => name.startsWith(prefix)).map((name) => name.slice(prefix.length).split('/', 1)[0]!))].sort()
    },
    async remove(path) {
      for (const name of files.keys()) if (name === path || name.startsWith(`${path}/`)) files.delete(name)
    },
    close: async () => files.clear(),
  }
}
