import { closeSync, constants, mkdirSync, openSync, readFileSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { join, posix } from 'node:path'
import type { Readable } from 'node:stream'
import type { Report } from '../api/progress.ts'
import { withDescriptor, type ArchiveFile } from '../archive/archive.ts'
import type { Events } from '../engine/events.ts'
import { invalid, messageOf } from '../lib/errors.ts'
import { digestOf, randomName, shortId } from '../lib/ids.ts'
import type { Blob } from '../layer/blobs.ts'
import { MAX_CONFIG, parseManifest, type Descriptor } from '../manifest/manifest.ts'
import { familiar, parseReference, type Reference } from '../reference/reference.ts'
import { openInRoot } from '../sys/fs.ts'
import { chainIdOf, type LayerStore } from '../layer/store.ts'
import { attributesOf, goArchitecture, type KeptManifest } from './image.ts'
import { parseImageConfig, type ImageStore } from './store.ts'

/** An image in an archive: the paths of its parts, and its manifest where that is in the archive, too. */
interface Found { config: string, layers: { path: string, blob?: Blob }[], names: string[], manifest?: KeptManifest }

/** Loads the images of an archive that `docker save` or another engine wrote: Docker's format (manifest.json) or an OCI
 * image layout (index.json). The archive is unpacked to disk first, since its manifest may come last. */
export async function loadImages(deps: { images: ImageStore, events: Events, dataRoot: string }, archive: Readable, options: { report: Report, signal: AbortSignal }): Promise<void> {
  const directory = join(deps.dataRoot, 'tmp', `load-${randomName()}`)
  mkdirSync(directory, { recursive: true, mode: 0o700 })
  const root = openSync(directory, constants.O_RDONLY | constants.O_DIRECTORY)
  try {
    await deps.images.layers.archiver.unpack(archive, root, { whiteouts: 'keep', owner: { uid: 0, gid: 0 }, leaveRoom: true }, options.signal)
    const files = new ArchiveFiles(root)
    const found = imagesIn(files)
    if (!found?.length) throw invalid('invalid archive: does not contain a manifest.json')
    for (const image of found) await loadOne(deps, files, image, options)
  } finally {
    closeSync(root)
    await rm(directory, { recursive: true, force: true })
  }
}

/** Files of the unpacked archive: links in it lead nowhere else. */
class ArchiveFiles {
  readonly #root: number

  constructor(root: number) {
    this.#root = root
  }

  #open(path: string): number {
    return openInRoot(this.#root, './' + posix.normalize('/' + path).slice(1), constants.O_RDONLY | constants.O_NONBLOCK)
  }

  has(path: string): boolean {
    const fd = this.#open(path)
    if (fd < 0) return false
    closeSync(fd)
    return true
  }

  text(path: string): string {
    const fd = this.#open(path)
    if (fd < 0) throw invalid(`invalid archive: ${JSON.stringify(path)} is missing`)
    try {
      const data = readFileSync(fd)
      if (data.length > MAX_CONFIG) throw invalid(`invalid archive: ${JSON.stringify(path)} is too large`)
      return data.toString('utf8')
    } finally {
      closeSync(fd)
    }
  }

  json<T>(path: string): T {
    try {
      return JSON.parse(this.text(path)) as T
    } catch (error) {
      throw invalid(`invalid archive: ${path}: ${messageOf(error)}`, error)
    }
  }

  /** Hands a file over to what unpacks it. */
  async use<T>(path: string, work: (file: ArchiveFile) => Promise<T>): Promise<T> {
    const fd = this.#open(path)
    if (fd < 0) throw invalid(`invalid archive: ${JSON.stringify(path)} is missing`)
    return await withDescriptor(fd, () => work({ path: `/proc/self/fd/${fd}` }))
  }
}

/** An archive may be in both forms: then that of OCI says more, unless it lacks names. */
function imagesIn(files: ArchiveFiles): Found[] {
  const docker = files.has('manifest.json') ? dockerImages(files) : undefined
  const oci = files.has('index.json') ? ociImages(files) : undefined
  const names = (found: readonly Found[]): number => found.reduce((count, image) => count + image.names.length, 0)
  return (oci && (!docker || names(oci) >= names(docker)) ? oci : docker) ?? []
}

function dockerImages(files: ArchiveFiles): Found[] {
  const manifest = files.json<{ Config?: unknown, RepoTags?: unknown, Layers?: unknown }[]>('manifest.json')
  if (!Array.isArray(manifest)) throw invalid('invalid archive: manifest.json is no list')
  return manifest.map(({ Config, RepoTags, Layers }) => {
    const list = (value: unknown): value is string[] => Array.isArray(value) && value.every((item) => typeof item === 'string')
    if (typeof Config !== 'string' || !list(Layers ?? []) || !list(RepoTags ?? [])) throw invalid('invalid archive: manifest.json is malformed')
    return { config: Config, layers: ((Layers ?? []) as string[]).map((path) => ({ path })), names: (RepoTags ?? []) as string[] }
  })
}

const blobPath = (digest: string): string => {
  if (!/^sha(256:[a-f0-9]{64}|512:[a-f0-9]{128})$/.test(digest)) throw invalid(`invalid archive: digest ${JSON.stringify(digest)}`)
  return `blobs/${digest.replace(':', '/')}`
}

function ociImages(files: ArchiveFiles): Found[] {
  const found: Found[] = []
  const visit = (descriptor: Descriptor, name: string | undefined, depth: number): void => {
    if (depth > 4) throw invalid('invalid archive: indexes are nested too deep')
    const text = files.text(blobPath(descriptor.digest))
    if (digestOf(text, descriptor.digest.split(':')[0]!) !== descriptor.digest) throw invalid(`invalid archive: ${descriptor.digest} is not what it says`)
    const manifest = parseManifest(text, descriptor.mediaType)
    if (manifest.kind === 'index') {
      const own = manifest.manifests.filter(({ platform }) => !platform?.architecture || platform.architecture === goArchitecture && platform.os === 'linux')
      for (const inner of own) visit(inner, name, depth + 1)
      return
    }
    const kept = { mediaType: manifest.mediaType, text }
    const same = found.find((image) => image.manifest?.text === text) // under another name
    if (same) return void (name && same.names.push(name))
    found.push({ config: blobPath(manifest.config.digest), names: name ? [name] : [], manifest: kept, layers: manifest.layers.map((layer) => ({ path: blobPath(layer.digest), ...(/[.+](gzip|zstd)$/.test(layer.mediaType) && { blob: layer }) })) })
  }
  for (const descriptor of files.json<{ manifests?: Descriptor[] }>('index.json').manifests ?? []) {
    const { annotations = {} } = descriptor
    const named = annotations['io.containerd.image.name'] ?? annotations['org.opencontainers.image.ref.name']
    visit(descriptor, named?.includes('/') || named?.includes(':') ? named : undefined, 0)
  }
  return found
}

async function loadOne(deps: { images: ImageStore, events: Events }, files: ArchiveFiles, found: Found, { report, signal }: { report: Report, signal: AbortSignal }): Promise<void> {
  const text = files.text(found.config)
  const { rootfs } = parseImageConfig(text)
  if (rootfs.diff_ids.length !== found.layers.length) throw invalid(`invalid manifest, layers length mismatch: expected ${rootfs.diff_ids.length}, got ${found.layers.length}`)
  const names: Reference[] = found.names.map(parseReference)
  const { layers } = deps.images
  const holder = `/hold/load-${randomName()}`
  try {
    let parent: string | undefined
    for (const [i, diffId] of rootfs.diff_ids.entries()) {
      const chainId = chainIdOf(parent, diffId)
      if (layers.has(chainId)) layers.hold(chainId, holder)
      else {
        report({ status: 'Loading layer', progressDetail: {}, id: shortId(diffId) })
        await registerOne(layers, files, found.layers[i]!, parent, holder, { diffId, signal })
      }
      parent = chainId
    }
    const id = deps.images.put(text, found.manifest ? { manifest: found.manifest } : {})
    for (const name of names) deps.images.tag(id, name)
    deps.events.emit('image', 'load', id, attributesOf(deps.images.get(id), id))
    for (const name of names) report({ stream: `Loaded image: ${familiar(name)}\n` })
    if (names.length === 0) report({ stream: `Loaded image ID: ${id}\n` })
  } finally {
    await layers.release(holder)
  }
}


/** A compressed layer stays as it is, so that the image's manifest remains its own. */
async function registerOne(layers: LayerStore, files: ArchiveFiles, { path, blob: found }: Found['layers'][number], parent: string | undefined, holder: string, options: { diffId: string, signal: AbortSignal }): Promise<void> {
  await files.use(path, async (file) => {
    const blob = found && { mediaType: found.mediaType, digest: found.digest, size: found.size }
    if (blob) {
      layers.holdBlob(blob.digest, holder)
      await layers.blobs.adopt(file.path, blob.digest)
      if (layers.blobs.size(blob.digest) !== blob.size) throw invalid(`invalid archive: ${blob.digest} has not the ${blob.size} bytes that its manifest says`)
    }
    await layers.register(blob ? layers.blobs.file(blob.digest) : file, parent, holder, { ...options, ...(blob && { blob }) })
  })
}
