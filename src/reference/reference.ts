import { invalid } from '../lib/errors.ts'

/** A name of an image, taken apart. `domain` and `path` are always there; tag and digest may be. */
export interface Reference {
  domain: string
  /** With `library/` for official names on docker.io. */
  path: string
  tag?: string
  digest?: string
}

const alphanumeric = '[a-z0-9]+'
const separator = '(?:[._]|__|[-]+)'
const component = `${alphanumeric}(?:${separator}${alphanumeric})*`
const domainComponent = '(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])'
const domainName = `${domainComponent}(?:\\.${domainComponent})*`
const ipv6 = '\\[(?:[a-fA-F0-9:]+)\\]'
const domain = `(?:${domainName}|${ipv6})(?::[0-9]+)?`
const tagPattern = '[\\w][\\w.-]{0,127}'
const digestPattern = '[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*[:][0-9a-fA-F]{32,}'
const whole = new RegExp(`^((?:${domain}/)?${component}(?:/${component})*)(?::(${tagPattern}))?(?:@(${digestPattern}))?$`)
const identifier = /^[a-f0-9]{64}$/

const DEFAULT_DOMAIN = 'docker.io'
const LEGACY_DOMAIN = 'index.docker.io'
const MAX_NAME = 255

/** Reads a name as a person writes it (`busybox`, `host:5000/a/b:1@sha256:…`), by Docker's reference grammar
 * (distribution/reference). Throws `invalid` with Docker's words. */
export function parseReference(text: string): Reference {
  if (identifier.test(text)) throw invalid(`invalid repository name (${text}), cannot specify 64-byte hexadecimal strings`)
  const { domain: host, rest } = splitDomain(text)
  const colon = rest.indexOf(':')
  const remoteName = colon < 0 ? rest.split('@')[0]! : rest.slice(0, colon)
  if (remoteName.toLowerCase() !== remoteName) throw invalid('invalid reference format: repository name must be lowercase')
  const match = whole.exec(`${host}/${rest}`)
  if (!match || text === '') throw invalid('invalid reference format')
  const [, name, tag, digest] = match
  if (name!.length - host.length - 1 > MAX_NAME) throw invalid(`repository name must not be more than ${MAX_NAME} characters`)
  if (digest !== undefined) checkDigest(digest)
  return { domain: host, path: name!.slice(host.length + 1), ...(tag !== undefined && { tag }), ...(digest !== undefined && { digest }) }
}

/** Throws `invalid` unless the text is a digest of a known algorithm and the right length. */
export function checkDigest(digest: string): void {
  const lengths: Record<string, number> = { sha256: 64, sha384: 96, sha512: 128 }
  const [algorithm = '', hex = ''] = digest.split(':')
  if (!lengths[algorithm]) throw invalid('unsupported digest algorithm')
  if (hex.length !== lengths[algorithm] || !/^[a-f0-9]+$/.test(hex)) throw invalid('invalid checksum digest length')
}

/** The `host[:port]` of a registry's address, which may be a URL. */
export function hostOf(address: string): string {
  return address.replace(/^https?:\/\//, '').replace(/\/.*$/, '')
}

/** Parts a name into its registry's domain and the rest, as yet unchecked. */
export function splitDomain(text: string): { domain: string, rest: string } {
  const slash = text.indexOf('/')
  const first = slash < 0 ? '' : text.slice(0, slash)
  let domainPart = DEFAULT_DOMAIN
  let rest = text
  if (slash >= 0 && (/[.:]/.test(first) || first === 'localhost' || first.toLowerCase() !== first)) {
    domainPart = first
    rest = text.slice(slash + 1)
  }
  if (domainPart === LEGACY_DOMAIN) domainPart = DEFAULT_DOMAIN
  if (domainPart === DEFAULT_DOMAIN && !rest.includes('/')) rest = `library/${rest}`
  return { domain: domainPart, rest }
}

/** The name without tag and digest, in full: `docker.io/library/busybox`. */
export function repositoryOf(reference: Reference): string {
  return `${reference.domain}/${reference.path}`
}

/** The repository as a person writes it: `busybox`. */
export function familiarName({ domain: host, path }: Pick<Reference, 'domain' | 'path'>): string {
  if (host !== DEFAULT_DOMAIN) return `${host}/${path}`
  return path.startsWith('library/') && !path.slice(8).includes('/') ? path.slice(8) : path
}

/** The whole as a person writes it: `busybox:latest`. */
export function familiar(reference: Reference): string {
  return familiarName(reference) + (reference.tag ? `:${reference.tag}` : '') + (reference.digest ? `@${reference.digest}` : '')
}

/** The whole in full, which is how a name is kept: `docker.io/library/busybox:latest`. */
export function canonical(reference: Reference): string {
  return repositoryOf(reference) + (reference.tag ? `:${reference.tag}` : '') + (reference.digest ? `@${reference.digest}` : '')
}

/** With tag `latest` where there is neither tag nor digest. */
export function withDefaultTag(reference: Reference): Reference {
  return reference.tag || reference.digest ? reference : { ...reference, tag: 'latest' }
}

/** True for a legal tag. */
export function isTag(tag: string): boolean {
  return new RegExp(`^${tagPattern}$`).test(tag)
}
