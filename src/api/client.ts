import type { Agent, ClientRequest, IncomingMessage, RequestOptions } from 'node:http'
import { isIP, type Socket } from 'node:net'
import type { Readable } from 'node:stream'
import { http } from '../lib/http.ts'
import { BerthError, codeOf, messageOf, type ErrorKind } from '../lib/errors.ts'

/** Where an engine listens. */
export interface Endpoint {
  /** As people write it: `unix:///var/run/berth.sock`, `tcp://host:2376`. */
  host: string
  /** The API version to ask for; the engine's newest if empty. */
  version: string
  tls?: { ca?: string, cert?: string, key?: string, verify: boolean }
  /** Sent with every request. */
  headers?: Record<string, string>
}

export interface Ask {
  query?: Record<string, string | number | boolean | readonly string[] | undefined>
  /** Sent as JSON, or as it is where it is a stream. */
  body?: unknown
  headers?: Record<string, string>
  signal?: AbortSignal | undefined
}

const kinds: Record<number, ErrorKind> = { 304: 'not-modified', 400: 'invalid', 401: 'unauthorized', 403: 'forbidden', 404: 'not-found', 409: 'conflict', 501: 'unsupported', 503: 'unavailable' }

/** A client of the Engine API. */
export class Client {
  readonly #endpoint: Endpoint
  readonly #connect: RequestOptions
  #agent: Agent | undefined

  constructor(endpoint: Endpoint) {
    this.#endpoint = endpoint
    this.#connect = connectOptions(endpoint.host)
  }

  /** The answer as JSON; undefined where there is none. */
  async json<T = void>(method: string, path: string, ask: Ask = {}): Promise<T> {
    const text = await textOf(await this.stream(method, path, ask))
    return (text ? JSON.parse(text) : undefined) as T
  }

  /** The answer's body as it arrives, and its headers. Throws what the engine says of a failure. */
  async stream(method: string, path: string, ask: Ask = {}): Promise<IncomingMessage> {
    const response = await new Promise<IncomingMessage>((resolve, reject) => {
      this.#send(method, path, ask, reject).then((sent) => sent.once('response', resolve), reject)
    })
    if (response.statusCode! >= 300) throw await errorOf(response)
    return response
  }

  /** A connection that is the answer: raw bytes in both directions, as attach and exec have it. */
  async hijack(path: string, ask: Ask = {}): Promise<{ socket: Socket, head: Buffer }> {
    const { promise, resolve, reject } = Promise.withResolvers<{ socket: Socket, head: Buffer }>()
    const sent = await this.#send('POST', path, { ...ask, headers: { Connection: 'Upgrade', Upgrade: 'tcp', ...ask.headers } }, reject)
    sent.once('upgrade', (_response, socket, head) => resolve({ socket: socket as Socket, head }))
    sent.once('response', (response) => void errorOf(response).then(reject, reject))
    return await promise
  }

  async #send(method: string, path: string, ask: Ask, reject: (error: unknown) => void): Promise<ClientRequest> {
    const query = new URLSearchParams()
    for (const [name, value] of Object.entries(ask.query ?? {}))
      for (const item of Array.isArray(value) ? value as string[] : [value]) if (item !== undefined && item !== '' && item !== false) query.append(name, item === true ? '1' : String(item))
    const version = this.#endpoint.version && `/v${this.#endpoint.version}`
    const stream = isStream(ask.body) ? ask.body : undefined
    const data = stream || ask.body === undefined ? undefined : Buffer.from(JSON.stringify(ask.body))
    const headers = { ...this.#endpoint.headers, Host: 'berth', 'User-Agent': 'berth-client', ...(data && { 'Content-Type': 'application/json', 'Content-Length': data.length }), ...(stream && { 'Content-Type': 'application/x-tar' }), ...ask.headers }
    const options: RequestOptions = { ...this.#connect, method, path: `${version}${path}${query.size ? `?${query}` : ''}`, headers, ...(ask.signal && { signal: ask.signal }) }
    const { tls } = this.#endpoint
    if (tls) {
      const https = await import('node:https')
      this.#agent ??= new https.Agent({ keepAlive: true, rejectUnauthorized: tls.verify, ...(tls.ca && { ca: tls.ca }), ...(tls.cert && { cert: tls.cert }), ...(tls.key && { key: tls.key }) })
    }
    // a connection that stays open lets the engine answer, and say why, before it has read all of a body
    this.#agent ??= new http.Agent({ keepAlive: true })
    const sent = http.request({ ...options, agent: this.#agent, ...(tls && { protocol: 'https:' }) })
    sent.once('error', (error) => reject(ask.signal?.aborted ? ask.signal.reason : this.#explain(error)))
    if (stream) {
      stream.once('error', (error) => sent.destroy(error))
      stream.pipe(sent)
    } else sent.end(data)
    return sent
  }

  #explain(error: Error): Error {
    const { host } = this.#endpoint
    if (codeOf(error) === 'ENOENT' || codeOf(error) === 'ECONNREFUSED') return new BerthError('unavailable', `Cannot connect to the berth daemon at ${host}. Is the berth daemon running?`, { cause: error })
    if (codeOf(error) === 'EACCES') return new BerthError('forbidden', `permission denied while trying to connect to the berth daemon socket at ${host}`, { cause: error })
    return new BerthError('unavailable', `error during connect: ${messageOf(error)}`, { cause: error })
  }
}

function isStream(body: unknown): body is Readable {
  return typeof body === 'object' && body !== null && 'pipe' in body
}

/** With `servername`, the name that TLS verifies. */
function connectOptions(host: string): RequestOptions & { servername?: string } {
  const match = /^(unix|tcp|https?):\/\/(.*)$/.exec(host)
  if (!match || !match[2]) throw new BerthError('invalid', `unable to parse docker host ${JSON.stringify(host)}`)
  if (match[1] === 'unix') return { socketPath: match[2] }
  const url = new URL(`http://${match[2]}`)
  const hostname = url.hostname.replace(/^\[|\]$/g, '')
  return { host: hostname, port: url.port || 2375, servername: isIP(hostname) ? '' : hostname }
}

async function textOf(response: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = []
  for await (const chunk of response) chunks.push(chunk as Buffer)
  return Buffer.concat(chunks).toString('utf8')
}

/** What an answer's `{"message": …}` says. */
async function errorOf(response: IncomingMessage): Promise<BerthError> {
  const text = await textOf(response)
  let message = text.trim()
  try {
    message = (JSON.parse(text) as { message?: string }).message ?? message
  } catch {
    // not ours: a proxy's page, say
  }
  return new BerthError(kinds[response.statusCode!] ?? 'system', `Error response from daemon: ${message || response.statusMessage}`)
}
