import type { IncomingMessage } from 'node:http'
import type { Readable } from 'node:stream'
import { BerthError, invalid } from '../lib/errors.ts'
import { digestOf } from '../lib/ids.ts'
import { MAX_MANIFEST, decodeManifest, manifestTypes, parseManifest, types, type Descriptor, type Manifest } from '../manifest/manifest.ts'
import type { Connections, Request } from './connections.ts'
import { bodyOf, refused, requestOf } from './failure.ts'
import type { Host } from './hosts.ts'
import { scopeOf, type Credentials, type Tokens } from './tokens.ts'

/** A manifest as a registry has it. */
export interface Fetched { manifest: Manifest, digest: string, size: number }

/** An upload that a registry has begun to take. */
export interface Upload { url: string }

const MAX_PAGES = 10_000

/** A repository of one registry, over the OCI distribution API 1.1, which is Docker's registry API V2. Each method is one
 * try; what it throws says whether another is worth it (`unavailable`). */
export class Repository {
  readonly host: Host
  /** Without the domain: `library/busybox`. */
  readonly path: string
  readonly #connections: Connections
  readonly #tokens: Tokens
  readonly #credentials: Credentials
  readonly #scopes: readonly string[]

  constructor(from: { host: Host, path: string, connections: Connections, tokens: Tokens, credentials: Credentials, actions: readonly ('pull' | 'push')[], readFrom?: readonly string[] }) {
    this.host = from.host
    this.path = from.path
    this.#connections = from.connections
    this.#tokens = from.tokens
    this.#credentials = from.credentials
    this.#scopes = [...(from.path ? [scopeOf(from.path, from.actions)] : []), ...(from.readFrom ?? []).map((path) => scopeOf(path, ['pull']))]
  }

