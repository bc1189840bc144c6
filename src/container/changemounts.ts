import { closeSync, constants, openSync } from 'node:fs'
import { posix } from 'node:path'
import { withDescriptor } from '../archive/archive.ts'
import { conflict, notFound } from '../lib/errors.ts'
import { rootOf } from '../lib/idmap.ts'
import { parseMountOptions } from '../libcontainer/mountflags.ts'
import type { Mount } from '../libcontainer/spec.ts'
import { actAs } from '../sys/usernamespace.ts'
import { attachElsewhere, detachTree, detachedTmpfs, makePrivate, makeReadonly, unmountElsewhere } from '../sys/mount.ts'
import type { Container } from './container.ts'
import { remapOf, type ContainerDeps } from './deps.ts'
import { destinationsOf, parseMount, type MountBody } from './mounts.ts'
import { claimVolumes, dropMount, enterMounts, fillVolumes, makeInRoot } from './volumes.ts'

/** Gives a container, running or not, one more mount. The caller holds its lock, and saves. */
export async function addMount(deps: ContainerDeps, container: Container, body: MountBody): Promise<void> {
  const { record } = container
  const point = parseMount(body, record.host.VolumeDriver)
  if (destinationsOf(record).includes(point.destination)) throw conflict(`Duplicate mount point: ${point.destination}`)
  await claimVolumes(deps, record.id, [point])
  const alone = { ...record, mounts: [point] }
  try {
    await fillVolumes(deps, alone)
    if (container.process) {
      const [mount] = await enterMounts(deps, alone)
      await mountIn(deps, container.process.pid, mount!, rootOf(remapOf(deps, record.host)))
    }
  } catch (error) {
    await dropMount(deps, record, point, { running: container.process !== undefined })
    throw error
  }
  record.mounts.push(point)
  record.host.Mounts = [...record.host.Mounts ?? [], body]
}

/** Makes a mount in the namespace of a process. */
async function mountIn(deps: ContainerDeps, pid: number, { type, source = '', destination, options = [] }: Mount, owner: { uid: number, gid: number }): Promise<void> {
  const tree = type === 'tmpfs' ? detachedTmpfs(parseMountOptions(options).data) : detachTree(source, { recursive: options.includes('rbind') })
  await withDescriptor(tree, async () => {
    makePrivate(tree)
    if (options.includes('ro')) makeReadonly(tree)
    await withDescriptor(openSync(`/proc/${pid}/root`, constants.O_RDONLY | constants.O_DIRECTORY), async (root) => actAs(owner, () => closeSync(makeInRoot(root, destination))))
    await attachElsewhere(deps.zygote, deps.execRoot, tree, pid, destination)
  })
}

/** Takes a mount from a container. The caller holds its lock, and saves. */
export async function removeMount(deps: ContainerDeps, container: Container, target: string): Promise<void> {
  const { record } = container
  const destination = posix.resolve('/', target)
  const point = record.mounts.find((one) => one.destination === destination)
  if (!point) throw notFound(`No such mount: ${target} in container ${record.name}`)
  if (container.process) await unmountElsewhere(deps.zygote, deps.execRoot, container.process.pid, destination)
  await dropMount(deps, record, point, { running: container.process !== undefined })
  record.mounts = record.mounts.filter((one) => one !== point)
  record.host.Mounts = (record.host.Mounts ?? []).filter(({ Target }) => posix.resolve('/', Target) !== destination)
  record.host.Binds = (record.host.Binds ?? []).filter((text) => text.split(':')[text.includes(':') ? 1 : 0] !== destination)
  delete record.config.Volumes[destination]
}
