import type { IncomingMessage, OutgoingHttpHeaders, ServerResponse } from 'node:http'
import { isTag, parseReference, checkDigest } from '../reference/reference.ts'
import { MAX_MANIFEST, types } from '../manifest/manifest.ts'
import type { Access, Action } from './access.ts'
import { answerOf, isFault, refuse } from './answer.ts'
import type { RateLimit } from './limits.ts'
import type { Metrics } from './metrics.ts'
import type { PullThrough } from './proxy.ts'
import { searchRepositories } from './search.ts'
import { rangeOf, type RegistryStore } from './store.ts'

export interface ServerDeps {
  store: RegistryStore
  access: Access
  /** Limits manifests that are pulled, as Docker Hub does. */
  pulls?: RateLimit | undefined
  /** Limits requests. */
  requests?: RateLimit | undefined
  metrics?: Metrics | undefined
  proxy?: PullThrough | undefined
  /** False where nothing may be deleted. */
  deletes: boolean
  warn: (message: string, error: unknown) => void
}

interface Exchange { request: IncomingMessage, response: ServerResponse, query: URLSearchParams, deps: ServerDeps, headers: Record<string, string> }

type Handler = (exchange: Exchange, name: string, rest: string) => Promise<void>

const LINGER = 2000
const PAGE = 1000
const MAX_PAGE = 10_000

/** Answers requests to a registry: OCI distribution-spec 1.1, Docker's registry API V2, and the search of its V1. */
export function registryHandler(deps: ServerDeps): (request: IncomingMessage, response: ServerResponse) => void {
  return (request, response) => void handle(deps, request, response)
}

async function handle(deps: ServerDeps, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const { metrics, warn } = deps
  const begun = performance.now()
  const url = new URL(`http://registry${request.url?.startsWith('/') ? request.url : '/'}`)
  let found: Found | undefined
  metrics?.running(1)
  response.once('close', () => {
    metrics?.running(-1)
    metrics?.answered(request.method ?? '', found?.route ?? 'none', response.statusCode, (performance.now() - begun) / 1000)
  })
  response.setHeader('Docker-Distribution-Api-Version', 'registry/2.0')
  response.setHeader('X-Content-Type-Options', 'nosniff')
  try {
    found = find(url.pathname)
    const headers = deps.requests?.take(request.socket.remoteAddress ?? '') ?? {}
    const handler = found?.handlers[request.method as keyof typeof found.handlers]
    if (!found || !handler) throw found ? refuse('UNSUPPORTED', 'The operation is unsupported.', { headers: { Allow: Object.keys(found.handlers).join(', ') } }) : refuse('NAME_UNKNOWN', 'page not found')
    await handler({ request, response, query: url.searchParams, deps, headers }, found.name, found.rest)
  } catch (error) {
    if (isFault(error) && !request.socket.destroyed) warn(`${request.method} ${request.url} failed`, error)
    if (response.headersSent) return void response.destroy()
    const { status, headers, body } = answerOf(error)
    response.writeHead(status, { ...headers, 'Content-Type': 'application/json; charset=utf-8', 'Content-Length': Buffer.byteLength(body) })
    response.end(request.method === 'HEAD' ? undefined : body)
    if (request.complete) return
    // whoever is still sending would not see the answer if the connection broke at once
    request.resume()
    setTimeout(() => request.complete || request.destroy(), LINGER).unref()
  }
}

interface Found { route: string, name: string, rest: string, handlers: Partial<Record<string, Handler>> }

/** A path's route. Names have slashes, so what follows them decides; of `/v2/a/blobs/uploads/tags/list` the last does. */
function find(path: string): Found | undefined {
  const fixed = fixedRoutes[path] ?? fixedRoutes[path.replace(/\/$/, '')]
  if (fixed) return { route: fixed.route, name: '', rest: '', handlers: fixed.handlers }
  for (const { route, pattern, handlers } of routes) {
    const match = pattern.exec(path)
    if (!match) continue
    const [, name = '', rest = ''] = match
    return { route, name: checkName(name), rest: decode(rest), handlers }
  }
  return undefined
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch (error) {
    throw refuse('NAME_INVALID', `malformed URL: ${text}`, { detail: String(error) })
  }
}

