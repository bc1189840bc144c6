import { closeSync, fchmodSync, fchownSync, ftruncateSync, readdirSync } from 'node:fs'
import { createHash, type Hash } from 'node:crypto'
import { invalid, system } from '../lib/errors.ts'
import { hostIdOf, rootOf, type IdMaps } from '../lib/idmap.ts'
import { Room } from '../lib/room.ts'
import { syscall } from '../sys/ffi.ts'
import { errno, errnoError, strerror } from '../sys/errno.ts'
import { O_CLOEXEC, O_DIRECTORY, O_NOFOLLOW, O_PATH, S_IFMT, fileTypes, makeDevice, openInRoot, setAttribute, statusAt, writeAt } from '../sys/fs.ts'
import { nr } from '../sys/syscalls.ts'
import { actAs } from '../sys/usernamespace.ts'
import { decompressed, type Bytes } from './bytes.ts'
import { paddedSize, readEntry, type BlockSource, type Entry } from './tar.ts'
import { SplitWriter } from './split.ts'

export interface UnpackOptions {
  /** What `.wh.` entries become: overlayfs's marks, deletions in the tree that is there, or ordinary files. */
  whiteouts: 'overlay' | 'delete' | 'keep'
  /** Refuse to put a directory in the place of a file, or a file in the place of a directory. */
  keepKinds?: boolean
  /** What the archive has as `from` is unpacked as `to`. */
  rename?: { from: string, to: string }
  /** Everything belongs to this user and group; otherwise owners are the archive's. */
  owner?: { uid: number, gid: number }
  /** The tree is seen through a user namespace of these maps, and the archive has its owners. */
  idMaps?: IdMaps | undefined
  /** Stop before the disk is full to its last byte. */
  leaveRoom?: boolean
  /** Hash the archive's bytes. */
  digest?: boolean
  /** Write all of the archive that is not file content to this file, so that `replay` can write the archive again, byte
   * for byte, from the tree. */
  split?: string
}

export interface Unpacked {
  /** `sha256:…` of the archive, if asked for: a layer's diff ID. */
  digest?: string
  /** Bytes of all files' contents. */
  size: number
  entries: number
}

const WINDOW = 1 << 20

/** An archive read window by window. */
class WindowedSource implements BlockSource {
  readonly #from: Bytes
  readonly #hash: Hash | undefined
  #window: Buffer = Buffer.allocUnsafe(WINDOW)
  #start = 0
  #end = 0

  readonly #split: SplitWriter | undefined

  constructor(from: Bytes, hash: Hash | undefined, split: SplitWriter | undefined) {
    this.#from = from
    this.#hash = hash
    this.#split = split
  }

