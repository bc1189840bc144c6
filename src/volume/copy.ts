import { constants, openSync } from 'node:fs'
import type { Readable, Writable } from 'node:stream'
import { withDescriptor, type Archiver } from '../archive/archive.ts'
import { copyTree } from '../lib/copytree.ts'
import { conflict, invalid } from '../lib/errors.ts'
import type { VolumeRecord } from './volume.ts'
import type { Volumes } from './volumes.ts'

/** What copies of volumes are made with. */
export interface CopyDeps {
  volumes: Volumes
  archiver: Archiver
  /** Runs `work` while the containers that have a volume are paused. */
  paused: <T>(volume: string, work: () => Promise<T>) => Promise<T>
}

export interface CopyRequest {
  from: string
  to: string
  labels: Record<string, string>
  /** The copy is a snapshot: it stays as it is. */
  snapshot: boolean
  /** Containers that write to the volume wait meanwhile, so that the copy is of one moment. */
  pause: boolean
}

/** Makes a volume with what another one has: owners, modes, times, links, attributes and holes too. Where the file system
 * can share blocks between files, no data is written. Nothing is left of a failure. */
export async function copyVolume({ volumes, paused }: CopyDeps, request: CopyRequest, signal: AbortSignal): Promise<VolumeRecord> {
  const source = await volumes.resolve(request.from)
  if (volumes.find(request.to)) throw conflict(`a volume named ${request.to} exists already`)
  const made = await volumes.create({ name: request.to, driver: source.driver, options: sizeOf(source), labels: { ...source.labels, ...request.labels } }, request.snapshot ? { snapshotOf: source.name } : {})
  try {
    const copy = (): Promise<void> => volumes.using(source, (from) => volumes.using(made, (to) => copyTree(from, to, signal)))
    await (request.pause ? paused(source.name, copy) : copy())
    return made
  } catch (error) {
    await volumes.remove(made.name, { force: true })
    throw error
  }
}

/** A copy of a volume that something is mounted for is one of its content, in a directory. */
function sizeOf({ options }: VolumeRecord): Record<string, string> {
  return options['size'] === undefined ? {} : { size: options['size'] }
}

/** Archives a volume's tree, to what is opened once it can be. */
export async function exportVolume({ volumes, archiver, paused }: CopyDeps, name: string, pause: boolean, to: () => Writable, signal: AbortSignal): Promise<void> {
  const record = await volumes.resolve(name)
  const work = (): Promise<void> => volumes.using(record, (path) => withDescriptor(openSync(path, constants.O_RDONLY | constants.O_DIRECTORY), async (root) => {
    await archiver.packTo(to(), root, {}, signal)
  }))
  await (pause ? paused(record.name, work) : work())
}

/** Unpacks an archive into a volume, which is made where there is none. What the volume has under other names stays. */
export async function importVolume({ volumes, archiver }: CopyDeps, name: string, archive: Readable, signal: AbortSignal): Promise<VolumeRecord> {
  const made = !volumes.find(name)
  const record = await volumes.create({ name, driver: '', options: {}, labels: {} })
  if (record.snapshotOf) throw invalid(`volume ${name} is a snapshot of ${record.snapshotOf}, and stays as it is`)
  try {
    await volumes.using(record, (path) => withDescriptor(openSync(path, constants.O_RDONLY | constants.O_DIRECTORY), async (root) => {
      await archiver.unpack(archive, root, { whiteouts: 'keep', leaveRoom: true }, signal)
    }))
    return record
  } catch (error) {
    if (made) await volumes.remove(name, { force: true })
    throw error
  }
}
