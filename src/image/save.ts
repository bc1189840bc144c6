import { createReadStream, createWriteStream, mkdirSync, statSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import type { Events } from '../engine/events.ts'
import { TRAILER, encodeEntry, paddedSize, type Entry } from '../archive/tar.ts'
import { randomName, sha256 } from '../lib/ids.ts'
import { types } from '../manifest/manifest.ts'
import { canonical, familiar, parseReference, withDefaultTag } from '../reference/reference.ts'
import { attributesOf, type Image } from './image.ts'
import type { ImageStore } from './store.ts'

interface Saved { image: Image, tags: string[] }

/** Archives images in a form that reads both as Docker's (manifest.json) and as an OCI image layout (index.json): blobs
 * by digest, byte for byte those that were pulled or loaded. */
export async function saveImages(deps: { images: ImageStore, events: Events, dataRoot: string }, names: readonly string[]): Promise<Readable> {
  const saved = collect(deps.images, names)
  const directory = join(deps.dataRoot, 'tmp', `save-${randomName()}`)
  mkdirSync(directory, { recursive: true, mode: 0o700 })
  for (const { image } of saved) deps.events.emit('image', 'save', image.id, attributesOf(image, image.id))
  const stream = Readable.from(write(deps.images, saved, directory), { objectMode: false, highWaterMark: 1 << 20 })
  stream.once('close', () => void rm(directory, { recursive: true, force: true }))
  return stream
}

/** The images that the names mean. A repository without a tag means all of its tags; an id none. */
function collect(images: ImageStore, names: readonly string[]): Saved[] {
  const saved = new Map<string, Saved>()
  for (const name of names) {
    const byId = /^(sha256:)?[a-f0-9]{4,64}$/.test(name)
    const add = (image: Image, tag: string | undefined): void => {
      const entry = saved.get(image.id) ?? { image, tags: [] }
      saved.set(image.id, entry)
      if (tag && !entry.tags.includes(tag)) entry.tags.push(tag)
    }
    const reference = byId ? undefined : parseReference(name)
    const whole = reference && !reference.tag && !reference.digest ? images.tagsOf(reference).map((tag) => ({ ...reference, tag })) : []
    for (const name of whole) add(images.get(images.tagged(name)!), familiar(name))
    if (whole.length) continue
    const image = images.resolve(name)
    const tagged = reference && images.tagged(reference) === image.id
    add(image, tagged && reference.tag ? familiar(withDefaultTag(reference)) : undefined)
  }
  return [...saved.values()]
}

function entry(name: string, size: number, type: 'file' | 'directory' = 'file'): Buffer {
  const plain: Entry = {
    type, name, linkName: '', mode: type === 'file' ? 0o644 : 0o755, uid: 0, gid: 0, userName: '', groupName: '', size, mtime: { seconds: 0, nanoseconds: 0 },
    major: 0, minor: 0, attributes: new Map(),
  }
  return encodeEntry(plain)
}

function* text(name: string, content: string): Generator<Buffer> {
  const data = Buffer.from(content)
  yield entry(name, data.length)
  yield data
  yield Buffer.alloc(paddedSize(data.length) - data.length)
}

/** A layer's blob in the archive: the one that came from a registry, or the bare archive. */
interface Written { mediaType: string, digest: string, size: number }

async function* write(images: ImageStore, saved: readonly Saved[], directory: string): AsyncGenerator<Buffer> {
  yield entry('blobs/', 0, 'directory')
  yield entry('blobs/sha256/', 0, 'directory')
  const pathOf = (digest: string): string => `blobs/${digest.replace(':', '/')}`
  const written = new Map<string, Written>()
  const manifests: object[] = []
  const docker: object[] = []
  async function* file(digest: string, size: number, content: Readable): AsyncGenerator<Buffer> {
    yield entry(pathOf(digest), size)
    for await (const chunk of content) yield chunk as Buffer
    yield Buffer.alloc(paddedSize(size) - size)
  }
  for (const { image, tags } of saved) {
    const layers = images.chain(image)
    for (const { chainId, diffId, blob } of layers) {
      if (written.has(diffId)) continue
      if (blob) {
        written.set(diffId, blob)
        yield* file(blob.digest, blob.size, images.layers.blobs.open(blob.digest))
        continue
      }
      // a header says the size before the content comes: the layer goes by way of a file
      const path = join(directory, diffId.slice(7))
      await pipeline(images.layers.archive(chainId), createWriteStream(path, { highWaterMark: 1 << 20 }))
      const { size } = statSync(path)
      written.set(diffId, { mediaType: types.ociLayer, digest: diffId, size })
      yield* file(diffId, size, createReadStream(path, { highWaterMark: 1 << 20 }))
      await rm(path)
    }
    yield* text(pathOf(image.id), image.text)
    const { text: manifest, mediaType } = images.manifestOf(image) ?? manifestFor(image, layers.map(({ diffId }) => written.get(diffId)!))
    const digest = sha256(manifest)
    yield* text(pathOf(digest), manifest)
    const descriptor = { mediaType, digest, size: Buffer.byteLength(manifest) }
    if (tags.length === 0) manifests.push(descriptor)
    for (const tag of tags) manifests.push({ ...descriptor, annotations: { 'io.containerd.image.name': canonical(parseReference(tag)), 'org.opencontainers.image.ref.name': parseReference(tag).tag } })
    docker.push({ Config: pathOf(image.id), RepoTags: tags.length ? tags : null, Layers: layers.map(({ diffId }) => pathOf(written.get(diffId)!.digest)) })
  }
  yield* text('index.json', JSON.stringify({ schemaVersion: 2, mediaType: types.ociIndex, manifests }))
  yield* text('manifest.json', JSON.stringify(docker))
  yield* text('oci-layout', JSON.stringify({ imageLayoutVersion: '1.0.0' }))
  yield TRAILER
}

function manifestFor(image: Image, layers: readonly Written[]): { text: string, mediaType: string } {
  // layers of Docker's types are the same bytes under OCI's
  const ociType = (mediaType: string): string => (mediaType === types.dockerLayer ? `${types.ociLayer}+gzip` : mediaType)
  return { mediaType: types.ociManifest, text: JSON.stringify({
    schemaVersion: 2, mediaType: types.ociManifest, config: { mediaType: types.ociConfig, digest: image.id, size: Buffer.byteLength(image.text) },
    layers: layers.map(({ mediaType, digest, size }) => ({ mediaType: ociType(mediaType), digest, size })),
  }) }
}