  #fill(least: number): boolean {
    if (this.#start > 0) {
      this.#window.copy(this.#window, 0, this.#start, this.#end)
      this.#end -= this.#start
      this.#start = 0
    }
    if (least > this.#window.length) {
      const larger = Buffer.allocUnsafe(least)
      this.#window.copy(larger, 0, 0, this.#end)
      this.#window = larger
    }
    while (this.#end < least) {
      const n = this.#from.read(this.#window, this.#end, this.#window.length - this.#end)
      if (n === 0) return false
      this.#hash?.update(this.#window.subarray(this.#end, this.#end + n))
      this.#end += n
    }
    return true
  }

  read(length: number): Buffer | undefined {
    if (this.#end - this.#start < length && !this.#fill(length)) {
      if (this.#end === this.#start) return undefined
      throw invalid('archive/tar: unexpected EOF')
    }
    const data = this.#window.subarray(this.#start, this.#start + length)
    this.#start += length
    this.#split?.raw(data)
    return data
  }

  skip(length: number): void {
    this.pass(length, (piece) => this.#split?.raw(piece))
  }

  /** The next bytes are the content of a file at a path in the tree, beginning at `offset`. */
  content(path: string, offset: number, length: number, take: (piece: Buffer) => void): void {
    this.#split?.content(path, offset, length)
    this.pass(length, take)
  }

  /** Hands over exactly `length` bytes in pieces. */
  pass(length: number, take: (piece: Buffer) => void): void {
    while (length > 0) {
      if (this.#start === this.#end && !this.#fill(1)) throw invalid('archive/tar: unexpected EOF')
      const piece = this.#window.subarray(this.#start, Math.min(this.#end, this.#start + length))
      take(piece)
      this.#start += piece.length
      length -= piece.length
    }
  }

  /** Reads to the end, for the hash's sake, or so that who writes the archive sees no broken pipe. */
  drain(): void {
    do {
      this.#split?.raw(this.#window.subarray(this.#start, this.#end))
      this.#start = this.#end
    } while (this.#fill(1))
  }
}

const DIRECTORY_FLAGS = O_PATH | O_DIRECTORY
const EEXIST = -errno.EEXIST

/** Unpacks an archive, compressed or not, into the tree at `root` (an open directory), synchronously: it belongs on a
 * worker thread. Every path is resolved inside the tree by the kernel; an entry whose name leads out of it by `..` ends
 * the work with an error. Errors: `invalid` for what is no archive or breaks out, `system` for a full disk and such. */
export function unpack(archive: Bytes, root: number, options: UnpackOptions): Unpacked {
  return options.idMaps ? actAs(rootOf(options.idMaps), () => unpackAll(archive, root, options)) : unpackAll(archive, root, options)
}

function unpackAll(archive: Bytes, root: number, options: UnpackOptions): Unpacked {
  const hash = options.digest ? createHash('sha256') : undefined
  using split = options.split ? new SplitWriter(options.split) : undefined
  const source = new WindowedSource(decompressed(archive), hash, split)
  const globals = new Map<string, Buffer>()
  using tree = new Tree(root, options)
  let size = 0
  let entries = 0
  for (;;) {
    const next = readEntry(source, globals)
    if (!next) break
    entries++
    size += next.entry.type === 'symlink' ? next.entry.linkName.length : next.entry.size
    tree.put(next.entry, next.stored, source)
  }
  tree.finishDirectories()
  source.drain()
  split?.end()
  return { size, entries, ...(hash && { digest: 'sha256:' + hash.digest('hex') }) }
}

const bytes = (name: string): Buffer => Buffer.from(name + '\0', 'latin1')

class Tree implements Disposable {
  readonly #root: number
  readonly #options: UnpackOptions
  readonly #parents = new Map<string, number>()
  readonly #directories: { path: string, entry: Entry }[] = []
  readonly #made = new Set<string>()
  readonly #room: Room | undefined

  constructor(root: number, options: UnpackOptions) {
    this.#root = root
    this.#options = options
    this.#room = options.leaveRoom ? new Room(`/proc/self/fd/${root}`) : undefined
  }

  [Symbol.dispose](): void {
    this.#forget()
  }

  /** Puts an entry into the tree and takes its content from the source. */
  put(entry: Entry, stored: number, source: WindowedSource): void {
    const path = this.#renamed(normalize(entry.name))
    if (this.#options.rename && entry.type === 'link') entry = { ...entry, linkName: this.#renamed(normalize(entry.linkName)) }
    const done = (): void => source.skip(paddedSize(stored))
    if (path === '') {
      if (entry.type === 'directory') this.#directories.push({ path: '.', entry })
      return done()
    }
    const name = path.slice(path.lastIndexOf('/') + 1)
    if (this.#options.whiteouts !== 'keep' && name.startsWith('.wh.')) {
      this.#whiteout(parentOf(path), name)
      return done()
    }
    if (this.#options.whiteouts === 'delete') this.#made.add(path)
    if (entry.type === 'file') return this.#file(path, name, entry, stored, source)
    this.#node(path, name, entry)
    done()
  }

  #renamed(path: string): string {
    const { from, to } = this.#options.rename ?? {}
    if (from === undefined || to === undefined || path !== from && !path.startsWith(`${from}/`)) return path
    return normalize(to + path.slice(from.length))
  }

  /** Directories get their times last, since filling them changes those. */
  finishDirectories(): void {
    for (const { path, entry } of this.#directories.toReversed()) {
      const fd = this.#open(path === '.' ? '.' : `./${path}`, O_DIRECTORY | O_NOFOLLOW)
      if (fd < 0) continue // replaced by a later entry
      try {
        this.#own(fd, entry)
        setTimes(fd, entry)
      } finally {
        closeSync(fd)
      }
    }
  }

  #forget(): void {
    for (const fd of this.#parents.values()) closeSync(fd)
    this.#parents.clear()
  }

  /** The open directory for entries below `path`; what is missing of it is made. */
  #parent(path: string): number {
    const known = this.#parents.get(path)
    if (known !== undefined) return known
    const at = `./${path}`
    let fd = this.#open(at, DIRECTORY_FLAGS)
    if (fd === -errno.ENOENT) {
      const parts = path.split('/')
      for (let i = 1; i <= parts.length; i++) {
        const above = this.#open('./' + parts.slice(0, i - 1).join('/'), DIRECTORY_FLAGS)
        if (above < 0) throw this.#failure('open', path, above)
        const made = syscall(nr('mkdirat'), above, bytes(parts[i - 1]!), 0o755)
        closeSync(above)
        if (made < 0 && made !== EEXIST) throw this.#failure('mkdir', path, made)
      }
      fd = this.#open(at, DIRECTORY_FLAGS)
    }
    if (fd < 0) throw this.#failure('open', path, fd)
    if (this.#parents.size >= 64) this.#forget()
    this.#parents.set(path, fd)
    return fd
  }

  #open(path: string, flags: number): number {
    return openInRoot(this.#root, Buffer.from(path, 'latin1'), flags)
  }

  #failure(what: string, path: string, result: number): Error {
    const readable = Buffer.from(path, 'latin1').toString('utf8')
    const kind = -result === errno.ENOTDIR || -result === errno.ELOOP ? invalid : system
    return kind(`${what} /${readable}: ${strerror(-result)}`, errnoError(-result, what))
  }

  /** Makes an entry by a system call that fails where something has its name: then that goes, unless both are directories. */
  #make(path: string, name: string, entry: Entry, call: (parent: number) => number): number {
    const result = call(this.#parent(parentOf(path)))
    if (result !== EEXIST) return result
    this.#makeRoom(path, name, entry)
    return call(this.#parent(parentOf(path)))
  }

  #makeRoom(path: string, name: string, entry: Entry): void {
    const parent = this.#parent(parentOf(path))
    const there = statusAt(parent, name)
    if (typeof there === 'number') return
    const isDirectory = (there.mode & S_IFMT) === fileTypes.directory
    const wantsDirectory = entry.type === 'directory'
    if (isDirectory && wantsDirectory) return
    const readable = Buffer.from(path, 'latin1').toString('utf8')
    if (this.#options.keepKinds && isDirectory) throw invalid(`cannot overwrite directory ${JSON.stringify('/' + readable)} with non-directory`)
    if (this.#options.keepKinds && wantsDirectory && (there.mode & S_IFMT) !== fileTypes.symlink) throw invalid(`cannot overwrite non-directory ${JSON.stringify('/' + readable)} with directory`)
    if (isDirectory) {
      removeTree(parent, name)
      this.#forget() // what is open may have been below it
    } else {
      const result = syscall(nr('unlinkat'), parent, bytes(name), 0)
      if (result < 0) throw this.#failure('unlink', path, result)
    }
  }

  #whiteout(parentPath: string, name: string): void {
    const parent = this.#parent(parentPath)
    const overlay = this.#options.whiteouts === 'overlay'
    if (name === '.wh..wh..opq') {
      if (overlay) {
        const result = setAttribute(`/proc/self/fd/${parent}/.`, 'trusted.overlay.opaque', Buffer.from('y'))
        if (result < 0) throw this.#failure('mark opaque', parentPath, result)
        return
      }
      const prefix = parentPath === '.' ? '' : `${parentPath}/`
      const names = readdirSync(`/proc/self/fd/${parent}/.`, 'latin1')
      this.#forget()
      const again = this.#parent(parentPath)
      // what this archive itself put there stays
      for (const child of names) if (![...this.#made].some((made) => made === prefix + child || made.startsWith(`${prefix}${child}/`))) removeTree(again, child)
      return
    }
    if (name.startsWith('.wh..wh.')) return // AUFS's own files
    const target = name.slice('.wh.'.length)
    if (target === '' || target === '.' || target === '..') throw invalid(`invalid whiteout ${JSON.stringify(name)}`)
    this.#forget()
    const again = this.#parent(parentPath)
    removeTree(again, target)
    if (!overlay) return
    const result = syscall(nr('mknodat'), again, bytes(target), fileTypes.char, 0)
    if (result < 0) throw this.#failure('whiteout', `${parentPath}/${target}`, result)
  }

  #file(path: string, name: string, entry: Entry, stored: number, source: WindowedSource): void {
    const fd = this.#make(path, name, entry, (parent) => syscall(nr('openat'), parent, bytes(name), 0o301 | O_NOFOLLOW | O_CLOEXEC, 0o600)) // O_WRONLY|O_CREAT|O_EXCL
    if (fd < 0) throw this.#failure('create', path, fd)
    try {
      let at = 0
      const write = (piece: Buffer): void => {
        this.#room?.take(piece.length)
        for (let done = 0; done < piece.length;) done += writeAt(fd, piece.subarray(done), at + done)
        at += piece.length
      }
      if (entry.sparse) {
        for (const { offset, length } of entry.sparse) {
          at = offset
          source.content(path, offset, length, write)
        }
        ftruncateSync(fd, entry.size)
      } else source.content(path, 0, stored, write)
      source.skip(paddedSize(stored) - stored)
      this.#own(fd, entry)
      setTimes(fd, entry)
    } finally {
      closeSync(fd)
    }
  }

  #node(path: string, name: string, entry: Entry): void {
    if (entry.type === 'link') return this.#hardLink(path, name, entry)
    const types = { directory: 0, symlink: 0, char: fileTypes.char, block: fileTypes.block, fifo: fileTypes.fifo }
    const type = entry.type as keyof typeof types
    const result = this.#make(path, name, entry, (parent) => {
      if (type === 'directory') return syscall(nr('mkdirat'), parent, bytes(name), 0o700)
      if (type === 'symlink') return syscall(nr('symlinkat'), bytes(entry.linkName), parent, bytes(name))
      return syscall(nr('mknodat'), parent, bytes(name), types[type] | 0o600, makeDevice(entry.major, entry.minor))
    })
    if (result < 0 && !(type === 'directory' && result === EEXIST)) throw this.#failure('make', path, result)
    const parent = this.#parent(parentOf(path))
    if (type === 'directory') {
      const fd = syscall(nr('openat'), parent, bytes(name), O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
      if (fd < 0) throw this.#failure('open', path, fd)
      try {
        this.#own(fd, entry)
      } finally {
        closeSync(fd)
      }
      this.#directories.push({ path, entry })
      return
    }
    const { uid, gid } = this.#owner(entry)
    must(syscall(nr('fchownat'), parent, bytes(name), uid, gid, 0x100), 'chown', path)
    if (type !== 'symlink') must(syscall(nr('fchmodat'), parent, bytes(name), entry.mode), 'chmod', path)
    this.#attributes(`/proc/self/fd/${parent}/${name}`, entry)
    must(syscall(nr('utimensat'), parent, bytes(name), times(entry), 0x100), 'set the times of', path)
  }

  #hardLink(path: string, name: string, entry: Entry): void {
    const target = normalize(entry.linkName)
    const fromPath = parentOf(target)
    if (target === path) return
    const result = this.#make(path, name, entry, () => {
      // a look-up may close the descriptors of earlier ones; after a look-up of each, there is room for both
      this.#parent(fromPath)
      this.#parent(parentOf(path))
      return syscall(nr('linkat'), this.#parent(fromPath), bytes(target.slice(target.lastIndexOf('/') + 1)), this.#parent(parentOf(path)), bytes(name), 0)
    })
    if (result < 0) throw this.#failure(`link ${Buffer.from(target, 'latin1').toString('utf8')} to`, path, result)
  }

  #owner(entry: Entry): { uid: number, gid: number } {
    const { owner, idMaps } = this.#options
    const { uid, gid } = owner ?? entry
    return idMaps ? { uid: hostIdOf(idMaps.uids, uid), gid: hostIdOf(idMaps.gids, gid) } : { uid, gid }
  }

  #own(fd: number, entry: Entry): void {
    const { uid, gid } = this.#owner(entry)
    fchownSync(fd, uid, gid)
    fchmodSync(fd, entry.mode)
    this.#attributes(`/proc/self/fd/${fd}`, entry)
  }

  #attributes(path: string, entry: Entry): void {
    for (const [name, value] of entry.attributes) {
      if (name.startsWith('trusted.overlay.') || name.startsWith('user.overlay.')) continue // would make up deletions and redirects
      const follow = /\/fd\/\d+$/.test(path)
      const result = follow
        ? syscall(nr('setxattr'), path, bytes(name), value, value.length, 0)
        : syscall(nr('lsetxattr'), Buffer.from(path + '\0', 'latin1'), bytes(name), value, value.length, 0)
      if (result < 0 && result !== -errno.EOPNOTSUPP && result !== -errno.EPERM) throw this.#failure(`set the attribute ${name} of`, entry.name, result)
    }
  }
}

