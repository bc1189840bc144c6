import { closeSync, constants, openSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { codeOf, unsupported } from '../lib/errors.ts'
import { errno, errnoError } from './errno.ts'
import { must, syscall } from './ffi.ts'
import { nr } from './syscalls.ts'

const FS_IOC_FSGETXATTR = 0x801c581f
const FS_IOC_FSSETXATTR = 0x401c5820
const FS_XFLAG_PROJINHERIT = 0x200
const PROJECT_AT = 12 // fsx_projid in struct fsxattr
const Q_SETQUOTA = 0x800008
const PRJQUOTA = 2
const QIF_BLIMITS = 1
const BLOCK = 1024

/** The first ids of each kind of tree: people number theirs from 1, and those of one file system must differ. */
const first = { volumes: 1 << 20, layers: 1 << 24 } as const

/** Limits on what directory trees hold, by project quotas (quotactl(2), xfs(5), ext4(5)): each tree is a project. */
export class ProjectQuotas {
  readonly #root: string
  readonly #tree: string
  readonly #first: number

  /** `root` is the directory whose children are the trees, or have them under the name `tree`. */
  constructor(kind: keyof typeof first, root: string, tree = '') {
    this.#root = root
    this.#tree = tree
    this.#first = first[kind]
  }

  /** Lets an empty directory, and what comes to be below it, hold at most `size` bytes. Throws `unsupported` where the
   * file system can't. */
  limit(path: string, size: number): void {
    const fd = openSync(path, constants.O_RDONLY | constants.O_DIRECTORY)
    try {
      const attributes = Buffer.alloc(28) // struct fsxattr
      const unable = (cause: number): Error => unsupported(`quota size requested but no quota support: the file system of ${path} needs project quotas, as xfs has mounted with pquota and ext4 with prjquota`, errnoError(cause, `project quota on ${path}`))
      const known = syscall(nr('ioctl'), fd, FS_IOC_FSGETXATTR, attributes)
      if (known < 0) throw unable(-known)
      const project = this.#free()
      const limits = Buffer.alloc(72) // struct if_dqblk
      limits.writeBigUInt64LE(BigInt(Math.ceil(size / BLOCK)), 0)
      limits.writeBigUInt64LE(BigInt(Math.ceil(size / BLOCK)), 8)
      limits.writeUInt32LE(QIF_BLIMITS, 64)
      const set = syscall(nr('quotactl_fd'), fd, ((Q_SETQUOTA << 8) | PRJQUOTA) >>> 0, project, limits)
      if (set === -errno.ESRCH || set === -errno.ENOSYS || set === -errno.ENOTTY || set === -errno.EOPNOTSUPP || set === -errno.EINVAL) throw unable(-set)
      if (set < 0) throw errnoError(-set, `limit ${path} to ${size} bytes`)
      attributes.writeUInt32LE((attributes.readUInt32LE(0) | FS_XFLAG_PROJINHERIT) >>> 0, 0)
      attributes.writeUInt32LE(project, PROJECT_AT)
      must(`make ${path} a project`, nr('ioctl'), fd, FS_IOC_FSSETXATTR, attributes)
    } finally {
      closeSync(fd)
    }
  }

  /** A project that no tree is of. */
  #free(): number {
    let last = this.#first - 1
    for (const name of readdirSync(this.#root)) last = Math.max(last, projectOf(join(this.#root, name, this.#tree)))
    return last + 1
  }
}

function projectOf(path: string): number {
  const attributes = Buffer.alloc(28)
  let fd: number
  try {
    fd = openSync(path, constants.O_RDONLY | constants.O_DIRECTORY)
  } catch (error) {
    if (codeOf(error) === 'ENOENT' || codeOf(error) === 'ENOTDIR') return 0
    throw error
  }
  try {
    return syscall(nr('ioctl'), fd, FS_IOC_FSGETXATTR, attributes) < 0 ? 0 : attributes.readUInt32LE(PROJECT_AT)
  } finally {
    closeSync(fd)
  }
}
