import { Readable } from 'node:stream'
import { progressOf, type Report } from '../api/progress.ts'
import { attributesOf, type Image, type KeptManifest } from '../image/image.ts'
import { BerthError, invalid, messageOf, notFound } from '../lib/errors.ts'
import { Passing } from '../lib/garbage.ts'
import { sha256, shortId } from '../lib/ids.ts'
import { together } from '../lib/together.ts'
import type { Blob } from '../layer/blobs.ts'
import type { Layer } from '../layer/store.ts'
import { isForeign, types } from '../manifest/manifest.ts'
import { familiar, familiarName, parseReference, repositoryOf, type Reference } from '../reference/reference.ts'
import { refusalOf } from '../registry/failure.ts'
import type { Repository, Upload } from '../registry/repository.ts'
import { SMALL_ATTEMPTS, retry } from '../registry/retry.ts'
import type { Credentials } from '../registry/tokens.ts'
import type { DistributionDeps } from './deps.ts'
import { retrying, throttled } from './arrive.ts'
import { hushed } from './pull.ts'
import { compressLayer } from './compress.ts'

export interface PushOptions { credentials: Credentials, report: Report, signal: AbortSignal }

/** How many of the repositories that may have a blob are asked for it. */
const MAX_MOUNTS = 4

/** Pushes the image with a tag, or, without one, all tags of a repository. */
export async function pushImage(deps: DistributionDeps, reference: Reference, options: PushOptions): Promise<void> {
  const { images } = deps
  if (reference.digest) throw invalid('cannot push a digest reference')
  const tags = images.tagsOf(reference)
  const wanted = reference.tag === undefined ? tags : tags.filter((tag) => tag === reference.tag)
  options.report({ status: `The push refers to repository [${repositoryOf(reference)}]` })
  if (wanted.length === 0) throw notFound(tags.length ? `tag does not exist: ${familiar(reference)}` : `An image does not exist locally with the tag: ${familiarName(reference)}`)
  try {
    for (const tag of wanted) await pushTag(deps, { ...reference, tag }, options)
  } catch (error) {
    throw explain(error, reference)
  }
}

async function pushTag(deps: DistributionDeps, reference: Reference, options: PushOptions): Promise<void> {
  const { images } = deps
  const { report, signal } = options
  const image = images.get(images.tagged(reference)!)
  const layers = images.chain(image)
  const holder = `/hold/push-${image.id}-${performance.now()}`
  for (const { chainId } of layers) images.layers.hold(chainId, holder)
  try {
    const donors = donorsOf(deps, image, reference)
    const repository = await deps.registries.toPush(reference, options.credentials, [...new Set(donors.values().flatMap((names) => names))])
    for (const { diffId } of layers) report({ status: 'Preparing', id: shortId(diffId), progressDetail: {} })
    const stop = new AbortController()
    const either = AbortSignal.any([signal, stop.signal])
    // a layer that an image has twice goes once
    const sent = new Map<string, Promise<Blob>>()
    const blobs = await together(stop, layers.map((layer) => {
      const key = layer.blob?.digest ?? layer.diffId
      let one = sent.get(key)
      if (!one) sent.set(key, one = pushLayer(deps, repository, layer, donors.get(layer.chainId) ?? [], { report, signal: either }))
      return one
    }))
    const manifest = images.manifestOf(image) ?? manifestFor(image, blobs)
    await pushConfig(repository, image, signal)
    await retry(() => repository.putManifest(reference.tag!, manifest, signal), { attempts: SMALL_ATTEMPTS, signal })
    const digest = sha256(manifest.text)
    images.put(image.text, { manifest })
    images.tag(image.id, { domain: reference.domain, path: reference.path, digest })
    deps.events.emit('image', 'push', familiar(reference), attributesOf(image, familiarName(reference)))
    const size = Buffer.byteLength(manifest.text)
    report({ status: `${reference.tag}: digest: ${digest} size: ${size}` })
    report({ progressDetail: {}, aux: { Tag: reference.tag, Digest: digest, Size: size } })
  } finally {
    await images.layers.release(holder)
  }
}

/** By layer, the other repositories of the same registry that are known to have had it. */
function donorsOf({ images }: DistributionDeps, image: Image, { domain, path }: Reference): Map<string, string[]> {
  const donors = new Map<string, string[]>()
  const names = images.names()
  const own = new Set(images.chain(image).map(({ chainId }) => chainId))
  for (const other of images.list()) {
    const paths = new Set((names.get(other.id)?.digests ?? []).map(parseReference).filter((name) => name.domain === domain && name.path !== path).map((name) => name.path))
    if (paths.size === 0) continue
    for (const { chainId } of images.chain(other)) if (own.has(chainId)) donors.set(chainId, [...new Set([...(donors.get(chainId) ?? []), ...paths])].slice(0, MAX_MOUNTS))
  }
  return donors
}