function must(result: number, what: string, path: string): void {
  if (result < 0) throw system(`${what} /${path}: ${strerror(-result)}`, errnoError(-result, what))
}

function parentOf(path: string): string {
  const slash = path.lastIndexOf('/')
  return slash < 0 ? '.' : path.slice(0, slash)
}

/** Times of struct timespec[2]: the modification time for both. */
function times(entry: Entry): Buffer {
  const buffer = Buffer.alloc(32)
  for (const at of [0, 16]) {
    buffer.writeBigInt64LE(BigInt(entry.mtime.seconds), at)
    buffer.writeBigInt64LE(BigInt(entry.mtime.nanoseconds), at + 8)
  }
  return buffer
}

function setTimes(fd: number, entry: Entry): void {
  const result = syscall(nr('utimensat'), fd, null, times(entry), 0)
  if (result < 0) throw system(`set the times of ${entry.name}: ${strerror(-result)}`)
}

/** A name without leading `/`, `.` and doubled slashes. One that climbs out of the root is refused. */
function normalize(name: string): string {
  const parts: string[] = []
  for (const part of name.split('/')) {
    if (part === '' || part === '.') continue
    if (part === '..') {
      if (parts.length === 0) throw invalid(`archive/tar: ${JSON.stringify(name)} is outside of the root`)
      parts.pop()
    } else parts.push(part)
  }
  return parts.join('/')
}

/** Deletes `name` in a directory with all that is in it, following no link. What is not there is no error. */
export function removeTree(parent: number, name: string): void {
  const result = syscall(nr('unlinkat'), parent, bytes(name), 0)
  if (result >= 0 || result === -errno.ENOENT) return
  if (result !== -errno.EISDIR && result !== -errno.EPERM) throw system(`unlink ${name}: ${strerror(-result)}`)
  const fd = syscall(nr('openat'), parent, bytes(name), O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
  if (fd < 0) throw system(`open ${name}: ${strerror(-fd)}`)
  try {
    for (const child of readdirSync(`/proc/self/fd/${fd}`, 'latin1')) removeTree(fd, child)
  } finally {
    closeSync(fd)
  }
  const removed = syscall(nr('unlinkat'), parent, bytes(name), 0x200) // AT_REMOVEDIR
  if (removed < 0 && removed !== -errno.ENOENT) throw system(`rmdir ${name}: ${strerror(-removed)}`)
}
