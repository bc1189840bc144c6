import * as v from 'valibot'
import { passesLabels } from '../api/filters.ts'
import { flag, map, parseBody, text } from '../api/body.ts'
import type { Engine, Job } from '../engine/engine.ts'
import type { Events } from '../engine/events.ts'
import { invalid, isKind, unsupported } from '../lib/errors.ts'
import { treeSize } from '../lib/files.ts'
import type { Call, Route } from '../server/router.ts'
import { copyVolume, exportVolume, importVolume, type CopyDeps, type CopyRequest } from './copy.ts'
import type { VolumeRecord, VolumeRequest } from './volume.ts'
import type { Volumes } from './volumes.ts'

const createBody = v.object({ Name: text, Driver: text, DriverOpts: map, Labels: map, ClusterVolumeSpec: v.nullish(v.looseObject({})) })
const copyBody = v.object({ Name: text, Labels: map, NoPause: flag })

export interface VolumeServiceDeps extends CopyDeps { engine: Engine, events: Events }

/** The routes of volumes: Docker's, and to snapshot, clone, rename, export and import them. */
export function volumeRoutes(deps: VolumeServiceDeps): Route[] {
  const { volumes, engine, events } = deps
  const nameOf = (call: Call): string => call.params['name']!
  const copies = (path: string, snapshot: boolean): Route => ({ method: 'POST', path, async handler(call) {
    const { Name, Labels, NoPause } = parseBody(copyBody, await call.json() ?? {})
    if (!Name && !snapshot) throw invalid('the clone needs a name')
    const from = nameOf(call)
    const request: CopyRequest = { from, to: Name || `${from}-${new Date().toISOString().replace(/\.\d+Z$/, '').replace(/\D/g, '')}`, labels: Labels, snapshot, pause: !NoPause }
    const job: Job<CopyRequest, VolumeRecord> = { name: snapshot ? 'volume.snapshot' : 'volume.clone', subject: () => from, run: (input, { signal }) => copyVolume(deps, input, signal) }
    call.send(201, await wire(volumes, await engine.run(job, request, { signal: call.signal })))
  } })
  return [
    { method: 'GET', path: '/volumes', async handler(call) {
      const filters = call.filters(['dangling', 'driver', 'label', 'name'])
      const matches = compile(volumes, filters)
      const listed = await Promise.all((await volumes.list()).filter(matches).map((record) => wire(volumes, record)))
      call.send(200, { Volumes: listed, Warnings: null })
    } },
    { method: 'POST', path: '/volumes/create', async handler(call) {
      const { Name, Driver, DriverOpts, Labels, ClusterVolumeSpec } = parseBody(createBody, await call.json())
      if (ClusterVolumeSpec) throw unsupported('cluster volumes need swarm mode')
      const request: VolumeRequest = { name: Name, driver: Driver, options: DriverOpts, labels: Labels }
      const job: Job<VolumeRequest, VolumeRecord> = { name: 'volume.create', subject: ({ name }) => name, run: (input) => volumes.create(input) }
      call.send(201, await wire(volumes, await engine.run(job, request)))
    } },
    { method: 'GET', path: '/volumes/:name', async handler(call) {
      call.send(200, await wire(volumes, await volumes.resolve(nameOf(call)), { status: true }))
    } },
    { method: 'DELETE', path: '/volumes/:name', async handler(call) {
      const job: Job<string, void> = { name: 'volume.remove', subject: (name) => name, run: (name) => volumes.remove(name, { force: call.flag('force') }) }
      await engine.run(job, nameOf(call))
      call.empty()
    } },
    { method: 'POST', path: '/volumes/prune', async handler(call) {
      const filters = call.filters(['label', 'label!', 'all'])
      const [all] = filters.get('all') ?? []
      if (all !== undefined && !/^(1|t|true|0|f|false)$/i.test(all)) throw invalid(`invalid filter 'all=[${all}]'`)
      const named = call.version < 1042 || /^(1|t|true)$/i.test(all ?? '')
      const job: Job<null, { deleted: string[], space: number }> = { name: 'volume.prune', run: () => pruneVolumes(volumes, filters, named) }
      const { deleted, space } = await engine.run(job, null)
      events.emit('volume', 'prune', '', { reclaimed: String(space) })
      call.send(200, { VolumesDeleted: deleted.length ? deleted : null, SpaceReclaimed: space })
    } },
    { method: 'POST', path: '/volumes/:name/rename', async handler(call) {
      const to = call.query.get('name') ?? ''
      const job: Job<string, void> = { name: 'volume.rename', subject: (name) => name, run: (name) => volumes.rename(name, to) }
      await engine.run(job, nameOf(call))
      call.empty()
    } },
    copies('/volumes/:name/snapshot', true),
    copies('/volumes/:name/clone', false),
    { method: 'GET', path: '/volumes/:name/export', async handler(call) {
      const job: Job<string, void> = { name: 'volume.export', subject: (name) => name, run: (name, { signal }) => exportVolume(deps, name, !call.flag('noPause'), () => call.stream('application/x-tar'), signal) }
      await engine.run(job, nameOf(call), { signal: call.signal })
    } },
    { method: 'POST', path: '/volumes/:name/import', async handler(call) {
      const job: Job<string, VolumeRecord> = { name: 'volume.import', subject: (name) => name, run: (name, { signal }) => importVolume(deps, name, call.request, signal) }
      call.send(200, await wire(volumes, await engine.run(job, nameOf(call), { signal: call.signal })))
    } },
  ]
}

