import { progressOf, type Report } from '../api/progress.ts'
import { attributesOf, goArchitecture } from '../image/image.ts'
import { choosePlatform, formatPlatform, matchesPlatform, platformOf, type Platform } from '../image/platform.ts'
import { parseImageConfig } from '../image/store.ts'
import { BerthError, invalid, isKind, messageOf, unsupported } from '../lib/errors.ts'
import { digestOf, randomName, shortId } from '../lib/ids.ts'
import { together } from '../lib/together.ts'
import { MAX_CONFIG, types, type Descriptor, type ImageManifest } from '../manifest/manifest.ts'
import { familiar, familiarName, type Reference } from '../reference/reference.ts'
import { bodyOf, refusalOf } from '../registry/failure.ts'
import type { Fetched, Repository } from '../registry/repository.ts'
import { SMALL_ATTEMPTS, retry } from '../registry/retry.ts'
import type { Credentials } from '../registry/tokens.ts'
import { layerArrives, planOf } from './arrive.ts'
import type { DistributionDeps, LayerProgress } from './deps.ts'

export interface PullOptions {
  credentials: Credentials
  /** The machine's own where it is undefined. */
  platform: Platform | undefined
  report: Report
  signal: AbortSignal
}

/** How deep indexes may be in indexes. */
const MAX_DEPTH = 4

/** Pulls an image by tag or digest, or, without either, all tags of a repository. */
export async function pullImage(deps: DistributionDeps, reference: Reference, options: PullOptions): Promise<void> {
  const repositories = await deps.registries.toPull(reference, options.credentials)
  try {
    if (reference.tag || reference.digest) return await pullOne(deps, reference, repositories, options)
    const tags = await fromAny(repositories, options.signal, (repository) => repository.tags(options.signal))
    let news = false
    for (const tag of tags) news = await pullReference(deps, { ...reference, tag }, repositories, options) || news
    options.report({ status: `Status: ${news ? 'Downloaded newer image' : 'Image is up to date'} for ${familiarName(reference)}` })
  } catch (error) {
    throw explain(error, reference)
  }
}

async function pullOne(deps: DistributionDeps, reference: Reference, repositories: readonly Repository[], options: PullOptions): Promise<void> {
  const news = await pullReference(deps, reference, repositories, options)
  const { tag: _tag, ...byDigest } = reference
  options.report({ status: `Status: ${news ? 'Downloaded newer image' : 'Image is up to date'} for ${familiar(reference.digest ? byDigest : reference)}` })
}

/** Asks one after the other until one answers; what the last one says counts. */
export async function fromAny<T>(repositories: readonly Repository[], signal: AbortSignal, ask: (repository: Repository) => Promise<T>): Promise<T> {
  for (const [at, repository] of repositories.entries()) {
    try {
      return await retry(() => ask(repository), { attempts: at === repositories.length - 1 ? SMALL_ATTEMPTS : 1, signal })
    } catch (error) {
      if (at === repositories.length - 1 || signal.aborted || !isKind(error)) throw error
    }
  }
  throw new Error('a name has no registry')
}

/** What a reference leads to for a platform: the manifest of an image, and the digest of what the name itself means. */
export interface Resolved { top: Fetched, image: Fetched & { manifest: ImageManifest } }

async function resolve(repositories: readonly Repository[], reference: Reference, { platform, signal, report }: Pick<PullOptions, 'platform' | 'signal' | 'report'>): Promise<Resolved> {
  const get = (name: string): Promise<Fetched> => fromAny(repositories, signal, (repository) => repository.manifest(name, signal))
  const top = await get(reference.digest ?? reference.tag!)
  report({ status: `Pulling from ${familiarName({ ...reference, domain: 'docker.io' })}`, id: reference.digest ? `${familiarName(reference)}@${reference.digest}` : reference.tag! })
  let at = top
  for (let depth = 0; at.manifest.kind === 'index'; depth++) {
    if (depth === MAX_DEPTH) throw invalid('invalid manifest: indexes are nested too deep')
    const chosen = choosePlatform(at.manifest.manifests, platform)
    if (!chosen) throw new BerthError('not-found', `no matching manifest for ${formatPlatform(platform ?? { os: 'linux', architecture: goArchitecture })} in the manifest list entries`)
    at = await get(chosen.digest)
    if (at.manifest.mediaType !== chosen.mediaType) throw invalid(`invalid manifest: ${chosen.digest} is ${at.manifest.mediaType}, but its index says ${chosen.mediaType}`)
  }
  return { top, image: { ...at, manifest: at.manifest } }
}

