import { closeSync, constants, fstatSync, openSync, readSync, writeSync } from 'node:fs'
import { codeOf } from '../lib/errors.ts'
import { must, syscall } from './ffi.ts'
import { errno, errnoError } from './errno.ts'
import { nr } from './syscalls.ts'

export const AT_FDCWD = -100
export const AT_EMPTY_PATH = 0x1000
export const AT_SYMLINK_NOFOLLOW = 0x100
export const O_PATH = 0o10000000
export const O_CLOEXEC = 0o2000000
export const O_DIRECTORY = 0o200000
export const O_NOFOLLOW = 0o400000

/** openat2(2) resolve flags. */
export const RESOLVE = { NO_XDEV: 1, NO_MAGICLINKS: 2, NO_SYMLINKS: 4, BENEATH: 8, IN_ROOT: 16 } as const

/** How openat2(2) is to open: a struct open_how. */
export function openHow(flags: number, mode = 0, resolve: number = RESOLVE.IN_ROOT | RESOLVE.NO_MAGICLINKS): Buffer {
  const how = Buffer.alloc(24)
  how.writeBigUInt64LE(BigInt(flags | O_CLOEXEC), 0)
  how.writeBigUInt64LE(BigInt(mode), 8)
  how.writeBigUInt64LE(BigInt(resolve), 16)
  return how
}

/** Opens a path inside the directory tree at `root` and never outside it: symbolic links and `..` stay in the tree
 * (openat2(2), RESOLVE_IN_ROOT). A path of any bytes comes as a buffer. Returns a descriptor, or a negated errno. */
export function openInRoot(root: number, path: string | Buffer, flags: number, mode = 0, resolve?: number): number {
  const how = openHow(flags, mode, resolve)
  for (let tries = 0; ; tries++) {
    const fd = syscall(nr('openat2'), root, typeof path === 'string' ? path : Buffer.concat([path, Buffer.alloc(1)]), how, 24)
    // EAGAIN: something was renamed meanwhile, and the kernel can't tell whether it was on the way
    if (fd !== -errno.EAGAIN || tries === 100) return fd
  }
}

/** The text of a regular file inside `root`, at most `limit` bytes of it; undefined where there is none. */
export function readInRoot(root: number, path: string, limit = 4 << 20): string | undefined {
  const fd = openInRoot(root, path, 0o4000) // O_NONBLOCK: a FIFO put there must not hang the caller
  if (fd < 0) return undefined
  try {
    const stat = fstatSync(fd)
    if (!stat.isFile()) return undefined
    const buffer = Buffer.alloc(Math.min(stat.size, limit))
    let length = 0
    while (length < buffer.length) {
      const n = readSync(fd, buffer, length, buffer.length - length, null)
      if (n === 0) break
      length += n
    }
    return buffer.toString('utf8', 0, length)
  } finally {
    closeSync(fd)
  }
}

/** mkfifo(3). */
export function makeFifo(path: string, mode: number): void {
  must(`mkfifo ${path}`, nr('mknodat'), AT_FDCWD, path, 0o010000 | mode, 0)
}

/** mknodat(2): type and mode bits together, and the device for a device node. */
export function makeNode(dirfd: number, name: string, mode: number, device: number): void {
  must(`mknod ${name}`, nr('mknodat'), dirfd, name, mode, device)
}

/** A device number as the kernel packs it in 32 bits (makedev(3)). */
export function makeDevice(major: number, minor: number): number {
  return ((minor & 0xff) | ((major & 0xfff) << 8) | ((minor & ~0xff) << 12)) >>> 0
}

/** The major and minor number of a device. */
export function splitDevice(device: number): { major: number, minor: number } {
  return { major: (device >>> 8) & 0xfff, minor: (device & 0xff) | ((device >>> 12) & 0xfff00) }
}

/** Duplicates a descriptor of another process into this one (pidfd_getfd(2)). */
export function takeDescriptor(pid: number, fd: number): number {
  const pidfd = must(`pidfd_open ${pid}`, nr('pidfd_open'), pid, 0)
  try {
    return must(`pidfd_getfd ${pid}`, nr('pidfd_getfd'), pidfd, fd, 0)
  } finally {
    closeSync(pidfd)
  }
}

