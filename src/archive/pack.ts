import { closeSync, readdirSync, readSync, writeSync } from 'node:fs'
import { createHash, type Hash } from 'node:crypto'
import { system } from '../lib/errors.ts'
import { containerIdOf, type IdMaps } from '../lib/idmap.ts'
import { syscall } from '../sys/ffi.ts'
import { errno, strerror } from '../sys/errno.ts'
import { O_CLOEXEC, O_DIRECTORY, O_NOFOLLOW, O_PATH, S_IFMT, fileTypes, openInRoot, readLinkAt, statusAt, type Status } from '../sys/fs.ts'
import { nr } from '../sys/syscalls.ts'
import { keptAttributes } from './attributes.ts'
import { BLOCK, TRAILER, encodeEntry, paddedSize, type Entry, type EntryType } from './tar.ts'
import type { Change } from './changes.ts'

export interface PackOptions {
  /** The path in the tree to begin at; `/` is the whole tree. A link there is followed only before a slash. */
  path?: string
  /** The name of that path in the archive; '' puts a directory's content at the archive's root. */
  as?: string
  /** Only these paths, and whiteouts for what they say is deleted: a layer. */
  changes?: readonly Change[]
  /** The tree is seen through a user namespace of these maps, and the archive is to have its owners. */
  idMaps?: IdMaps | undefined
  /** Of the mounts below the path, only these (statx(2), `stx_mnt_id`), and what is mounted in them, are more than an empty
   * directory. */
  mounts?: readonly number[]
  digest?: boolean
}

export interface Packed { digest?: string, size: number }

const types = new Map<number, EntryType>([
  [fileTypes.directory, 'directory'], [fileTypes.file, 'file'], [fileTypes.symlink, 'symlink'],
  [fileTypes.char, 'char'], [fileTypes.block, 'block'], [fileTypes.fifo, 'fifo'],
])

/** Writes an archive of (a part of) the tree at `root` to descriptor `fd`, synchronously: it belongs on a worker thread.
 * Names are in byte order, so that equal trees give equal archives. Sockets are left out, as tar(1) does. */
export function pack(fd: number, root: number, options: PackOptions): Packed {
  const packer = new Packer(fd, options)
  if (options.changes) packer.changes(root, options.changes)
  else packer.tree(root, options.path ?? '/', options.as ?? '')
  return packer.end()
}

const bytes = (name: string): Buffer => Buffer.from(name + '\0', 'latin1')

class Packer {
  readonly #fd: number
  readonly #options: PackOptions
  readonly #hash: Hash | undefined
  readonly #buffer: Buffer = Buffer.allocUnsafe(1 << 20)
  #filled = 0
  #size = 0
  readonly #links = new Map<string, string>()

  constructor(fd: number, options: PackOptions) {
    this.#fd = fd
    this.#options = options
    this.#hash = options.digest ? createHash('sha256') : undefined
  }