/** The API's Volume. */
export async function wire(volumes: Volumes, record: VolumeRecord, { status = false, usage = false }: { status?: boolean, usage?: boolean } = {}): Promise<object> {
  const driver = await volumes.driverOf(record).catch((error: unknown) => {
    if (!isKind(error)) throw error
    return undefined // a plugin that is gone leaves its volumes' names
  })
  const path = await driver?.path(record).catch(() => '') ?? ''
  return {
    ...(record.created && { CreatedAt: record.created.replace(/\.\d+Z$/, 'Z') }), Driver: record.driver, Labels: Object.keys(record.labels).length || record.anonymous ? record.labels : null, Mountpoint: path, Name: record.name,
    Options: Object.keys(record.options).length ? record.options : null, Scope: driver?.scope ?? 'local', ...(record.snapshotOf && { SnapshotOf: record.snapshotOf }),
    ...(status && driver?.status && { Status: await driver.status(record) }),
    ...(usage && { UsageData: { RefCount: volumes.holders(record.name).length, Size: record.driver === 'local' && path ? await treeSize(path) : -1 } }),
  }
}

function compile(volumes: Volumes, filters: ReadonlyMap<string, readonly string[]>): (record: VolumeRecord) => boolean {
  const dangling = filters.get('dangling') ?? []
  if (dangling.length > 1) throw invalid("invalid filter 'dangling': got more than one value")
  if (dangling[0] !== undefined && !/^(1|0|true|false)$/i.test(dangling[0])) throw invalid(`invalid filter 'dangling=[${dangling[0]}]'`)
  const any = (name: string, test: (value: string) => boolean): boolean => !filters.get(name)?.length || filters.get(name)!.some(test)
  return (record) => any('name', (value) => record.name.includes(value)) && any('driver', (value) => record.driver === value) && passesLabels(record.labels, filters)
    && (dangling[0] === undefined || /^(1|true)$/i.test(dangling[0]) === (volumes.holders(record.name).length === 0))
}

/** Deletes the volumes of this host that no container refers to: those without a name of a person's, or all. */
async function pruneVolumes(volumes: Volumes, filters: ReadonlyMap<string, readonly string[]>, named: boolean): Promise<{ deleted: string[], space: number }> {
  const deleted: string[] = []
  let space = 0
  for (const record of await volumes.list()) {
    if (record.driver !== 'local' || volumes.holders(record.name).length || !named && !record.anonymous || !passesLabels(record.labels, filters)) continue
    try {
      const size = await treeSize(await (await volumes.driverOf(record)).path(record))
      await volumes.remove(record.name)
      space += size
      deleted.push(record.name)
    } catch (error) {
      if (!isKind(error, 'conflict') && !isKind(error, 'not-found')) throw error // somebody has it meanwhile
    }
  }
  return { deleted, space }
}