/** The extended attributes of a file, not following a link unless asked to: name to value. */
export function readAttributes(path: string, follow = false): Map<string, Buffer> {
  const attributes = new Map<string, Buffer>()
  const at = Buffer.from(path + '\0', 'latin1')
  const [list, get] = follow ? [nr('listxattr'), nr('getxattr')] : [nr('llistxattr'), nr('lgetxattr')]
  const size = syscall(list, at, null, 0)
  if (size === -errno.EOPNOTSUPP || size === -errno.ENOENT || size === 0) return attributes
  if (size < 0) throw errnoError(-size, `llistxattr ${path}`)
  const names = Buffer.alloc(size)
  const length = must(`llistxattr ${path}`, list, at, names, size)
  for (const name of names.toString('latin1', 0, length).split('\0')) {
    if (!name) continue
    const valueSize = syscall(get, at, name, null, 0)
    if (valueSize < 0) continue // removed meanwhile, or not for us to read
    const value = Buffer.alloc(valueSize)
    if (valueSize > 0) must(`lgetxattr ${path}`, get, at, name, value, valueSize)
    attributes.set(name, value)
  }
  return attributes
}

/** Sets an extended attribute without following a link. Returns 0 or a negated errno. */
export function setAttribute(path: string, name: string, value: Uint8Array): number {
  return syscall(nr('lsetxattr'), path, name, value, value.length, 0)
}

/** The magic number of the file system at a path (statfs(2), f_type). */
export function fileSystemType(path: string): number {
  const buffer = Buffer.alloc(256)
  must(`statfs ${path}`, nr('statfs'), path, buffer)
  return buffer.readUInt32LE(0)
}

/** What statx(2) tells of a file. Times are seconds and nanoseconds. */
export interface Status {
  mode: number, uid: number, gid: number, size: number, links: number, inode: bigint, device: string
  major: number, minor: number, seconds: number, nanoseconds: number
  /** The mount that it is seen through; 0 where the kernel does not say. */
  mount: number
}

const [STATX_BASIC_STATS, STATX_MNT_ID] = [0x7ff, 0x1000]
const statxBuffer = Buffer.alloc(256)

/** The status of `name` in a directory, not following a link; of the directory itself for ''. Names are byte strings
 * (latin1). Returns a negated errno where there is none. */
export function statusAt(directory: number, name: string): Status | number {
  const result = syscall(nr('statx'), directory, Buffer.from(name + '\0', 'latin1'), AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH, STATX_BASIC_STATS | STATX_MNT_ID, statxBuffer)
  if (result < 0) return result
  const b = statxBuffer
  return {
    links: b.readUInt32LE(16), uid: b.readUInt32LE(20), gid: b.readUInt32LE(24), mode: b.readUInt16LE(28), inode: b.readBigUInt64LE(32),
    size: Number(b.readBigUInt64LE(40)), seconds: Number(b.readBigInt64LE(112)), nanoseconds: b.readUInt32LE(120),
    major: b.readUInt32LE(128), minor: b.readUInt32LE(132), device: `${b.readUInt32LE(136)}:${b.readUInt32LE(140)}`,
    mount: b.readUInt32LE(0) & STATX_MNT_ID ? Number(b.readBigUInt64LE(144)) : 0,
  }
}

/** Writes at a place in a file (pwrite(2)). Returns how many bytes; its errors say what is wrong, also where a quota is
 * exceeded, which Node does not know. */
export function writeAt(fd: number, data: Buffer, position: number): number {
  try {
    return writeSync(fd, data, 0, data.length, position)
  } catch (error) {
    if (codeOf(error) !== 'UNKNOWN') throw error
    return must('write', nr('pwrite64'), fd, data, data.length, position)
  }
}

/** The target of a link in a directory, as a byte string. */
export function readLinkAt(directory: number, name: string): string {
  const buffer = Buffer.alloc(4096)
  const length = must(`readlink ${name}`, nr('readlinkat'), directory, Buffer.from(name + '\0', 'latin1'), buffer, buffer.length)
  return buffer.toString('latin1', 0, length)
}

/** Takes a directory for this process alone until it ends (flock(2)). False where another process has it. */
export function claimDirectory(path: string): boolean {
  const [LOCK_EX, LOCK_NB] = [2, 4]
  const fd = openSync(path, constants.O_RDONLY | O_DIRECTORY)
  const result = syscall(nr('flock'), fd, LOCK_EX | LOCK_NB)
  if (result === 0) return true
  closeSync(fd)
  if (result === -errno.EAGAIN) return false
  throw errnoError(-result, `flock ${path}`)
}

/** pipe2(2): the read end and the write end, both closed on exec. */
export function makePipe(size?: number): { read: number, write: number } {
  const ends = Buffer.alloc(8)
  must('pipe2', nr('pipe2'), ends, O_CLOEXEC)
  const pipe = { read: ends.readInt32LE(0), write: ends.readInt32LE(4) }
  if (size) syscall(nr('fcntl'), pipe.write, 1031, size) // F_SETPIPE_SZ: the default serves where this is refused
  return pipe
}

/** Types in a status's mode. */
export const S_IFMT = 0o170000
export const fileTypes = { directory: 0o040000, file: 0o100000, symlink: 0o120000, char: 0o020000, block: 0o060000, fifo: 0o010000, socket: 0o140000 } as const