/** Sees to it that the registry has a layer. */
async function pushLayer(deps: DistributionDeps, repository: Repository, layer: Layer, donors: readonly string[], { report, signal }: Pick<PushOptions, 'report' | 'signal'>): Promise<Blob> {
  const { layers } = deps.images
  const id = shortId(layer.diffId)
  const say = (status: string): void => report({ status, id, progressDetail: {} })
  const small = <T>(ask: () => Promise<T>): Promise<T> => retry(ask, { attempts: SMALL_ATTEMPTS, signal })
  return await deps.uploads.with(signal, async () => {
    const blob = layers.get(layer.chainId).blob ?? await compressLayer(deps, layer, signal)
    if (isForeign(blob) && !await deps.pushesForeign(repository.host.name)) {
      say('Skipped foreign layer')
      return blob
    }
    if (await small(() => repository.size(blob.digest, signal)) !== undefined) {
      say('Layer already exists')
      return blob
    }
    for (const from of donors) {
      const begun = await small(() => repository.begin({ digest: blob.digest, from }, signal))
      if (begun === 'mounted') {
        say(`Mounted from ${from}`)
        return blob
      }
      await repository.drop(begun)
    }
    const progress = throttled(({ current, total }) => report(progressOf(id, 'Pushing', current!, total!)))
    await upload(deps, repository, blob, { signal, sent: (bytes) => progress({ status: '', current: bytes, total: blob.size }), waiting: (milliseconds) => say(retrying(milliseconds)) })
    say('Pushed')
    return blob
  })
}

const passing = new Passing()

/** Uploads a blob, and goes on after a break where the registry has got to. */
async function upload(deps: DistributionDeps, repository: Repository, { digest, size }: Blob, { signal, sent, waiting }: { signal: AbortSignal, sent: (bytes: number) => void, waiting: (milliseconds: number) => void }): Promise<void> {
  const { blobs } = deps.images.layers
  let at: { upload: Upload, offset: number } | undefined
  await retry(async () => {
    // where a break leaves an upload, only the registry knows
    at = at && await repository.received(at.upload, signal)
    const begun = at ? undefined : await repository.begin(undefined, signal)
    if (begun === 'mounted') return
    at ??= { upload: begun!, offset: 0 }
    if (at.offset > size) throw new BerthError('system', `the registry has got ${at.offset} bytes of ${digest}, which has ${size}`)
    if (at.offset < size || size === 0) {
      const { offset } = at
      const body = size ? blobs.slice(digest, offset, size) : Readable.from([])
      let passed = offset
      body.on('data', (chunk: Buffer) => {
        passing.pass(chunk.length)
        sent(passed += chunk.length)
      })
      at.upload = await repository.append(at.upload, body, offset, size - offset, signal)
      at.offset = size
    }
    try {
      await repository.finish(at.upload, digest, undefined, signal)
    } catch (error) {
      if (refusalOf(error)?.codes.includes('DIGEST_INVALID')) at = undefined // it is to be sent anew
      throw error
    }
  }, { attempts: deps.attempts, signal, waiting, progress: () => at?.offset ?? 0 })
}

async function pushConfig(repository: Repository, image: Image, signal: AbortSignal): Promise<void> {
  await retry(async () => {
    if (await repository.size(image.id, signal) !== undefined) return
    const begun = await repository.begin(undefined, signal)
    if (begun !== 'mounted') await repository.finish(begun, image.id, Buffer.from(image.text), signal)
  }, { attempts: SMALL_ATTEMPTS, signal })
}

/** The manifest of an image that has none, as Docker's (Image Manifest Version 2, Schema 2). */
function manifestFor(image: Image, layers: readonly Blob[]): KeptManifest {
  return { mediaType: types.dockerManifest, text: JSON.stringify({
    schemaVersion: 2, mediaType: types.dockerManifest, config: { mediaType: types.dockerConfig, size: Buffer.byteLength(image.text), digest: image.id },
    layers: layers.map(({ mediaType, size, digest }) => ({ mediaType, size, digest })),
  }, undefined, 3) }
}

function explain(error: unknown, reference: Reference): unknown {
  const refusal = refusalOf(error)
  if (refusal?.codes.includes('NAME_UNKNOWN')) return new BerthError('not-found', `repository ${familiarName(reference)} not found: ${messageOf(error)}`, { cause: refusal })
  return hushed(error)
}
