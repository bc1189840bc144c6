import { closeSync, constants, mkdirSync, openSync, readdirSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { Readable } from 'node:stream'
import { randomId, sha256 } from '../lib/ids.ts'
import { invalid, notFound } from '../lib/errors.ts'
import { treeSize } from '../lib/files.ts'
import type { GraphDB } from '../graphdb/graphdb.ts'
import type { GraphDriver, TreeMount } from '../graphdriver/driver.ts'
import { withDescriptor, type ArchiveFile, type Archiver } from '../archive/archive.ts'
import type { Change } from '../archive/changes.ts'
import { detachTree } from '../sys/mount.ts'
import type { Blob, Blobs } from './blobs.ts'

/** A read-only layer. `chainId` names it together with all below it (OCI image-spec, "Layer ChainID"). */
export interface Layer {
  chainId: string
  diffId: string
  parent?: string
  /** The graph driver's id. */
  driverId: string
  /** Bytes of the files in it. */
  size: number
  /** Its archive as a registry has it, where it came from one or went to one. */
  blob?: Blob
}

/** The chain ID of a layer on top of a chain. */
export function chainIdOf(parent: string | undefined, diffId: string): string {
  return parent === undefined ? diffId : sha256(`${parent} ${diffId}`)
}

/** Layers by chain ID, shared by the images that have them in common, and containers' own layers on top. */
export class LayerStore {
  readonly #graph: GraphDB
  readonly #driver: GraphDriver
  readonly archiver: Archiver
  readonly blobs: Blobs
  readonly #root: string
  readonly #splits: string

  constructor(deps: { graph: GraphDB, driver: GraphDriver, archiver: Archiver, blobs: Blobs, root: string }) {
    this.#graph = deps.graph
    this.#driver = deps.driver
    this.archiver = deps.archiver
    this.blobs = deps.blobs
    this.#root = deps.root
    this.#splits = join(deps.root, 'layers', deps.driver.name)
    mkdirSync(this.#splits, { recursive: true, mode: 0o700 })
  }

  get driver(): GraphDriver {
    return this.#driver
  }

  get(chainId: string): Layer {
    const layer = this.#graph.get<Layer>('layer', chainId)
    if (!layer) throw notFound(`layer ${chainId} does not exist`)
    return layer
  }

  has(chainId: string): boolean {
    return this.#graph.get<Layer>('layer', chainId) !== undefined
  }

  list(): Layer[] {
    return this.#graph.list<Layer>('layer').map(({ body }) => body)
  }

  /** The layers from the lowest to the named one. */
  chain(chainId: string | undefined): Layer[] {
    const layers: Layer[] = []
    for (let at = chainId; at !== undefined;) {
      const layer = this.get(at)
      layers.unshift(layer)
      at = layer.parent
    }
    return layers
  }

  /** Unpacks an archive as a layer on top of `parent` and returns it, or the equal one that is there already. With
   * `diffId`, an archive that turns out to be another is refused. Until an image or a layer refers to it, it is kept by
   * `holder`, an owner in the graph. `blob` is the archive, among the blobs by the time that the archive ends; otherwise
   * what the files do not have of it is kept beside them. */
  async register(archive: Readable | ArchiveFile, parent: string | undefined, holder: string, options: { diffId?: string, blob?: Blob, signal?: AbortSignal } = {}): Promise<Layer> {
    const { blob } = options
    const driverId = randomId()
    const split = blob ? undefined : join(this.#splits, driverId)
    await this.#driver.create(driverId, parent === undefined ? undefined : this.get(parent).driverId)
    try {
      const root = openSync(this.#driver.directory(driverId), constants.O_RDONLY | constants.O_DIRECTORY)
      const { digest, size } = await withDescriptor(root, (fd) => this.archiver.unpack(archive, fd, {
        whiteouts: this.#driver.deletions === 'overlay' ? 'overlay' : 'delete', digest: true, leaveRoom: true, ...(split !== undefined && { split }),
      }, options.signal))
      const diffId = digest!
      if (options.diffId && options.diffId !== diffId) throw invalid(`invalid diffID for layer: expected ${JSON.stringify(options.diffId)}, got ${JSON.stringify(diffId)}`)
      const layer: Layer = { chainId: chainIdOf(parent, diffId), diffId, driverId, size, ...(parent !== undefined && { parent }), ...(blob && { blob }) }
      const kept = this.#graph.transaction(() => {
        const there = this.#graph.get<Layer>('layer', layer.chainId)
        if (!there) {
          this.#graph.put('layer', layer.chainId, layer)
          if (parent !== undefined) this.#graph.link(layer.chainId, 'parent', parent)
          if (blob) this.#graph.link(layer.chainId, 'blob', blobNode(blob.digest))
        }
        this.#graph.link(holder, layer.chainId, layer.chainId)
        return there ?? layer
      })
      if (kept.driverId !== driverId) await this.#discard(driverId)
      return kept
    } catch (error) {
      await this.#discard(driverId)
      throw error
    }
  }

  /** Keeps a layer for a holder while it works, as `register` does. */
  hold(chainId: string, holder: string): void {
    this.#graph.link(holder, chainId, chainId)
  }

  /** Keeps a blob, where it is here, from being deleted with the last layer that owns it. */
  holdBlob(digest: string, holder: string): void {
    this.#graph.link(holder, blobNode(digest), blobNode(digest))
  }

  /** Ends a holder's hold on layers and blobs, and deletes the layers that nothing else refers to. Blobs without a layer
   * stay for the next who wants them, for a while. */
  async release(holder: string): Promise<void> {
    const held = this.#graph.edges(holder)
    this.#graph.transaction(() => held.forEach(({ name }) => this.#graph.unlink(holder, name)))
    for (const { target } of held) await this.collect(target)
  }

  /** Deletes a layer, and those below it, as far as nothing refers to them. Returns the chain IDs that went. */
  async collect(chainId: string): Promise<string[]> {
    const gone: Layer[] = []
    this.#graph.transaction(() => {
      for (let at: string | undefined = chainId; at !== undefined && this.#graph.edgesTo(at).length === 0;) {
        const layer: Layer | undefined = this.#graph.get<Layer>('layer', at)
        if (!layer) break
        this.#graph.remove('layer', at)
        gone.push(layer)
        at = layer.parent
      }
    })
    for (const layer of gone) {
      await this.#discard(layer.driverId)
      if (layer.blob && !this.#wants(layer.blob.digest)) await this.blobs.remove(layer.blob.digest)
    }
    return gone.map((layer) => layer.chainId)
  }

  async #discard(driverId: string): Promise<void> {
    await this.#driver.remove(driverId)
    await rm(join(this.#splits, driverId), { force: true })
  }

  /** The archive that a layer was unpacked from, byte for byte and not compressed; for one that has no blob. */
  archive(chainId: string): Readable {
    const { driverId } = this.get(chainId)
    const split = join(this.#splits, driverId)
    const root = openSync(this.#driver.directory(driverId), constants.O_RDONLY | constants.O_DIRECTORY)
    const { stream, packed } = this.archiver.replay(root, split)
    const close = (): void => closeSync(root)
    packed.then(close, close)
    return stream
  }

  /** Keeps a blob that was made of a layer's archive, for the next who wants it. */
  keepBlob(chainId: string, blob: Blob): void {
    this.#graph.transaction(() => {
      this.#graph.put('layer', chainId, { ...this.get(chainId), blob })
      this.#graph.link(chainId, 'blob', blobNode(blob.digest), true)
    })
  }

  /** Resolves when all that layers and blobs have written until now would survive the power's going. */
  async sync(): Promise<void> {
    await withDescriptor(openSync(this.#root, constants.O_RDONLY | constants.O_DIRECTORY), (fd) => this.archiver.sync(fd))
  }

  /** Makes a container's own layer on top of a chain, of at most `size` bytes. Its id is the container's. */
  async createWritable(id: string, parent: string | undefined, options: { size?: number } = {}): Promise<void> {
    await this.#driver.create(id, parent === undefined ? undefined : this.get(parent).driverId, options)
  }

  removeWritable(id: string): Promise<void> {
    return this.#driver.remove(id)
  }

  mount(id: string, options: { volatile: boolean }): TreeMount {
    return this.#driver.mount(id, options)
  }

  /** Runs `work` with an open descriptor of a container's whole tree, for reading. The container may run. */
  withTree<T>(id: string, work: (root: number) => Promise<T>): Promise<T> {
    return withDescriptor(this.#driver.view(id), work)
  }

  /** As `withTree`, for writing. The caller sees to it that the container does not run, nor begins to meanwhile. */
  withWritableTree<T>(id: string, work: (root: number) => Promise<T>): Promise<T> {
    return withDescriptor(this.#driver.open(id), work)
  }

  /** What a container changed against the image below it, apart from some paths. */
  async changes(id: string, parent: string | undefined, ignore: readonly string[]): Promise<Change[]> {
    return await this.withTree(id, (after) => this.#withChain(parent, (before) => this.archiver.compare(before, after, ignore)))
  }

  /** Archives what a container changed, as a layer. */
  async archiveChanges(id: string, parent: string | undefined, ignore: readonly string[], take: (stream: Readable) => Promise<Layer>): Promise<Layer> {
    const changes = await this.changes(id, parent, ignore)
    return await this.withTree(id, async (root) => (await this.archiver.pack(root, { changes }, take)).taken)
  }

  /** An image's tree, or what an image without layers has. */
  async #withChain<T>(chainId: string | undefined, work: (root: number) => Promise<T>): Promise<T> {
    if (chainId !== undefined) return await withDescriptor(this.view(chainId), work)
    const id = randomId()
    await this.createWritable(id, undefined)
    try {
      return await this.withTree(id, work)
    } finally {
      await this.#driver.remove(id)
    }
  }

  /** An image's tree as a mount that is nowhere yet, to be read only. */
  view(chainId: string): number {
    return this.#driver.view(this.get(chainId).driverId)
  }

  /** Runs `work` with an open descriptor of an image's tree, for reading. */
  withImageTree<T>(chainId: string, work: (root: number) => Promise<T>): Promise<T> {
    return withDescriptor(this.view(chainId), work)
  }

  /** Bytes of the files in a container's own layer. What goes meanwhile does not count. */
  async writableSize(id: string): Promise<number> {
    return this.#driver.exists(id) ? await treeSize(this.#driver.directory(id)) : 0
  }

  /** A container's whole tree as a mount that is nowhere yet. */
  detach(id: string): number {
    const how = this.#driver.mount(id, { volatile: false })
    return how.type === 'bind' ? detachTree(how.source) : this.#driver.open(id)
  }

  /** The directory that holds a container's own layer. */
  directory(id: string): string {
    return this.#driver.directory(id)
  }

  /** Deletes what no layer and no container owns: what a crash left. `containers` are the ids of those that exist. */
  async sweep(containers: ReadonlySet<string>): Promise<string[]> {
    for (const { owner } of this.#graph.edgesUnder('/hold/')) await this.release(owner)
    const owned = new Set(this.list().map(({ driverId }) => driverId))
    const lost = this.#driver.ids().filter((id) => !owned.has(id) && !containers.has(id))
    for (const id of lost) await this.#discard(id)
    for (const name of readdirSync(this.#splits)) if (!owned.has(name)) await rm(join(this.#splits, name), { force: true })
    this.blobs.sweep((digest) => this.#wants(digest))
    return lost
  }

  /** Deletes what transfers have left that were given up. Returns the bytes that this gave back. */
  pruneBlobs(): number {
    return this.blobs.prune((digest) => this.#wants(digest))
  }

  #wants(digest: string): boolean {
    return this.#graph.edgesTo(blobNode(digest)).length > 0
  }

  /** Layers in the graph whose directories are gone. */
  missing(): Layer[] {
    return this.list().filter(({ driverId }) => !this.#driver.exists(driverId))
  }
}

/** A blob as the graph has it: a digest alone may be a layer's too. */
const blobNode = (digest: string): string => `blob:${digest}`
