import { existsSync, readdirSync } from 'node:fs'
import type { Events } from '../engine/events.ts'
import type { GraphDB } from '../graphdb/graphdb.ts'
import { BerthError, conflict, invalid, isKind, notFound } from '../lib/errors.ts'
import { randomId } from '../lib/ids.ts'
import { KeyedLock } from '../lib/lock.ts'
import type { VolumeDriver } from '../volumedriver/driver.ts'
import type { VolumeRecord, VolumeRequest, VolumeUse } from './volume.ts'

const legalName = /^[a-zA-Z0-9][a-zA-Z0-9_.-]+$/

export interface VolumesOptions {
  graph: GraphDB
  events: Events
  driver: (name: string) => Promise<VolumeDriver>
  /** The names of the plugins that there are, of any kind. */
  plugins: () => string[]
  warn: (message: string, error?: unknown) => void
}

/** The volumes that there are, and who has them. */
export class Volumes {
  readonly #graph: GraphDB
  readonly #events: Events
  readonly #driver: (name: string) => Promise<VolumeDriver>
  readonly #plugins: () => string[]
  readonly #warn: VolumesOptions['warn']
  /** By volume, the containers that refer to it, whether they run or not. */
  readonly #holders = new Map<string, Set<string>>()
  readonly #lock = new KeyedLock()

  constructor({ graph, events, driver, plugins, warn }: VolumesOptions) {
    this.#graph = graph
    this.#events = events
    this.#driver = driver
    this.#plugins = plugins
    this.#warn = warn
  }

  /** Takes up the volumes of this host that the graph does not know: their names were lost with it, or an engine was killed
   * while it made them. One without a name and without content is of nobody. */
  async open(): Promise<void> {
    const local = await this.#driver('local')
    for (const name of await local.list!()) {
      if (this.find(name)) continue
      const record = this.#record(name, local)
      const anonymous = /^[0-9a-f]{64}$/.test(name)
      const path = await local.path(record)
      if (!existsSync(path) || anonymous && readdirSync(path).length === 0) await local.remove(record)
      else this.#graph.put('volume', name, { ...record, anonymous, created: new Date().toISOString() })
    }
  }

  /** Undoes what engines before this one have left mounted, once all that runs has been taken up. */
  async settle(): Promise<void> {
    await (await this.#driver('local')).settle!()
  }

  driverOf({ driver }: Pick<VolumeRecord, 'driver'>): Promise<VolumeDriver> {
    return this.#driver(driver)
  }

  /** Makes a volume, or finds it: who asks for one that is there gets it, unless another driver has it. With `holder` it is
   * that container's from the first moment. */
  async create(request: VolumeRequest, { holder, snapshotOf }: { holder?: string, snapshotOf?: string } = {}): Promise<VolumeRecord> {
    const name = request.name || randomId()
    if (name !== request.name || legalName.test(name)) {
      using _held = await this.#lock.hold(name)
      if (request.driver) await this.#lookUp(name, request.driver)
      const there = this.find(name)
      if (there && there.driver !== (request.driver || there.driver)) throw conflict(`create ${name}: conflict: volume name must be unique`)
      const record = there ?? await this.#make(name, request, snapshotOf)
      if (holder) this.hold(name, holder)
      return record
    }
    if (name.length === 1 && /[a-zA-Z0-9]/.test(name)) throw invalid(`create ${name}: volume name is too short, names should be at least two alphanumeric characters`)
    throw invalid(`create ${name}: ${JSON.stringify(name)} includes invalid characters for a local volume name, only "[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, use absolute path`)
  }

  async #make(name: string, request: VolumeRequest, snapshotOf: string | undefined): Promise<VolumeRecord> {
    const record: VolumeRecord = { name, driver: request.driver || 'local', options: request.options, labels: request.labels, created: new Date().toISOString(), anonymous: request.name === '', ...(snapshotOf && { snapshotOf }) }
    const driver = await this.#lookUp(name, record.driver)
    try {
      await driver.create(record)
      this.#graph.put('volume', name, record)
    } catch (error) {
      throw within(`create ${name}`, error)
    }
    this.#events.emit('volume', 'create', name, { driver: record.driver })
    return record
  }

