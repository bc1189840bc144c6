import { closeSync, constants, openSync } from 'node:fs'
import { posix } from 'node:path'
import type { Readable, Writable } from 'node:stream'
import { GO_MODE, type PathStat } from '../api/pathstat.ts'
import { BerthError, invalid, notFound, system } from '../lib/errors.ts'
import type { IdMaps } from '../lib/idmap.ts'
import { strerror, errno } from '../sys/errno.ts'
import { O_DIRECTORY, O_PATH, S_IFMT, fileTypes, openInRoot, readLinkAt, statusAt, type Status } from '../sys/fs.ts'
import { withDescriptor } from '../archive/archive.ts'
import { cleanPath } from '../libcontainer/rootfs.ts'
import type { Container } from './container.ts'
import { remapOf, type ContainerDeps } from './deps.ts'
import { destinationsOf, type MountPoint } from './mounts.ts'
import { withAssembled } from './volumes.ts'

/** Runs `work` with the container's root, and what is mounted there: through its process where it runs, else put together
 * for the moment. All paths are resolved inside that root by the kernel, whatever the container does meanwhile. */
async function withRoot<T>(deps: ContainerDeps, container: Container, work: (root: number, idMaps?: IdMaps) => Promise<T>): Promise<T> {
  if (!container.process) {
    using _held = await deps.lock.hold(container.id)
    if (!container.process) return await withAssembled(deps, container.record, work) // it was not started meanwhile
  }
  const root = openSync(`/proc/${container.process.pid}/root`, constants.O_RDONLY | constants.O_DIRECTORY)
  return await withDescriptor(root, () => work(root, remapOf(deps, container.record.host)))
}

function missing(container: Container, path: string): Error {
  return notFound(`Could not find the file ${path} in container ${container.record.name}`)
}

const bytesOf = (path: string): Buffer => Buffer.from('./' + path.replace(/^\/+/, ''), 'utf8')

/** What a path is, its last component not followed unless it ends in a slash. */
function look(container: Container, root: number, path: string): PathStat {
  const clean = cleanPath(path)
  const follow = path.endsWith('/') || path.endsWith('/.')
  const fd = openInRoot(root, bytesOf(clean), O_PATH | (follow ? O_DIRECTORY : constants.O_NOFOLLOW))
  if (fd === -errno.ENOENT || fd === -errno.ENOTDIR) {
    if (fd === -errno.ENOTDIR && follow) throw invalid(`${path}: not a directory`)
    throw missing(container, path)
  }
  if (fd < 0) throw system(`${path}: ${strerror(-fd)}`)
  try {
    const status = statusAt(fd, '')
    if (typeof status === 'number') throw system(`${path}: ${strerror(-status)}`)
    return describe(path, status, fd)
  } finally {
    closeSync(fd)
  }
}

const goMode: Record<number, number> = {
  [fileTypes.directory]: GO_MODE.directory, [fileTypes.symlink]: GO_MODE.symlink, [fileTypes.char]: GO_MODE.device | GO_MODE.char, [fileTypes.block]: GO_MODE.device, [fileTypes.fifo]: GO_MODE.fifo, [fileTypes.socket]: GO_MODE.socket,
}

function describe(path: string, status: Status, fd: number): PathStat {
  const isLink = (status.mode & S_IFMT) === fileTypes.symlink
  const special = (status.mode & 0o4000 ? GO_MODE.setuid : 0) | (status.mode & 0o2000 ? GO_MODE.setgid : 0) | (status.mode & 0o1000 ? GO_MODE.sticky : 0)
  let linkTarget = ''
  if (isLink) {
    const target = Buffer.from(readLinkAt(fd, ''), 'latin1').toString('utf8')
    linkTarget = posix.resolve(posix.dirname(cleanPath(path)), target)
  }
  return {
    name: posix.basename(cleanPath(path)) || '/', size: status.size, mode: ((goMode[status.mode & S_IFMT] ?? 0) | special | (status.mode & 0o777)) >>> 0,
    mtime: new Date(status.seconds * 1000 + status.nanoseconds / 1e6).toISOString(), linkTarget,
  }
}

export async function statPath(deps: ContainerDeps, container: Container, path: string): Promise<PathStat> {
  if (path === '') throw invalid('bad parameter: path cannot be empty')
  return await withRoot(deps, container, (root) => Promise.resolve(look(container, root, path)))
}

/** Archives a path: a directory with its content, named after the last component (`dir/.` is the content alone). */
export async function copyOut(deps: ContainerDeps, container: Container, path: string, begin: (stat: PathStat) => Writable, signal: AbortSignal): Promise<void> {
  if (path === '') throw invalid('bad parameter: path cannot be empty')
  await withRoot(deps, container, async (root, idMaps) => {
    const stat = look(container, root, path)
    const clean = cleanPath(path)
    const name = posix.basename(clean)
    const as = path.endsWith('/.') ? '.' : name || '.'
    const mounts = destinationsOf(container.record).map((destination) => mountAt(root, destination))
    await deps.archiver.packTo(begin(stat), root, { path: Buffer.from(/\/\.?$/.test(path) ? `${clean}/` : clean).toString('latin1'), as: Buffer.from(as).toString('latin1'), idMaps, mounts }, signal)
  })
}

/** The mount that a path is seen through; 0 for one that is not there. */
function mountAt(root: number, path: string): number {
  const fd = openInRoot(root, bytesOf(cleanPath(path)), O_PATH)
  if (fd < 0) return 0
  const status = statusAt(fd, '')
  closeSync(fd)
  return typeof status === 'number' ? 0 : status.mount
}

/** Unpacks an archive into a directory of the container. */
export async function copyIn(deps: ContainerDeps, container: Container, path: string, archive: Readable, options: { keepKinds: boolean, chown: boolean, signal: AbortSignal }): Promise<void> {
  if (path === '') throw invalid('bad parameter: path cannot be empty')
  const point = pointOf(container.record.mounts, cleanPath(path))
  if (point && !point.writable) throw new BerthError('forbidden', 'mounted volume is marked read-only')
  if (!point && container.record.host.ReadonlyRootfs) throw new BerthError('forbidden', 'container rootfs is marked read-only')
  await withRoot(deps, container, async (root, idMaps) => {
    const directory = openInRoot(root, bytesOf(cleanPath(path)), constants.O_RDONLY | O_DIRECTORY)
    if (directory === -errno.ENOENT) throw missing(container, path)
    if (directory === -errno.ENOTDIR) throw invalid(`extraction point is not a directory: ${path}`)
    if (directory < 0) throw system(`${path}: ${strerror(-directory)}`)
    await withDescriptor(directory, async (fd) => {
      await deps.archiver.unpack(archive, fd, { whiteouts: 'keep', idMaps, keepKinds: options.keepKinds, ...(options.chown && { owner: { uid: 0, gid: 0 } }) }, options.signal)
    })
  })
}

/** The mount that a path is in. */
function pointOf(mounts: readonly MountPoint[], path: string): MountPoint | undefined {
  const above = mounts.filter(({ destination }) => `${path}/`.startsWith(`${destination}/`))
  return above.toSorted((a, b) => b.destination.length - a.destination.length)[0]
}