function checkName(name: string): string {
  try {
    const { path, tag, digest } = parseReference(`registry.invalid/${name}`)
    if (path === name && tag === undefined && digest === undefined) return name
  } catch {
    // said below in the registry's words
  }
  throw refuse('NAME_INVALID', 'invalid repository name', { detail: name })
}

function digestIn(text: string): string {
  try {
    checkDigest(text)
    return text
  } catch {
    throw refuse('DIGEST_INVALID', 'provided digest is malformed', { detail: text })
  }
}

/** Lets who asks have what they want, or throws. */
async function allow({ request, deps }: Exchange, repository: string, action: Action): Promise<string> {
  if (deps.proxy && action !== 'pull') throw refuse('UNSUPPORTED', 'this registry is a pull-through cache: it takes nothing')
  const { name } = await deps.access.check(request, { repository, action })
  return name
}

function send({ request, response, headers }: Exchange, status: number, body: string, more: OutgoingHttpHeaders): void {
  response.writeHead(status, { ...headers, ...more, 'Content-Length': Buffer.byteLength(body) })
  response.end(request.method === 'HEAD' ? undefined : body)
}

const sendJson = (exchange: Exchange, value: unknown, more: OutgoingHttpHeaders = {}): void => send(exchange, 200, JSON.stringify(value) + '\n', { 'Content-Type': 'application/json; charset=utf-8', ...more })

function empty({ response, headers }: Exchange, status: number, more: OutgoingHttpHeaders): void {
  response.writeHead(status, { ...headers, ...more, ...(status !== 204 && { 'Content-Length': 0 }) })
  response.end()
}

const base: Handler = async (exchange) => {
  await exchange.deps.access.check(exchange.request, 'base')
  sendJson(exchange, {})
}

const catalog: Handler = async (exchange) => {
  const { deps: { access, store }, query } = exchange
  const identity = await access.check(exchange.request, 'catalog')
  const { limit, last } = pageOf(query)
  const names: string[] = []
  for await (const name of store.repositories()) if (access.allows(identity, { repository: name, action: 'pull' })) names.push(name)
  const { items, next } = page(names.sort(), limit, last)
  sendJson(exchange, { repositories: items }, next ? { Link: `</v2/_catalog?last=${encodeURIComponent(next)}&n=${limit}>; rel="next"` } : {})
}

function pageOf(query: URLSearchParams): { limit: number, last: string } {
  const text = query.get('n')
  if (text !== null && !/^\d+$/.test(text)) throw refuse('PAGINATION_NUMBER_INVALID', 'invalid number of results requested', { detail: { n: text } })
  return { limit: Math.min(text === null ? PAGE : Number(text), MAX_PAGE), last: query.get('last') ?? '' }
}

/** What comes after `last`, so many of it, and the last of that if there is more. */
function page(sorted: readonly string[], limit: number, last: string): { items: string[], next: string | undefined } {
  const rest = last === '' ? sorted : sorted.filter((item) => item > last)
  const items = rest.slice(0, limit)
  return { items, next: rest.length > items.length ? items.at(-1) : undefined }
}

const tags: Handler = async (exchange, name) => {
  await allow(exchange, name, 'pull')
  const { deps: { store, proxy }, query } = exchange
  const all = proxy ? await proxy.tags(name) : await store.tags(name)
  if (all.length === 0 && !await store.has(name)) throw refuse('NAME_UNKNOWN', 'repository name not known to registry', { detail: { name } })
  const { limit, last } = pageOf(query)
  const { items, next } = page(all.sort(), limit, last)
  sendJson(exchange, { name, tags: items }, next ? { Link: `</v2/${name}/tags/list?last=${encodeURIComponent(next)}&n=${limit}>; rel="next"` } : {})
}