  end(): Packed {
    this.#put(TRAILER)
    this.#flush()
    return { size: this.#size, ...(this.#hash && { digest: 'sha256:' + this.#hash.digest('hex') }) }
  }

  tree(root: number, path: string, as: string): void {
    const inside = './' + path.replace(/^\/+/, '')
    const fd = openInRoot(root, Buffer.from(inside.replace(/\/$/, '') || '.', 'latin1'), O_PATH | (inside.endsWith('/') ? 0 : O_NOFOLLOW))
    if (fd < 0) throw system(`open ${path}: ${strerror(-fd)}`)
    try {
      const status = statusAt(fd, '')
      if (typeof status === 'number') throw system(`stat ${path}: ${strerror(-status)}`)
      if ((status.mode & S_IFMT) === fileTypes.directory) {
        const directory = syscall(nr('openat'), fd, bytes('.'), O_DIRECTORY | O_CLOEXEC)
        if (directory < 0) throw system(`open ${path}: ${strerror(-directory)}`)
        try {
          if (as !== '') this.#entry(fd, '', as, status)
          this.#children(directory, as === '' ? '' : `${as}/`, status.mount)
        } finally {
          closeSync(directory)
        }
      } else this.#entry(fd, '', as || path.split('/').at(-1)!, status)
    } finally {
      closeSync(fd)
    }
  }

  changes(root: number, changes: readonly Change[]): void {
    for (const { path, kind } of [...changes].sort((a, b) => (a.path < b.path ? -1 : a.path > b.path ? 1 : 0))) {
      const slash = path.lastIndexOf('/')
      const directory = path.slice(1, slash + 1)
      const name = path.slice(slash + 1)
      if (kind === 'deleted') {
        this.#put(encodeEntry(blank(`${directory}.wh.${name}`)))
        continue
      }
      const parent = openInRoot(root, Buffer.from('./' + directory, 'latin1'), 0o10000000 | O_DIRECTORY)
      if (parent < 0) continue // gone meanwhile
      try {
        const status = statusAt(parent, name)
        if (typeof status !== 'number') this.#entry(parent, name, directory + name, status)
      } finally {
        closeSync(parent)
      }
    }
  }

  #children(directory: number, prefix: string, mount: number): void {
    const { mounts } = this.#options
    for (const name of readdirSync(`/proc/self/fd/${directory}`, 'latin1').sort()) {
      const status = statusAt(directory, name)
      if (typeof status === 'number') continue // gone meanwhile
      this.#entry(directory, name, prefix + name, status)
      if ((status.mode & S_IFMT) !== fileTypes.directory) continue
      if (mounts && status.mount !== mount && !mounts.includes(status.mount) && !mounts.includes(mount)) continue
      const child = syscall(nr('openat'), directory, bytes(name), O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
      if (child < 0) continue
      try {
        this.#children(child, `${prefix}${name}/`, mounts?.includes(mount) ? mount : status.mount)
      } finally {
        closeSync(child)
      }
    }
  }

  /** `name` is '' for the descriptor itself. */
  #entry(parent: number, name: string, as: string, status: Status): void {
    const type = types.get(status.mode & S_IFMT)
    if (!type) return
    const { idMaps } = this.#options
    const entry: Entry = {
      type, name: type === 'directory' ? `${as}/` : as, linkName: type === 'symlink' ? readLinkAt(parent, name) : '', mode: status.mode & 0o7777,
      uid: idMaps ? containerIdOf(idMaps.uids, status.uid) : status.uid, gid: idMaps ? containerIdOf(idMaps.gids, status.gid) : status.gid, userName: '', groupName: '',
      size: type === 'file' ? status.size : 0, mtime: { seconds: status.seconds, nanoseconds: status.nanoseconds },
      major: type === 'char' || type === 'block' ? status.major : 0, minor: type === 'char' || type === 'block' ? status.minor : 0,
      attributes: new Map(),
    }
    if (type === 'file' && status.links > 1) {
      const key = `${status.device}/${status.inode}`
      const first = this.#links.get(key)
      if (first !== undefined) {
        this.#put(encodeEntry({ ...entry, type: 'link', linkName: first, size: 0 }))
        return
      }
      this.#links.set(key, as)
    }
    if (type !== 'file') {
      if (type === 'directory') entry.attributes = keptAttributes(name === '' ? `/proc/self/fd/${parent}/.` : `/proc/self/fd/${parent}/${name}`)
      this.#put(encodeEntry(entry))
      return
    }
    const fd = name === ''
      ? syscall(nr('openat'), -100, `/proc/self/fd/${parent}`, O_CLOEXEC | 0o4000)
      : syscall(nr('openat'), parent, bytes(name), O_NOFOLLOW | O_CLOEXEC | 0o4000)
    if (fd === -errno.ENOENT || fd === -errno.ELOOP) return // gone, or replaced by a link, meanwhile
    if (fd < 0) throw system(`open ${as}: ${strerror(-fd)}`)
    try {
      entry.attributes = keptAttributes(`/proc/self/fd/${fd}`, true)
      this.#put(encodeEntry(entry))
      this.#content(fd, entry.size)
    } finally {
      closeSync(fd)
    }
  }

  /** Exactly `size` bytes: a file that shrinks meanwhile is filled up with zeros, one that grows is cut. */
  #content(fd: number, size: number): void {
    let left = size
    while (left > 0) {
      if (this.#filled === this.#buffer.length) this.#flush()
      const n = readSync(fd, this.#buffer, this.#filled, Math.min(left, this.#buffer.length - this.#filled), null)
      if (n === 0) break
      this.#filled += n
      left -= n
    }
    for (left += paddedSize(size) - size; left > 0;) {
      const zeros = Math.min(left, BLOCK)
      this.#put(Buffer.alloc(zeros))
      left -= zeros
    }
  }

  #put(data: Buffer): void {
    if (this.#filled + data.length > this.#buffer.length) this.#flush()
    if (data.length > this.#buffer.length) return this.#write(data)
    data.copy(this.#buffer, this.#filled)
    this.#filled += data.length
  }

  #flush(): void {
    this.#write(this.#buffer.subarray(0, this.#filled))
    this.#filled = 0
  }

  #write(data: Buffer): void {
    this.#hash?.update(data)
    this.#size += data.length
    for (let done = 0; done < data.length;) done += writeSync(this.#fd, data, done, data.length - done)
  }
}

function blank(name: string): Entry {
  return {
    type: 'file', name, linkName: '', mode: 0o600, uid: 0, gid: 0, userName: '', groupName: '', size: 0, mtime: { seconds: 0, nanoseconds: 0 },
    major: 0, minor: 0, attributes: new Map(),
  }
}