  async #url(rest: string, signal?: AbortSignal): Promise<string> {
    return `${await this.#connections.origin(this.host, signal)}/v2/${this.path}/${rest}`
  }

  /** Sends with what the registry wants to be shown; learns that from its first refusal. */
  async #send(url: string, request: Request): Promise<IncomingMessage> {
    for (let attempt = 0; ; attempt++) {
      const header = await this.#tokens.header(this.host, this.#credentials, this.#scopes, request.signal)
      const response = await this.#connections.follow(url, { ...request, headers: { ...request.headers, ...(header && { Authorization: header }) } }, this.host)
      if (response.statusCode !== 401) return response
      const again = this.#tokens.learn(this.host, response.headers['www-authenticate'], header)
      // a token that has died before its time is worth another, once
      const renew = attempt === 0 && header?.startsWith('Bearer ') && !this.#credentials.registryToken
      if (header) this.#tokens.forget(header)
      if (!again && !renew || attempt > 1 || request.body && !(request.body instanceof Uint8Array)) {
        if (header === undefined && this.#credentials.username === undefined && response.headers['www-authenticate']?.toLowerCase().startsWith('basic')) {
          response.resume()
          throw new BerthError('unauthorized', `${requestOf(request.method, url)}: no basic auth credentials`, { cause: { status: 401, codes: ['UNAUTHORIZED'] } })
        }
        return response
      }
      response.resume()
    }
  }

  async #ask(expected: readonly number[], rest: string, request: Request): Promise<IncomingMessage> {
    const url = /^https?:/.test(rest) ? rest : await this.#url(rest, request.signal)
    const response = await this.#send(url, request)
    if (!expected.includes(response.statusCode!)) throw await refused(response, request.method, url)
    return response
  }

  /** The manifest of a tag or digest. What is asked for by digest is checked against it. */
  async manifest(reference: string, signal?: AbortSignal): Promise<Fetched> {
    const response = await this.#ask([200], `manifests/${reference}`, { method: 'GET', headers: { Accept: [...manifestTypes, '*/*;q=0.1'].join(', ') }, signal })
    const bytes = await bodyOf(response, MAX_MANIFEST)
    const announced = response.headers['docker-content-digest']
    const wanted = reference.includes(':') ? reference : typeof announced === 'string' && announced.includes(':') ? announced : undefined
    const digest = digestOf(bytes, wanted?.split(':')[0] ?? 'sha256')
    if (wanted !== undefined && wanted !== digest) throw invalid(`manifest verification failed for digest ${wanted}: the registry sent ${digest}`)
    return { manifest: decodeManifest(bytes, response.headers['content-type']), digest, size: bytes.length }
  }

  /** What a tag or digest leads to, or undefined. */
  async head(reference: string, signal?: AbortSignal): Promise<Descriptor | undefined> {
    const response = await this.#ask([200, 404], `manifests/${reference}`, { method: 'HEAD', headers: { Accept: manifestTypes.join(', ') }, signal })
    response.resume()
    if (response.statusCode === 404) return undefined
    const { 'docker-content-digest': digest, 'content-length': size, 'content-type': mediaType = '' } = response.headers
    if (typeof digest !== 'string' || size === undefined) {
      const fetched = await this.manifest(reference, signal)
      return { mediaType: fetched.manifest.mediaType, digest: fetched.digest, size: fetched.size }
    }
    return { mediaType, digest, size: Number(size) }
  }

  /** A blob's bytes from `offset` on. `from` is where they really begin: 0 where the server does not know ranges. */
  async blob(digest: string, offset: number, signal?: AbortSignal): Promise<{ stream: IncomingMessage, from: number }> {
    const response = await this.#ask(offset ? [200, 206] : [200], `blobs/${digest}`, { method: 'GET', headers: { 'Accept-Encoding': 'identity', ...(offset && { Range: `bytes=${offset}-` }) }, signal })
    return { stream: response, from: beginningOf(response) }
  }

  /** The same of a blob that is elsewhere, without this registry's credentials. */
  async foreign(url: string, offset: number, signal?: AbortSignal): Promise<{ stream: IncomingMessage, from: number }> {
    const response = await this.#connections.follow(url, { method: 'GET', headers: { 'Accept-Encoding': 'identity', ...(offset && { Range: `bytes=${offset}-` }) }, signal }, this.host)
    if (response.statusCode !== 200 && response.statusCode !== 206) throw await refused(response, 'GET', url)
    return { stream: response, from: beginningOf(response) }
  }

  /** A blob's length in bytes, or undefined where the repository has no such blob. */
  async size(digest: string, signal?: AbortSignal): Promise<number | undefined> {
    const response = await this.#ask([200, 404], `blobs/${digest}`, { method: 'HEAD', signal })
    response.resume()
    return response.statusCode === 404 ? undefined : Number(response.headers['content-length'] ?? 0)
  }

  /** All tags, page by page. */
  async tags(signal?: AbortSignal): Promise<string[]> {
    const tags: string[] = []
    let next: string | undefined = await this.#url('tags/list', signal)
    for (let page = 0; next !== undefined; page++) {
      if (page === MAX_PAGES) throw new BerthError('system', 'the registry lists tags without end')
      const at: string = next
      const response = await this.#ask([200], at, { method: 'GET', signal })
      const body = JSON.parse((await bodyOf(response, 16 << 20)).toString('utf8')) as { tags?: unknown }
      if (Array.isArray(body.tags)) for (const tag of body.tags) if (typeof tag === 'string') tags.push(tag)
      const [, link] = /<([^>]*)>\s*;\s*rel="?next"?/.exec(String(response.headers['link'] ?? '')) ?? []
      next = link === undefined ? undefined : new URL(link, at).href
      if (next !== undefined && new URL(next).origin !== new URL(at).origin) throw new BerthError('system', `the registry's list of tags goes on at ${new URL(next).origin}`)
    }
    return tags
  }

  /** The manifests that are about another, as far as the registry knows of such (OCI distribution-spec, "Listing Referrers"). */
  async referrers(digest: string, signal?: AbortSignal): Promise<Descriptor[]> {
    const response = await this.#ask([200], `referrers/${digest}`, { method: 'GET', headers: { Accept: types.ociIndex }, signal })
    const index = parseManifest((await bodyOf(response, MAX_MANIFEST)).toString('utf8'), types.ociIndex)
    return index.kind === 'index' ? index.manifests : []
  }

  /** Begins an upload. With `mount`, a blob that another repository has is taken from there, which needs no upload. */
  async begin(mount?: { digest: string, from: string }, signal?: AbortSignal): Promise<Upload | 'mounted'> {
    const query = mount ? `?mount=${encodeURIComponent(mount.digest)}&from=${encodeURIComponent(mount.from)}` : ''
    const response = await this.#ask([201, 202], `blobs/uploads/${query}`, { method: 'POST', signal })
    response.resume()
    return response.statusCode === 201 && mount ? 'mounted' : { url: await this.#location(response, signal) }
  }

  async #location(response: IncomingMessage, signal?: AbortSignal): Promise<string> {
    const { location } = response.headers
    if (!location) throw new BerthError('system', 'the registry does not say where to upload to')
    return new URL(location, await this.#url('blobs/uploads/', signal)).href
  }

  /** Sends bytes that begin at `offset` of the blob. */
  async append(upload: Upload, body: Readable, offset: number, length: number, signal?: AbortSignal): Promise<Upload> {
    const headers = { 'Content-Type': 'application/octet-stream', 'Content-Length': length, ...(offset && { 'Content-Range': `${offset}-${offset + length - 1}` }) }
    const response = await this.#ask([201, 202, 204], upload.url, { method: 'PATCH', headers, body, signal })
    response.resume()
    return { url: await this.#location(response, signal) }
  }

  /** How many bytes of an upload the registry has. Undefined for an upload that it has forgotten. */
  async received(upload: Upload, signal?: AbortSignal): Promise<{ upload: Upload, offset: number } | undefined> {
    const response = await this.#ask([202, 204, 404], upload.url, { method: 'GET', signal })
    response.resume()
    if (response.statusCode === 404) return undefined
    const [, last] = /^(?:bytes=)?0-(\d+)$/.exec(String(response.headers['range'] ?? '')) ?? []
    // `0-0` is said of one byte and, by old registries, of none: a byte that is sent twice would be too many
    if (last === '0') return undefined
    return { upload: response.headers.location ? { url: await this.#location(response, signal) } : upload, offset: last === undefined ? 0 : Number(last) + 1 }
  }

  /** Ends an upload; the registry checks the digest. `body` is what has not been sent yet. */
  async finish(upload: Upload, digest: string, body?: Uint8Array, signal?: AbortSignal): Promise<void> {
    const url = new URL(upload.url)
    url.searchParams.set('digest', digest)
    const response = await this.#ask([201, 204], url.href, { method: 'PUT', headers: { 'Content-Type': 'application/octet-stream' }, ...(body && { body }), signal })
    response.resume()
  }

  /** Drops an upload; one that is not there any more is no error. */
  async drop(upload: Upload): Promise<void> {
    const response = await this.#send(upload.url, { method: 'DELETE' })
    response.resume()
  }

  /** Stores a manifest under a tag or its digest. */
  async putManifest(reference: string, manifest: { text: string, mediaType: string }, signal?: AbortSignal): Promise<void> {
    const response = await this.#ask([200, 201, 202], `manifests/${reference}`, { method: 'PUT', headers: { 'Content-Type': manifest.mediaType }, body: Buffer.from(manifest.text), signal })
    response.resume()
  }

  /** Asks the registry whether it takes the credentials: a login. */
  async check(signal?: AbortSignal): Promise<void> {
    const url = `${await this.#connections.origin(this.host, signal)}/v2/`
    const response = await this.#send(url, { method: 'GET', signal })
    response.resume()
    if (response.statusCode !== 200) throw new BerthError(response.statusCode === 401 || response.statusCode === 403 ? 'unauthorized' : 'system', `login attempt to ${url} failed with status: ${response.statusCode} ${response.statusMessage}`)
  }
}

function beginningOf(response: IncomingMessage): number {
  if (response.statusCode === 200) return 0
  const [, first] = /^bytes (\d+)-/.exec(response.headers['content-range'] ?? '') ?? []
  if (first === undefined) throw new BerthError('system', 'the registry sends a part of a blob, and does not say which')
  return Number(first)
}

