import { invalid, notFound } from '../lib/errors.ts'
import { sha256 } from '../lib/ids.ts'
import type { GraphDB } from '../graphdb/graphdb.ts'
import { chainIdOf, type Layer, type LayerStore } from '../layer/store.ts'
import { parseManifest } from '../manifest/manifest.ts'
import { canonical, familiar, parseReference, repositoryOf, withDefaultTag, type Reference } from '../reference/reference.ts'
import type { Image, ImageConfig, KeptManifest } from './image.ts'

const TAGS = '/tags'
const ROOT_IMAGES = '/images'

/** How many manifests of an image are kept: the newest. */
const MAX_MANIFESTS = 8

interface Kept { text: string, topLayer?: string, parent?: string, lastTagged?: string, manifests?: KeptManifest[] }

/** Images by id, and the names that lead to them. */
export class ImageStore {
  readonly #graph: GraphDB
  readonly layers: LayerStore
  readonly #parsed = new Map<string, Image>()

  constructor(deps: { graph: GraphDB, layers: LayerStore }) {
    this.#graph = deps.graph
    this.layers = deps.layers
  }

  /** Keeps an image whose layers are all there, under a name if one is given, and the manifest that it came by. Returns its
   * id. With `durable`, it stays although the power goes. */
  put(text: string, options: { reference?: Reference, parent?: string, manifest?: KeptManifest, durable?: boolean } = {}): string {
    const config = parseImageConfig(text)
    const id = sha256(text)
    let topLayer: string | undefined
    for (const diffId of config.rootfs.diff_ids) {
      topLayer = chainIdOf(topLayer, diffId)
      if (!this.layers.has(topLayer)) throw notFound(`the image's layer ${diffId} is missing`)
    }
    this.#graph.transaction(() => {
      const before = this.#graph.get<Kept>('image', id)
      const manifests = options.manifest ? [...(before?.manifests ?? []).filter((other) => other.text !== options.manifest!.text), options.manifest].slice(-MAX_MANIFESTS) : before?.manifests
      const kept: Kept = { ...before, text, ...(topLayer && { topLayer }), ...(options.parent && { parent: options.parent }), ...(manifests && { manifests }) }
      this.#graph.put('image', id, kept)
      this.#graph.link(ROOT_IMAGES, id, id)
      if (topLayer) this.#graph.link(id, 'layer', topLayer)
      if (options.parent && options.parent !== id) this.#graph.link(id, 'parent', options.parent, true)
      if (options.reference) this.tag(id, options.reference)
    }, options)
    this.#parsed.delete(id)
    return id
  }

  has(id: string): boolean {
    return this.#parsed.has(id) || this.#graph.get<Kept>('image', id) !== undefined
  }

  /** The image with this very id. */
  get(id: string): Image {
    const known = this.#parsed.get(id)
    if (known) return known
    const kept = this.#graph.get<Kept>('image', id)
    if (!kept) throw notFound(`No such image: ${id}`)
    const image: Image = { id, config: parseImageConfig(kept.text), ...kept }
    this.#parsed.set(id, image)
    return image
  }

  list(): Image[] {
    return this.#graph.list<Kept>('image').map(({ id }) => this.get(id))
  }

  /** The image that a person means by a name, an id, or the beginning of one. */
  resolve(text: string): Image {
    return this.get(this.#find(text))
  }

  #find(text: string): string {
    if (/^sha256:[a-f0-9]{64}$/.test(text)) {
      if (this.has(text)) return text
      throw notFound(`No such image: ${text}`)
    }
    if (/^[a-f0-9]{64}$/.test(text)) {
      if (this.has(`sha256:${text}`)) return `sha256:${text}`
      throw notFound(`No such image: ${text}`)
    }
    const prefix = text.replace(/^sha256:/, '')
    let reference: Reference | undefined
    if (!text.startsWith('sha256:')) {
      reference = withDefaultTag(parseReference(text))
      const target = this.#graph.target(TAGS, canonical(reference)) ?? (reference.tag && reference.digest ? this.#graph.target(TAGS, canonical({ domain: reference.domain, path: reference.path, digest: reference.digest })) : undefined)
      if (target) return target
    }
    if (/^[a-f0-9]{1,64}$/.test(prefix)) {
      const ids = this.#graph.idsWith('image', `sha256:${prefix}`, 2)
      if (ids.length === 1) return ids[0]!
      if (ids.length > 1) throw invalid(`image ID prefix ${JSON.stringify(text)} is ambiguous`)
    }
    throw notFound(`No such image: ${reference ? familiar(reference) : text}`)
  }

  /** Gives an image a name, which it takes from the image that had it. */
  tag(id: string, reference: Reference): void {
    this.#graph.transaction(() => {
      this.#graph.link(TAGS, canonical(withDefaultTag(reference)), id, true)
      const kept = this.#graph.get<Kept>('image', id)
      if (!kept) throw notFound(`No such image: ${id}`)
      this.#graph.put('image', id, { ...kept, lastTagged: new Date().toISOString() })
    })
    this.#parsed.delete(id)
  }

  untag(reference: Reference): void {
    this.#graph.unlink(TAGS, canonical(withDefaultTag(reference)))
  }

  /** The image that a name leads to, or undefined. */
  tagged(reference: Reference): string | undefined {
    return this.#graph.target(TAGS, canonical(withDefaultTag(reference)))
  }

  /** The tags of a repository. */
  tagsOf({ domain, path }: Pick<Reference, 'domain' | 'path'>): string[] {
    const prefix = `${repositoryOf({ domain, path })}:`
    return this.#graph.edges(TAGS).flatMap(({ name }) => (name.startsWith(prefix) && !name.includes('@') ? [name.slice(prefix.length)] : []))
  }

  /** An image's names with tags, and those with digests, as people write them. */
  namesOf(id: string): { tags: string[], digests: string[] } {
    const names = this.#graph.edgesTo(id).filter((edge) => edge.owner === TAGS).map((edge) => parseReference(edge.name))
    return { tags: names.filter(({ digest }) => !digest).map(familiar), digests: names.filter(({ digest }) => digest).map(familiar) }
  }

  /** All names, by image id. */
  names(): Map<string, { tags: string[], digests: string[] }> {
    const names = new Map<string, { tags: string[], digests: string[] }>()
    for (const { name, target } of this.#graph.edges(TAGS)) {
      const reference = parseReference(name)
      const entry = names.get(target) ?? { tags: [], digests: [] }
      names.set(target, entry)
      ;(reference.digest ? entry.digests : entry.tags).push(familiar(reference))
    }
    return names
  }

  /** The images that were committed from this one. */
  children(id: string): string[] {
    return this.#graph.edgesTo(id).filter((edge) => edge.name === 'parent').map((edge) => edge.owner)
  }

  /** Deletes an image and the layers that nothing else needs. Returns the chain IDs that went. */
  async remove(id: string): Promise<string[]> {
    const { topLayer } = this.get(id)
    this.#graph.remove('image', id)
    this.#parsed.delete(id)
    return topLayer ? await this.layers.collect(topLayer) : []
  }

  /** The newest manifest of an image all of whose layers are here as that has them; undefined where none is. */
  manifestOf(image: Image): KeptManifest | undefined {
    const chain = this.chain(image)
    return this.get(image.id).manifests?.findLast(({ text }) => {
      const manifest = parseManifest(text)
      return manifest.kind === 'image' && manifest.layers.length === chain.length && manifest.layers.every(({ digest }, at) => chain[at]!.blob?.digest === digest)
    })
  }

  /** The image's layers from the lowest up. */
  chain(image: Image): Layer[] {
    return this.layers.chain(image.topLayer)
  }

  /** Bytes of the files in all its layers. */
  size(image: Image): number {
    return this.chain(image).reduce((sum, layer) => sum + layer.size, 0)
  }
}

/** Reads and checks the text of an image's configuration. */
export function parseImageConfig(text: string): ImageConfig {
  let config: ImageConfig
  try {
    config = JSON.parse(text) as ImageConfig
  } catch (error) {
    throw invalid('invalid image configuration: not JSON', error)
  }
  const diffIds = config?.rootfs?.diff_ids ?? []
  if (typeof config !== 'object' || config === null || !Array.isArray(diffIds) || !diffIds.every((id) => /^sha256:[a-f0-9]{64}$/.test(id)))
    throw invalid('invalid image configuration: no rootfs.diff_ids')
  if (config.os && config.os !== 'linux') throw invalid(`cannot load ${config.os} image on linux`)
  return { ...config, rootfs: { type: 'layers', diff_ids: diffIds } }
}