  async #lookUp(name: string, driver: string): Promise<VolumeDriver> {
    try {
      return await this.#driver(driver)
    } catch (error) {
      throw within(`create ${name}: error looking up volume plugin ${driver}`, error)
    }
  }

  /** A volume that the engine knows. */
  find(name: string): VolumeRecord | undefined {
    return this.#graph.get<VolumeRecord>('volume', name)
  }

  /** As `find`; also one that only a plugin knows, which the engine then knows too. Throws `not-found`. */
  async resolve(name: string): Promise<VolumeRecord> {
    const known = this.find(name)
    if (known) return known
    for (const driver of await this.#remote())
      if ((await this.#namesOf(driver)).includes(name)) return this.#adopt(name, driver)
    throw notFound(`get ${name}: no such volume`)
  }

  #adopt(name: string, driver: VolumeDriver): VolumeRecord {
    const record = this.#record(name, driver)
    this.#graph.put('volume', name, record)
    return record
  }

  #record(name: string, driver: VolumeDriver): VolumeRecord {
    return { name, driver: driver.name, options: {}, labels: {}, created: '', anonymous: false }
  }

  /** The plugins that keep volumes. */
  async #remote(): Promise<VolumeDriver[]> {
    const names = new Set([...this.#graph.list<VolumeRecord>('volume').map(({ body }) => body.driver), ...this.#plugins()])
    names.delete('local')
    const drivers = await Promise.all([...names].map((name) => this.#driver(name).catch((error: unknown) => {
      if (!isKind(error, 'not-found')) this.#warn(`the volume driver ${name} does not answer`, error)
    })))
    return drivers.filter((driver) => driver !== undefined)
  }

  async #namesOf(driver: VolumeDriver): Promise<string[]> {
    try {
      return await driver.list?.() ?? []
    } catch (error) {
      this.#warn(`the volume driver ${driver.name} does not list its volumes`, error)
      return []
    }
  }

  /** All volumes, also those that only plugins know, by name; and what kept some from being listed. */
  async list(): Promise<VolumeRecord[]> {
    for (const driver of await this.#remote()) for (const name of await this.#namesOf(driver)) if (!this.find(name)) this.#adopt(name, driver)
    return this.#graph.list<VolumeRecord>('volume').map(({ body }) => body)
  }

  /** The containers that refer to a volume. */
  holders(name: string): string[] {
    return [...this.#holders.get(name) ?? []]
  }

  /** Says that a container refers to a volume. */
  hold(name: string, holder: string): void {
    const holders = this.#holders.get(name) ?? new Set()
    this.#holders.set(name, holders.add(holder))
  }

  /** Ends a container's reference. */
  release(name: string, holder: string): void {
    const holders = this.#holders.get(name)
    holders?.delete(holder)
    if (holders?.size === 0) this.#holders.delete(name)
  }

  /** Deletes a volume that nobody refers to. With `force`, one that is not there is no error, nor that its driver is gone. */
  async remove(name: string, { force = false }: { force?: boolean } = {}): Promise<void> {
    using _held = await this.#lock.hold(name)
    const record = force ? await this.resolve(name).catch(() => undefined) : await this.resolve(name)
    if (!record) return
    this.#checkUnused('remove', name)
    try {
      await (await this.driverOf(record)).remove(record)
    } catch (error) {
      if (!force) throw within(`remove ${name}`, error)
      this.#warn(`volume ${name} is forgotten, though its driver could not remove it`, error)
    }
    this.#graph.remove('volume', name)
    this.#events.emit('volume', 'destroy', name, { driver: record.driver })
  }

  #checkUnused(what: string, name: string): void {
    const holders = this.holders(name)
    if (holders.length) throw conflict(`${what} ${name}: volume is in use - [${holders.join(', ')}]`)
  }

  /** Gives a volume that nobody refers to another name. */
  async rename(name: string, to: string): Promise<void> {
    if (!legalName.test(to)) throw invalid(`rename ${name}: ${JSON.stringify(to)} includes invalid characters for a local volume name, only "[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed`)
    using _first = await this.#lock.hold([name, to].toSorted()[0]!)
    using _second = name === to ? undefined : await this.#lock.hold([name, to].toSorted()[1]!)
    const record = await this.resolve(name)
    if (this.find(to)) throw conflict(`rename ${name}: a volume named ${to} exists already`)
    this.#checkUnused('rename', name)
    const driver = await this.driverOf(record)
    if (!driver.rename) throw new BerthError('unsupported', `rename ${name}: volumes of the driver ${driver.name} keep their names`)
    await driver.rename(record, to)
    this.#graph.transaction(() => {
      this.#graph.remove('volume', name)
      this.#graph.put('volume', to, { ...record, name: to, anonymous: false })
    })
    this.#events.emit('volume', 'rename', to, { driver: record.driver, oldName: name })
  }

  /** Makes a volume's tree usable for a container. Returns its path on the host. */
  async mount(name: string, use: VolumeUse): Promise<string> {
    using _held = await this.#lock.hold(name)
    const record = await this.resolve(name)
    const path = await (await this.driverOf(record)).mount(record, use.container)
    this.#events.emit('volume', 'mount', name, { container: use.container, destination: use.destination, driver: record.driver, propagation: use.propagation, 'read/write': String(use.writable) })
    return path
  }

  /** Undoes a `mount`. */
  async unmount(name: string, container: string): Promise<void> {
    using _held = await this.#lock.hold(name)
    const record = this.find(name)
    if (!record) return
    await (await this.driverOf(record)).unmount(record, container)
    this.#events.emit('volume', 'unmount', name, { container, driver: record.driver })
  }

  /** Takes up what a container, which runs on, mounted while an earlier engine ran. */
  async resume(name: string, container: string): Promise<void> {
    const record = this.find(name)
    if (record) await (await this.driverOf(record)).resume(record, container)
  }

  /** Runs `work` with the path of a volume's tree, mounted for as long as that takes. */
  async using<T>(record: VolumeRecord, work: (path: string) => Promise<T>): Promise<T> {
    const id = randomId()
    const driver = await this.driverOf(record)
    const path = await this.#lock.with(record.name, () => driver.mount(record, id))
    try {
      return await work(path)
    } finally {
      await this.#lock.with(record.name, () => driver.unmount(record, id))
    }
  }
}

/** An error with what was being done before its words; a bug stays as it is. */
function within(what: string, error: unknown): unknown {
  return isKind(error) ? new BerthError(error.kind, `${what}: ${error.message}`, { cause: error }) : error
}
