import { chownSync, closeSync, constants, existsSync, fchmodSync, fchownSync, fstatSync, mkdirSync, openSync, readdirSync, rmdirSync, statSync, unlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { withDescriptor } from '../archive/archive.ts'
import { conflict, invalid, isKind, system } from '../lib/errors.ts'
import { hostIdOf, rootOf, type IdMaps } from '../lib/idmap.ts'
import type { Mount } from '../libcontainer/spec.ts'
import { errno, strerror } from '../sys/errno.ts'
import { O_DIRECTORY, O_PATH, openInRoot } from '../sys/fs.ts'
import { randomName, sha256 } from '../lib/ids.ts'
import { attachTree, detachTree, makeReadonly, unmount } from '../sys/mount.ts'
import { remapOf, type ContainerDeps } from './deps.ts'
import { named } from './network.ts'
import { tmpfsMount, type BindPoint, type ImagePoint, type MountPoint, type VolumePoint } from './mounts.ts'
import type { ContainerRecord } from './record.ts'

/** Finds or makes the volumes and images that a container is to have, and keeps them for it. `releaseVolumes` undoes it. */
export async function claimVolumes(deps: ContainerDeps, id: string, points: MountPoint[]): Promise<void> {
  for (const point of points) {
    // what holds the engine's own mounts would keep them, as Docker found out
    if (point.type === 'bind') point.propagation ||= within(deps.dataRoot, point.source) ? 'rslave' : 'rprivate'
    if (point.type === 'image') point.image = named(() => deps.images.resolve(point.reference)).id
    if (point.type !== 'volume') continue
    const record = await deps.volumes.create({ name: point.name, driver: point.driver, options: point.options, labels: point.labels }, { holder: id })
    point.name = record.name
    point.driver = record.driver
    point.source = await (await deps.volumes.driverOf(record)).path(record)
    if (record.snapshotOf) point.writable = false
    if (point.driver === 'local' && !point.mode && !point.anonymous) point.mode = 'z' // as Docker has it
  }
}

const within = (path: string, directory: string): boolean => `${path}/`.startsWith(directory === '/' ? '/' : `${directory}/`)

/** Ends a container's references. With `remove`, the volumes go that nobody named, if no other container has them. */
export async function releaseVolumes(deps: ContainerDeps, id: string, points: readonly MountPoint[], { remove }: { remove: boolean }): Promise<void> {
  const volumes = points.filter((point) => point.type === 'volume')
  for (const { name } of volumes) deps.volumes.release(name, id)
  if (!remove) return
  for (const { name, anonymous } of volumes)
    if (anonymous && name && deps.volumes.find(name)) {
      try {
        await deps.volumes.remove(name)
      } catch (error) {
        if (!isKind(error, 'conflict')) deps.warn(`volume ${name} of container ${id} could not be removed`, error)
      }
    }
}

/** Gives empty volumes what the container's image has in their places, as Docker does. */
export async function fillVolumes(deps: ContainerDeps, record: ContainerRecord): Promise<void> {
  for (const point of record.mounts) {
    if (point.type !== 'volume' || !point.copy || point.subpath) continue
    const volume = await deps.volumes.resolve(point.name)
    using _alone = await deps.lock.hold(`fill ${point.name}`)
    await deps.volumes.using(volume, async (path) => {
      if (readdirSync(path).length === 0) await deps.layers.withTree(record.id, (root) => copyUp(deps, root, point, path, remapOf(deps, record.host)))
    })
  }
}

async function copyUp(deps: ContainerDeps, root: number, { destination }: VolumePoint, path: string, idMaps: IdMaps | undefined): Promise<void> {
  const source = openInRoot(root, `.${destination}`, constants.O_RDONLY | O_DIRECTORY)
  if (source === -errno.ENOENT) return
  if (source === -errno.ENOTDIR) throw invalid(`cannot mount volume over existing file, file exists ${destination}`)
  if (source < 0) throw system(`${destination}: ${strerror(-source)}`)
  await withDescriptor(source, () => withDescriptor(openSync(path, constants.O_RDONLY | constants.O_DIRECTORY), async (target) => {
    await deps.archiver.pack(source, {}, (stream) => deps.archiver.unpack(stream, target, { whiteouts: 'keep', leaveRoom: true, idMaps }))
    const { uid, gid, mode } = fstatSync(source) // an archive has what is in a directory, not the directory
    fchownSync(target, idMaps ? hostIdOf(idMaps.uids, uid) : uid, idMaps ? hostIdOf(idMaps.gids, gid) : gid)
    fchmodSync(target, mode & 0o7777)
  }))
}

/** The places that images' trees have outside of containers while these run. */
const viewsOf = (deps: Pick<ContainerDeps, 'execRoot'>, id: string): string => join(deps.execRoot, 'mounts', id)

/** The name of a mount's place there. */
const placeOf = ({ destination }: MountPoint): string => sha256(destination).slice('sha256:'.length, 'sha256:'.length + 16)

/** Makes all that a container mounts ready. Returns the mounts for its process; `leaveMounts` undoes it. */
export async function enterMounts(deps: ContainerDeps, record: ContainerRecord): Promise<Mount[]> {
  const mounts: Mount[] = []
  for (const point of record.mounts) {
    switch (point.type) {
      case 'bind':
        if (point.createSource && !existsSync(point.source)) makeSource(point.source, rootOf(remapOf(deps, record.host)))
        mounts.push(bindMount(point))
        break
      case 'volume': {
        const path = await deps.volumes.mount(point.name, { container: record.id, destination: point.destination, writable: point.writable, propagation: '' })
        point.source = path || point.source
        const source = viewBelow(deps, record, point.source, point.subpath, `volume ${point.name}`, placeOf(point))
        mounts.push({ destination: point.destination, type: 'bind', source, options: ['rbind', 'rprivate', ...(point.writable ? [] : ['ro', 'rro'])] })
        break
      }
      case 'tmpfs':
        mounts.push(tmpfsMount(point.destination, point.options))
        break
      case 'image': {
        const source = viewBelow(deps, record, viewImage(deps, record, point), point.subpath, `image ${point.reference}`, placeOf(point))
        mounts.push({ destination: point.destination, type: 'bind', source, options: ['bind', 'rprivate', 'ro'] })
      }
    }
  }
  return mounts
}

/** Makes a part of a tree a mount of its own, which nothing in the tree can make lead out of it. Returns where. */
function viewBelow(deps: ContainerDeps, { id }: ContainerRecord, tree: string, subpath: string, what: string, place: string): string {
  if (!subpath) return tree
  const root = openSync(tree, constants.O_RDONLY | constants.O_DIRECTORY)
  const fd = openInRoot(root, subpath, O_PATH)
  closeSync(root)
  if (fd < 0) throw invalid(`cannot access path ${JSON.stringify(subpath)} in ${what}: ${strerror(-fd).toLowerCase()}`)
  const path = join(viewsOf(deps, id), `${place}-part`)
  try {
    mkdirSync(viewsOf(deps, id), { recursive: true, mode: 0o700 })
    if (fstatSync(fd).isDirectory()) mkdirSync(path)
    else writeFileSync(path, '')
    const part = detachTree(`/proc/self/fd/${fd}`, { recursive: true })
    try {
      attachTree(part, path)
    } finally {
      closeSync(part)
    }
  } finally {
    closeSync(fd)
  }
  return path
}

/** Mounts an image's tree, read-only. Returns where. */
function viewImage(deps: ContainerDeps, { id, host }: ContainerRecord, point: ImagePoint): string {
  const { image, reference } = point
  if (!deps.images.has(image)) throw conflict(`image ${reference} (${image}), which is mounted, is not there any more`)
  const { topLayer } = deps.images.get(image)
  const path = join(viewsOf(deps, id), placeOf(point))
  mkdirSync(path, { recursive: true, mode: 0o700 })
  if (topLayer === undefined) return path // an image without files
  const tree = deps.layers.view(topLayer)
  try {
    attachTree(tree, path, remapOf(deps, host)?.path)
  } finally {
    closeSync(tree)
  }
  return path
}

function makeSource(path: string, { uid, gid }: { uid: number, gid: number }): void {
  mkdirSync(path, { recursive: true })
  chownSync(path, uid, gid)
}

function bindMount({ source, destination, writable, recursive, readonlyRecursive, propagation }: BindPoint): Mount {
  return { destination, type: 'bind', source, options: [recursive ? 'rbind' : 'bind', propagation, ...(writable ? [] : ['ro', ...(recursive && readonlyRecursive ? ['rro'] : [])])] }
}

/** Gives up one mount of a container, and its volume unless another mount has it too. `running`: a run has it mounted. */
export async function dropMount(deps: ContainerDeps, record: ContainerRecord, point: MountPoint, { running }: { running: boolean }): Promise<void> {
  const alone = point.type === 'volume' && !record.mounts.some((other) => other !== point && other.type === 'volume' && other.name === point.name)
  if (running && alone) await deps.volumes.unmount(point.name, record.id)
  if (running) dropViews(deps, record.id, [placeOf(point), `${placeOf(point)}-part`])
  if (alone) await releaseVolumes(deps, record.id, [point], { remove: true })
}

/** Gives back what a container's run had mounted. */
export async function leaveMounts(deps: ContainerDeps, record: ContainerRecord): Promise<void> {
  for (const point of record.mounts) {
    if (point.type !== 'volume') continue
    try {
      await deps.volumes.unmount(point.name, record.id)
    } catch (error) {
      deps.warn(`volume ${point.name} of container ${record.id} could not be unmounted`, error)
    }
  }
  dropViews(deps, record.id)
}

function dropViews(deps: Pick<ContainerDeps, 'execRoot'>, id: string, only?: readonly string[]): void {
  const directory = viewsOf(deps, id)
  if (!existsSync(directory)) return
  for (const name of readdirSync(directory)) {
    if (only && !only.includes(name)) continue
    const path = join(directory, name)
    unmount(path)
    if (statSync(path).isDirectory()) rmdirSync(path)
    else unlinkSync(path)
  }
  if (readdirSync(directory).length === 0) rmdirSync(directory)
}

/** Runs `work` with the tree of a container that does not run, and what would be mounted there. The caller holds the lock. */
export async function withAssembled<T>(deps: ContainerDeps, record: ContainerRecord, work: (root: number) => Promise<T>): Promise<T> {
  if (record.mounts.every(({ type }) => type === 'tmpfs')) return await deps.layers.withWritableTree(record.id, work)
  const moment: ContainerRecord = { ...record, id: `copy-${randomName()}`, mounts: structuredClone(record.mounts) }
  const place = join(viewsOf(deps, moment.id), 'root')
  mkdirSync(place, { recursive: true, mode: 0o700 })
  try {
    await withDescriptor(deps.layers.detach(record.id), async (tree) => attachTree(tree, place))
    const mounts = await enterMounts(deps, moment)
    return await withDescriptor(openSync(place, constants.O_RDONLY | constants.O_DIRECTORY), async (root) => {
      // a mount must not hide one that is below it
      for (const mount of mounts.toSorted((a, b) => a.destination.length - b.destination.length)) if (mount.type === 'bind') await placeBind(root, mount)
      return await work(root)
    })
  } finally {
    await leaveMounts(deps, moment)
  }
}

async function placeBind(root: number, { source, destination, options = [] }: Mount): Promise<void> {
  await withDescriptor(makeInRoot(root, destination), (target) => withDescriptor(detachTree(source!, { recursive: true }), async (tree) => {
    if (options.includes('ro')) makeReadonly(tree)
    attachTree(tree, target)
  }))
}

/** Opens a path in a tree, and makes the directories that are missing on the way. */
export function makeInRoot(root: number, path: string): number {
  let at = ''
  for (const name of path.split('/').filter(Boolean)) {
    const parent = openInRoot(root, at || '.', O_PATH)
    try {
      at = at ? `${at}/${name}` : name
      const found = openInRoot(root, at, O_PATH)
      if (found >= 0) closeSync(found)
      else if (found === -errno.ENOENT) mkdirSync(`/proc/self/fd/${parent}/${name}`, { mode: 0o755 })
      else throw system(`${path}: ${strerror(-found)}`)
    } finally {
      closeSync(parent)
    }
  }
  const fd = openInRoot(root, at, O_PATH)
  if (fd < 0) throw system(`${path}: ${strerror(-fd)}`)
  return fd
}

/** Says which volumes the containers that there are refer to. */
export function holdVolumes(deps: Pick<ContainerDeps, 'volumes'>, records: readonly ContainerRecord[]): void {
  for (const { id, mounts } of records) for (const point of mounts) if (point.type === 'volume') deps.volumes.hold(point.name, id)
}

/** Takes up the mounts of containers after the engine was away, and drops those of runs that are over. */
export async function resumeMounts(deps: ContainerDeps, live: readonly ContainerRecord[]): Promise<void> {
  for (const { id, mounts } of live) for (const point of mounts) if (point.type === 'volume') await deps.volumes.resume(point.name, id)
  const directory = join(deps.execRoot, 'mounts')
  for (const id of existsSync(directory) ? readdirSync(directory) : []) if (!live.some((record) => record.id === id)) dropViews(deps, id)
  await deps.volumes.settle()
}

