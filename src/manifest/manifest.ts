import { invalid, messageOf, unsupported } from '../lib/errors.ts'
import { checkDigest } from '../reference/reference.ts'

/** What a descriptor says that its content runs on (OCI image-spec, "Image Index"). */
export interface TargetPlatform { architecture: string, os: string, variant?: string, 'os.version'?: string, 'os.features'?: string[] }

/** Content by its digest (OCI image-spec, "Content Descriptors"). `size` is in bytes. */
export interface Descriptor {
  mediaType: string
  digest: string
  size: number
  /** Where else the content is, for layers that registries must not have. */
  urls?: string[]
  annotations?: Record<string, string>
  platform?: TargetPlatform
  artifactType?: string
}

/** A manifest, taken apart: of an image or an artifact, or an index of manifests. */
export type Manifest = ImageManifest | IndexManifest

interface Common {
  /** The exact bytes as text, which the digest is of. */
  text: string
  mediaType: string
  /** The manifest that this one is about. */
  subject?: Descriptor
  artifactType?: string
  annotations?: Record<string, string>
}

export interface ImageManifest extends Common { kind: 'image', config: Descriptor, layers: Descriptor[] }
export interface IndexManifest extends Common { kind: 'index', manifests: Descriptor[] }

export const types = {
  ociManifest: 'application/vnd.oci.image.manifest.v1+json',
  ociIndex: 'application/vnd.oci.image.index.v1+json',
  ociConfig: 'application/vnd.oci.image.config.v1+json',
  ociLayer: 'application/vnd.oci.image.layer.v1.tar',
  ociEmpty: 'application/vnd.oci.empty.v1+json',
  dockerManifest: 'application/vnd.docker.distribution.manifest.v2+json',
  dockerList: 'application/vnd.docker.distribution.manifest.list.v2+json',
  dockerConfig: 'application/vnd.docker.container.image.v1+json',
  dockerLayer: 'application/vnd.docker.image.rootfs.diff.tar.gzip',
} as const

/** The manifests that are read here, as an Accept header lists them. */
export const manifestTypes: readonly string[] = [types.dockerManifest, types.dockerList, types.ociIndex, types.ociManifest]

/** The most bytes that a manifest may have, as Docker's and others' registries have it. */
export const MAX_MANIFEST = 4 << 20

/** The most bytes of an image's configuration. */
export const MAX_CONFIG = 8 << 20

/** As `parseManifest`, of the bytes that a digest is of. */
export function decodeManifest(bytes: Uint8Array, contentType?: string): Manifest {
  let text: string
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes)
  } catch (error) {
    throw invalid('invalid manifest: it is no UTF-8', error)
  }
  return parseManifest(text, contentType)
}

/** Reads a manifest and checks its form. `contentType`, what it was served as, must be what it says of itself, and what
 * it has must fit that: readers that disagree on what a digest means can be played off against each other
 * (CVE-2021-41190). Throws `invalid`, or `unsupported` for Docker's schema 1. */
export function parseManifest(text: string, contentType = ''): Manifest {
  const served = contentType.split(';')[0]!.trim().toLowerCase()
  const fail = (why: string, cause?: unknown): Error => invalid(`invalid manifest: ${why}`, cause)
  let value: Record<string, unknown>
  try {
    value = JSON.parse(text) as Record<string, unknown>
  } catch (error) {
    throw fail(`not JSON: ${messageOf(error)}`, error)
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw fail('it is no object')
  if (value['schemaVersion'] === 1) throw unsupported('Docker Image manifest version 2, schema 1 is not supported: the image must be pushed again in the OCI Format or as Docker Image manifest v2, schema 2')
  if (value['schemaVersion'] !== 2) throw fail(`unsupported schemaVersion ${JSON.stringify(value['schemaVersion'])}`)
  const own = value['mediaType']
  if (own !== undefined && typeof own !== 'string') throw fail('mediaType is no text')
  if (own && manifestTypes.includes(served) && own !== served) throw fail(`it was served as ${served}, but says that it is ${own}`)
  const mediaType = own || (manifestTypes.includes(served) ? served : 'manifests' in value ? types.ociIndex : types.ociManifest)
  if (!manifestTypes.includes(mediaType)) throw unsupported(`unsupported manifest media type ${JSON.stringify(mediaType)}`)
  const isIndex = mediaType === types.ociIndex || mediaType === types.dockerList
  if (isIndex ? 'layers' in value || 'config' in value : 'manifests' in value) throw fail(`it has what no ${mediaType} has`)
  const { subject, artifactType, annotations } = value
  if (artifactType !== undefined && typeof artifactType !== 'string') throw fail('artifactType is no text')
  if (annotations !== undefined && annotations !== null && !isTextMap(annotations)) throw fail('annotations is no map of texts')
  const common: Common = {
    text, mediaType, ...(subject ? { subject: descriptorOf(subject, 'subject', fail) } : {}), ...(artifactType && { artifactType }), ...(annotations ? { annotations: annotations as Record<string, string> } : {}),
  }
  const list = (name: string): Descriptor[] => {
    const items = value[name]
    if (!Array.isArray(items)) throw fail(`${name} is no list`)
    return items.map((item, at) => descriptorOf(item, `${name}[${at}]`, fail))
  }
  if (isIndex) return { kind: 'index', ...common, manifests: list('manifests') }
  return { kind: 'image', ...common, config: descriptorOf(value['config'], 'config', fail), layers: list('layers') }
}

function isTextMap(value: unknown): value is Record<string, string> {
  return typeof value === 'object' && value !== null && !Array.isArray(value) && Object.values(value).every((item) => typeof item === 'string')
}

function descriptorOf(value: unknown, where: string, fail: (why: string) => Error): Descriptor {
  const { mediaType, digest, size, urls, annotations, platform, artifactType } = (typeof value === 'object' && value !== null ? value : {}) as Record<string, unknown>
  if (typeof mediaType !== 'string' || typeof digest !== 'string') throw fail(`${where} is no descriptor`)
  if (typeof size !== 'number' || !Number.isSafeInteger(size) || size < 0) throw fail(`${where} has no size`)
  try {
    checkDigest(digest)
  } catch (error) {
    throw fail(`${where}: ${messageOf(error)}: ${JSON.stringify(digest)}`)
  }
  if (urls !== undefined && urls !== null && !(Array.isArray(urls) && urls.every((url) => typeof url === 'string'))) throw fail(`${where} has malformed urls`)
  if (annotations !== undefined && annotations !== null && !isTextMap(annotations)) throw fail(`${where} has malformed annotations`)
  const target = platform as TargetPlatform | undefined
  if (target && (typeof target !== 'object' || typeof target.os !== 'string' || typeof target.architecture !== 'string' || target.variant !== undefined && typeof target.variant !== 'string')) throw fail(`${where} has a malformed platform`)
  return {
    mediaType, digest, size, ...(urls && (urls as string[]).length ? { urls: urls as string[] } : {}), ...(annotations ? { annotations: annotations as Record<string, string> } : {}),
    ...(target && { platform: target }), ...(typeof artifactType === 'string' && { artifactType }),
  }
}

/** All that a manifest refers to, apart from its subject. */
export function referencesOf(manifest: Manifest): Descriptor[] {
  return manifest.kind === 'index' ? manifest.manifests : [manifest.config, ...manifest.layers]
}

/** True for a layer that registries must not have (Docker's "foreign", OCI's "nondistributable"). */
export function isForeign({ mediaType }: Descriptor): boolean {
  return /\.rootfs\.foreign\.|\.nondistributable\./.test(mediaType)
}