/** Returns true where the image was not here under this name. */
async function pullReference(deps: DistributionDeps, reference: Reference, repositories: readonly Repository[], options: PullOptions): Promise<boolean> {
  const { images } = deps
  const { signal, report } = options
  const { top, image: { manifest } } = await resolve(repositories, reference, options)
  if (manifest.config.mediaType !== types.dockerConfig && manifest.config.mediaType !== types.ociConfig) throw unsupported(`${familiar(reference)} is no image: its configuration is ${manifest.config.mediaType}`)
  const known = images.has(manifest.config.digest)
  const text = known ? images.get(manifest.config.digest).text : await fetchConfig(manifest.config, repositories, signal)
  const config = parseImageConfig(text)
  const diffIds = config.rootfs.diff_ids
  if (diffIds.length !== manifest.layers.length) throw invalid(`layers from manifest don't match image configuration: it has ${manifest.layers.length}, the configuration ${diffIds.length}`)
  const byDigest: Reference = { domain: reference.domain, path: reference.path, digest: top.digest }
  const name = reference.digest ? byDigest : reference
  const news = images.tagged(name) !== manifest.config.digest
  const plan = planOf(manifest.layers, diffIds, repositories)
  const holder = `/hold/pull-${randomName()}`
  const stop = new AbortController()
  try {
    await together(stop, plan.layers.map(async ({ descriptor, chainId }, at) => {
      const id = shortId(descriptor.digest)
      if (images.layers.has(chainId)) {
        images.layers.hold(chainId, holder)
        if (!known) report({ status: 'Already exists', id })
        return
      }
      report({ status: 'Pulling fs layer', id })
      await layerArrives(deps, plan, at, holder, (progress) => report(lineOf(id, progress)), AbortSignal.any([signal, stop.signal]))
    }))
    if (!known) await images.layers.sync() // nothing is seen that the power's going could take back
    const id = images.put(text, { reference: name, manifest: { mediaType: manifest.mediaType, text: manifest.text }, durable: true })
    if (id !== manifest.config.digest) throw new Error(`the configuration ${manifest.config.digest} became image ${id}`)
    if (!reference.digest) images.tag(id, byDigest)
    report({ status: `Digest: ${top.digest}` })
    const made = platformOf(config)
    if (options.platform && !matchesPlatform(made, options.platform)) report({ status: `WARNING: image with reference ${familiar(reference)} was found but does not match the specified platform: wanted ${formatPlatform(options.platform)}, actual: ${formatPlatform(made)}` })
    deps.events.emit('image', 'pull', familiar(name), attributesOf(images.get(id), familiarName(reference)))
  } finally {
    await images.layers.release(holder)
  }
  return news
}

function lineOf(id: string, { status, current, total }: LayerProgress): Parameters<Report>[0] {
  return current === undefined ? { status, id, progressDetail: {} } : progressOf(id, status, current, total!)
}

export async function fetchConfig(descriptor: Descriptor, repositories: readonly Repository[], signal: AbortSignal): Promise<string> {
  const { digest, size } = descriptor
  if (size > MAX_CONFIG) throw invalid(`the image's configuration is too large: ${size} bytes`)
  const bytes = await fromAny(repositories, signal, async (repository) => {
    const { stream } = await repository.blob(digest, 0, signal)
    const bytes = await bodyOf(stream, MAX_CONFIG)
    const got = digestOf(bytes, digest.split(':')[0]!)
    if (got !== digest || bytes.length !== size) throw invalid(`image config verification failed for digest ${digest}: the registry sent ${bytes.length} bytes of ${got}`)
    return bytes
  })
  if (!digest.startsWith('sha256:')) throw unsupported(`images whose configuration is known by ${digest.split(':')[0]} are not supported`)
  return bytes.toString('utf8')
}

/** Docker's words for what a registry refuses. */
export function explain(error: unknown, reference: Reference): unknown {
  const refusal = refusalOf(error)
  if (!refusal) return error
  const name = familiarName(reference)
  const has = (...codes: string[]): boolean => codes.some((code) => refusal.codes.includes(code))
  const because = messageOf(error)
  const fail = (text: string): BerthError => new BerthError('not-found', `${text}: ${because}`, { cause: refusal })
  if (has('DENIED') || refusal.status === 403 || has('UNAUTHORIZED') && !/no basic auth credentials/.test(because) && refusal.status === 401)
    return fail(`pull access denied for ${name}, repository does not exist or may require 'docker login'`)
  if (has('MANIFEST_UNKNOWN')) return fail(`manifest for ${familiar(reference)} not found`)
  if (has('NAME_UNKNOWN')) return fail(`repository ${name} not found`)
  return hushed(error)
}

/** Clients that are told that they are not authorized ask whoever sits before them, though it is only the registry that
 * wants to know. */
export function hushed(error: unknown): unknown {
  return isKind(error, 'unauthorized') ? new BerthError('system', error.message, { cause: error.cause }) : error
}
