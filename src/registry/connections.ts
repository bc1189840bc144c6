import type { Agent, IncomingMessage, OutgoingHttpHeaders } from 'node:http'
import type { Readable } from 'node:stream'
import { getCACertificates } from 'node:tls'
import { http } from '../lib/http.ts'
import { BerthError, codeOf } from '../lib/errors.ts'
import { isPlainServer, requestOf, unreachable } from './failure.ts'
import { HostSet, LOOPBACK, certificatesOf, type Host, type RegistryOptions } from './hosts.ts'

export interface Request {
  method: 'GET' | 'HEAD' | 'POST' | 'PATCH' | 'PUT' | 'DELETE'
  headers?: OutgoingHttpHeaders
  body?: Uint8Array | Readable
  signal?: AbortSignal | undefined
}

const MAX_REDIRECTS = 10
/** How long what was found out of a host's scheme is held for true, in milliseconds. */
const SCHEME_LIFE = 60_000

/** Connections to registries and to those that they send us to: kept open between requests, by TLS where a host has it. */
export class Connections {
  readonly #options: RegistryOptions
  readonly #loopback = new HostSet(LOOPBACK)
  readonly #agents = new Map<string, Promise<Agent>>()
  readonly #schemes = new Map<string, { scheme: 'http' | 'https', until: number }>()

  constructor(options: RegistryOptions) {
    this.#options = options
  }

  /** The beginning of a host's URLs. A host that may be spoken to without TLS is asked whether it has it. */
  async origin(host: Host, signal?: AbortSignal): Promise<string> {
    const at = (scheme: string): string => `${scheme}://${host.name}${host.prefix}`
    if (host.scheme || !host.insecure) return at(host.scheme ?? 'https')
    const known = this.#schemes.get(host.name)
    if (known && known.until > Date.now()) return at(known.scheme)
    const scheme = await this.#find(host, signal)
    this.#schemes.set(host.name, { scheme, until: Date.now() + SCHEME_LIFE })
    return at(scheme)
  }

  async #find(host: Host, signal: AbortSignal | undefined): Promise<'http' | 'https'> {
    try {
      const response = await this.send(`https://${host.name}/v2/`, { method: 'GET', signal }, host)
      response.resume()
      return 'https'
    } catch (error) {
      if (signal?.aborted) throw signal.reason
      const cause = error instanceof BerthError ? error.cause : error
      if (cause === undefined) throw error // it was never sent: its certificates are wrong
      if (!isPlainServer(cause)) {
        // nobody there at all fails the same way without TLS, and then says so
        const response = await this.send(`http://${host.name}/v2/`, { method: 'GET', signal }, host)
        response.resume()
      }
      return 'http'
    }
  }

  /** Sends a request and returns the answer's head, whatever its status; its body must be read. `insecure` is for hosts
   * whose certificates nobody vouches for. Throws `unavailable` where the host can't be reached. */
  async send(url: string, request: Request, { insecure }: { insecure: boolean }): Promise<IncomingMessage> {
    const target = new URL(url)
    const agent = await this.#agent(target, insecure)
    const { method, body, signal } = request
    const stream = body && !(body instanceof Uint8Array) ? body : undefined
    const headers: OutgoingHttpHeaders = { 'User-Agent': this.#options.userAgent, ...request.headers }
    if (body instanceof Uint8Array) headers['Content-Length'] = body.length
    else if (!stream && (method === 'POST' || method === 'PUT' || method === 'PATCH')) headers['Content-Length'] = 0
    const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>()
    const fail = (error: unknown): void => reject(signal?.aborted ? signal.reason : unreachable(error, method, url))
    const sent = http.request(target, { method, headers, agent, timeout: this.#options.idle, ...(signal && { signal }) })
    sent.once('response', resolve)
    sent.on('error', (error) => {
      // a connection that the server has closed meanwhile, which is seen only now
      if (sent.reusedSocket && codeOf(error) === 'ECONNRESET' && !stream && !signal?.aborted) this.send(url, request, { insecure }).then(resolve, reject)
      else fail(error)
    })
    sent.once('timeout', () => sent.destroy(Object.assign(new Error(`no answer for ${this.#options.idle / 1000} seconds`), { code: 'ETIMEDOUT' })))
    if (stream) {
      stream.once('error', (error) => sent.destroy(error))
      sent.once('close', () => stream.destroy())
      stream.pipe(sent)
    } else sent.end(body)
    return await promise
  }

  /** As `send`, following redirects; what is secret stays with the host that was asked first. */
  async follow(url: string, request: Request, options: { insecure: boolean }): Promise<IncomingMessage> {
    let at = url
    let sent = request
    for (let count = 0; ; count++) {
      const response = await this.send(at, sent, options)
      const { statusCode = 0, headers: { location } } = response
      if (![301, 302, 303, 307, 308].includes(statusCode) || !location) return response
      response.resume()
      if (count === MAX_REDIRECTS) throw new BerthError('system', `${requestOf(request.method, at)}: stopped after ${MAX_REDIRECTS} redirects`)
      const next = new URL(location, at)
      if (next.protocol !== 'https:' && next.protocol !== 'http:') throw new BerthError('system', `${url} leads to ${next.protocol}, which is no way to a registry's content`)
      if (at.startsWith('https:') && next.protocol === 'http:' && !options.insecure) throw new BerthError('system', `${url} leads from https to ${next.origin}, which is in the clear`)
      if (next.origin !== new URL(at).origin) {
        const { Authorization: _secret, ...headers } = request.headers ?? {}
        sent = { ...request, headers }
      }
      at = next.href
    }
  }

  #agent(url: URL, insecure: boolean): Promise<Agent> {
    const key = `${url.origin} ${insecure}`
    let agent = this.#agents.get(key)
    if (!agent) {
      agent = this.#open(url, insecure)
      this.#agents.set(key, agent)
      agent.catch(() => this.#agents.delete(key)) // what was wrong with its certificates may be right the next time
    }
    return agent
  }

  async #open(url: URL, insecure: boolean): Promise<Agent> {
    const { proxy, certificates } = this.#options
    const proxied = (proxy.HTTP_PROXY || proxy.HTTPS_PROXY) && !await this.#loopback.has(url.host) // as Go's clients have it
    const common = { keepAlive: true, maxFreeSockets: 8, ...(proxied && { proxyEnv: { ...proxy } }) }
    if (url.protocol === 'http:') return new http.Agent(common)
    const https = await import('node:https')
    const { ca, cert, key } = certificatesOf(url.host, certificates)
    return new https.Agent({ ...common, ca: [...authorities(), ...ca], rejectUnauthorized: !insecure || ca.length > 0, ...(cert && { cert, key }) })
  }

  async close(): Promise<void> {
    for (const agent of this.#agents.values()) (await agent).destroy()
  }
}

/** The authorities that this machine trusts, as its administrator keeps them, which is not what Node brings along. */
function authorities(): string[] {
  const own = getCACertificates('system')
  return own.length ? own : getCACertificates('default')
}