const getManifest: Handler = async (exchange, name, reference) => {
  const who = await allow(exchange, name, 'pull')
  const { request, deps: { store, proxy, pulls } } = exchange
  if (request.method === 'GET' && pulls) Object.assign(exchange.headers, pulls.take(who || (request.socket.remoteAddress ?? '')))
  const isDigest = reference.includes(':')
  if (isDigest) digestIn(reference)
  const digest = proxy || isDigest ? reference : await store.resolve(name, reference)
  const found = digest === undefined ? undefined : proxy ? await proxy.manifest(name, digest) : await store.manifest(name, digest)
  if (!found) throw refuse('MANIFEST_UNKNOWN', 'manifest unknown', { detail: isDigest ? { digest: reference } : { Tag: reference } })
  const headers = { 'Docker-Content-Digest': found.digest, ETag: `"${found.digest}"` }
  if (matchesTag(request, found.digest)) return empty(exchange, 304, headers)
  send(exchange, 200, found.manifest.text, { ...headers, 'Content-Type': found.manifest.mediaType })
}

/** Header `If-None-Match` (RFC 9110). */
function matchesTag({ headers }: IncomingMessage, digest: string): boolean {
  return (headers['if-none-match'] ?? '').split(',').some((tag) => ['*', digest, `"${digest}"`].includes(tag.trim().replace(/^W\//, '')))
}

const putManifest: Handler = async (exchange, name, reference) => {
  await allow(exchange, name, 'push')
  const { request, deps: { store } } = exchange
  const isDigest = reference.includes(':')
  if (isDigest) digestIn(reference)
  else if (!isTag(reference)) throw refuse('TAG_INVALID', 'manifest tag did not match URI', { detail: reference })
  const stored = await store.putManifest(name, isDigest ? { digest: reference } : { tag: reference }, await manifestOf(request), request.headers['content-type'] ?? '')
  const subject = stored.manifest.subject?.digest
  empty(exchange, 201, { Location: `/v2/${name}/manifests/${stored.digest}`, 'Docker-Content-Digest': stored.digest, ...(subject && { 'OCI-Subject': subject }) })
}

/** A request's body. Whoever stops in the middle of it can still answer. */
function bodyOf(request: IncomingMessage): AsyncIterable<Buffer> {
  return request.iterator({ destroyOnReturn: false })
}

async function manifestOf(request: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = []
  let length = 0
  for await (const chunk of bodyOf(request)) {
    length += (chunk as Buffer).length
    if (length > MAX_MANIFEST) throw refuse('MANIFEST_INVALID', `the manifest is larger than ${MAX_MANIFEST} bytes`, { status: 413 })
    chunks.push(chunk as Buffer)
  }
  return Buffer.concat(chunks)
}

const deleteManifest: Handler = async (exchange, name, reference) => {
  await allow(exchange, name, 'delete')
  const { deps: { store, deletes } } = exchange
  if (!deletes) throw refuse('UNSUPPORTED', 'The operation is unsupported.')
  const done = reference.includes(':') ? await store.removeManifest(name, digestIn(reference)) : await store.removeTag(name, reference)
  if (!done) throw refuse('MANIFEST_UNKNOWN', 'manifest unknown', { detail: reference })
  empty(exchange, 202, {})
}

const getBlob: Handler = async (exchange, name, text) => {
  await allow(exchange, name, 'pull')
  const { request, response, deps: { store, proxy, metrics } } = exchange
  const digest = digestIn(text)
  const local = await store.blob(name, digest)
  if (proxy) metrics?.cache(local ? 'hit' : 'miss')
  const found = local ?? await proxy?.size(name, digest)
  if (!found) throw refuse('BLOB_UNKNOWN', 'blob unknown to registry', { detail: digest })
  const headers = { 'Docker-Content-Digest': digest, ETag: `"${digest}"`, 'Accept-Ranges': 'bytes', 'Cache-Control': 'max-age=31536000', 'Content-Type': 'application/octet-stream' }
  if (matchesTag(request, digest)) return empty(exchange, 304, headers)
  const range = byteRange(request, found.size, digest)
  const { start, end } = range ?? { start: 0, end: found.size }
  response.writeHead(range ? 206 : 200, { ...exchange.headers, ...headers, 'Content-Length': end - start, ...(range && { 'Content-Range': `bytes ${start}-${end - 1}/${found.size}` }) })
  if (request.method === 'HEAD' || end === start) return void response.end()
  for await (const piece of local ? store.read(digest, start, end) : proxy!.blob(name, found, start, end)) if (!await sent(response, piece)) return
  response.end()
  metrics?.passed('out', end - start)
}

/** Sends a piece, and resolves when nothing needs it any more; false where the client has gone. */
function sent(response: ServerResponse, piece: Buffer): Promise<boolean> {
  return new Promise((resolve) => {
    const gone = (): void => resolve(false)
    response.once('close', gone)
    response.write(piece, (error) => {
      response.off('close', gone)
      resolve(!error)
    })
  })
}

/** Header `Range`, where it names one that is there (RFC 9110, "Range Requests"). */
function byteRange({ headers }: IncomingMessage, size: number, digest: string): { start: number, end: number } | undefined {
  const condition = headers['if-range']
  if (condition !== undefined && condition !== `"${digest}"`) return undefined
  const [, first = '', last = ''] = /^bytes=(\d*)-(\d*)$/.exec(headers.range ?? '') ?? []
  if (first === '' && last === '') return undefined // none, or several, which may be answered with all
  const start = first === '' ? Math.max(0, size - Number(last)) : Number(first)
  const end = first === '' || last === '' ? size : Math.min(size, Number(last) + 1)
  if (start >= size || end <= start) throw refuse('RANGE_INVALID', 'the range is not in the blob', { headers: { 'Content-Range': `bytes */${size}` } })
  return { start, end }
}

const deleteBlob: Handler = async (exchange, name, text) => {
  await allow(exchange, name, 'delete')
  const { deps: { store, deletes } } = exchange
  if (!deletes) throw refuse('UNSUPPORTED', 'The operation is unsupported.')
  if (!await store.removeBlob(name, digestIn(text))) throw refuse('BLOB_UNKNOWN', 'blob unknown to registry', { detail: text })
  empty(exchange, 202, {})
}

const created = (exchange: Exchange, name: string, digest: string): void => empty(exchange, 201, { Location: `/v2/${name}/blobs/${digest}`, 'Docker-Content-Digest': digest })

const accepted = (exchange: Exchange, status: 202 | 204, name: string, id: string, length: number): void => empty(exchange, status, { Location: `/v2/${name}/blobs/uploads/${id}`, Range: rangeOf(length), 'Docker-Upload-UUID': id })

const startUpload: Handler = async (exchange, name) => {
  await allow(exchange, name, 'push')
  const { request, query, deps: { store, access } } = exchange
  const [mount, from, digest] = ['mount', 'from', 'digest'].map((key) => query.get(key))
  if (mount) {
    const source = from ? checkName(from) : undefined
    const mayRead = source !== undefined && await access.check(request, { repository: source, action: 'pull' }).then(() => true, () => false) // otherwise it is as if it were not there
    if (mayRead && await store.mount(name, digestIn(mount), source)) return created(exchange, name, mount)
  }
  if (digest) digestIn(digest)
  const id = await store.begin(name)
  if (!digest) return accepted(exchange, 202, name, id, 0)
  await finish(exchange, name, id, digest)
}

async function finish(exchange: Exchange, name: string, id: string, digest: string): Promise<void> {
  const { request, deps: { store, metrics } } = exchange
  const before = await store.received(name, id)
  const length = await store.append(name, id, bodyOf(request), { range: contentRange(request) })
  metrics?.passed('in', length - before)
  await store.finish(name, id, digest)
  created(exchange, name, digest)
}

/** Header `Content-Range` of a chunk: `FIRST-LAST`, or `bytes FIRST-LAST/TOTAL`. */
function contentRange({ headers }: IncomingMessage): { start: number, end: number } | undefined {
  const text = headers['content-range']
  if (text === undefined) return undefined
  const [, start, end] = /^(?:bytes[ =])?(\d+)-(\d+)(?:\/(?:\d+|\*))?$/.exec(text) ?? []
  if (start === undefined || Number(end) < Number(start)) throw refuse('BLOB_UPLOAD_INVALID', `invalid Content-Range ${JSON.stringify(text)}`)
  const length = headers['content-length']
  if (length !== undefined && Number(length) !== Number(end) - Number(start) + 1) throw refuse('SIZE_INVALID', 'Content-Range and Content-Length do not agree')
  return { start: Number(start), end: Number(end) }
}

const patchUpload: Handler = async (exchange, name, id) => {
  await allow(exchange, name, 'push')
  const { request, deps: { store, metrics } } = exchange
  const before = await store.received(name, id)
  const length = await store.append(name, id, bodyOf(request), { range: contentRange(request) })
  metrics?.passed('in', length - before)
  accepted(exchange, 202, name, id, length)
}

const putUpload: Handler = async (exchange, name, id) => {
  await allow(exchange, name, 'push')
  const digest = exchange.query.get('digest')
  if (!digest) throw refuse('DIGEST_INVALID', 'digest parameter missing')
  await finish(exchange, name, id, digestIn(digest))
}

const getUpload: Handler = async (exchange, name, id) => {
  await allow(exchange, name, 'push')
  accepted(exchange, 204, name, id, await exchange.deps.store.received(name, id))
}

const deleteUpload: Handler = async (exchange, name, id) => {
  await allow(exchange, name, 'push')
  await exchange.deps.store.drop(name, id)
  empty(exchange, 204, {})
}

const referrers: Handler = async (exchange, name, text) => {
  await allow(exchange, name, 'pull')
  const { query, deps: { store, proxy } } = exchange
  const digest = digestIn(text)
  const wanted = query.get('artifactType')
  const all = proxy ? await proxy.referrers(name, digest) : await store.referrers(name, digest)
  const manifests = wanted ? all.filter(({ artifactType }) => artifactType === wanted) : all
  sendJson(exchange, { schemaVersion: 2, mediaType: types.ociIndex, manifests }, { 'Content-Type': types.ociIndex, ...(wanted && { 'OCI-Filters-Applied': 'artifactType' }) })
}

const ping: Handler = async (exchange) => {
  exchange.response.setHeader('X-Docker-Registry-Standalone', 'true')
  send(exchange, 200, 'true', { 'Content-Type': 'application/json' })
}

const search: Handler = async (exchange) => {
  const { request, query, deps: { access, store } } = exchange
  const identity = await access.check(request, 'catalog')
  sendJson(exchange, await searchRepositories(store, query, (name) => access.allows(identity, { repository: name, action: 'pull' })))
}

const fixedRoutes: Readonly<Record<string, { route: string, handlers: Found['handlers'] }>> = {
  '/v2': { route: 'base', handlers: { GET: base, HEAD: base } },
  '/v2/_catalog': { route: 'catalog', handlers: { GET: catalog } },
  '/v1/_ping': { route: 'ping', handlers: { GET: ping } },
  '/v1/search': { route: 'search', handlers: { GET: search } },
}

const routes: readonly { route: string, pattern: RegExp, handlers: Found['handlers'] }[] = [
  { route: 'tags', pattern: /^\/v2\/(.+)\/tags\/list$/, handlers: { GET: tags } },
  { route: 'uploads', pattern: /^\/v2\/(.+)\/blobs\/uploads\/?$/, handlers: { POST: startUpload } },
  { route: 'upload', pattern: /^\/v2\/(.+)\/blobs\/uploads\/([^/]+)$/, handlers: { GET: getUpload, PATCH: patchUpload, PUT: putUpload, DELETE: deleteUpload } },
  { route: 'blob', pattern: /^\/v2\/(.+)\/blobs\/([^/]+)$/, handlers: { GET: getBlob, HEAD: getBlob, DELETE: deleteBlob } },
  { route: 'manifest', pattern: /^\/v2\/(.+)\/manifests\/([^/]+)$/, handlers: { GET: getManifest, HEAD: getManifest, PUT: putManifest, DELETE: deleteManifest } },
  { route: 'referrers', pattern: /^\/v2\/(.+)\/referrers\/([^/]+)$/, handlers: { GET: referrers } },
]
