import { createHash } from 'node:crypto'
import { BerthError, messageOf } from '../lib/errors.ts'
import type { Connections } from './connections.ts'
import { parseChallenges, type Challenge } from './challenge.ts'
import { bodyOf, refused } from './failure.ts'
import type { Host } from './hosts.ts'

/** What someone shows a registry. `identityToken` stands for name and password where a login has given one. */
export interface Credentials { username?: string, password?: string, identityToken?: string, registryToken?: string }

/** The right to do something with a repository (distribution, "Token Scope"). */
export function scopeOf(path: string, actions: readonly string[]): string {
  return `repository:${path}:${actions.join(',')}`
}

/** Seconds that a token lives that does not say it, and those before its end when it is not used any more. */
const DEFAULT_LIFE = 60
const MARGIN = 5

interface Token { header: string, until: number }

/** Says what an `Authorization` header must be: name and password, or a token that a server named by the registry gave
 * for them (distribution, "Token Authentication", "OAuth2"). A token is used as long as it lives by all who show the same
 * credentials for the same scopes. */
export class Tokens {
  readonly #connections: Connections
  readonly #challenges = new Map<string, Challenge>()
  readonly #tokens = new Map<string, Promise<Token>>()

  constructor(connections: Connections) {
    this.#connections = connections
  }

  /** The header for a request; undefined as long as the host has asked for nothing. */
  async header(host: Host, credentials: Credentials, scopes: readonly string[], signal?: AbortSignal): Promise<string | undefined> {
    if (credentials.registryToken) return `Bearer ${credentials.registryToken}`
    const challenge = this.#challenges.get(host.name)
    if (!challenge) return undefined
    if (challenge.scheme === 'basic') return credentials.username === undefined ? undefined : basic(credentials)
    const key = createHash('sha256').update(JSON.stringify([host.name, challenge.parameters, credentials, scopes.toSorted()])).digest('hex')
    const known = await this.#tokens.get(key)?.catch(() => undefined)
    if (known && known.until > Date.now()) return known.header
    this.#forgetOld()
    // who waits for a token that somebody else is getting must not fail because that one hung up
    const fresh = this.#fetch(host, challenge, credentials, scopes)
    this.#tokens.set(key, fresh)
    fresh.catch(() => this.#tokens.delete(key))
    const given = await fresh
    signal?.throwIfAborted()
    return given.header
  }

  /** Gets a token that stands for name and password from now on, where the host's server gives such (distribution,
   * "offline_token"). */
  async identity(host: Host, credentials: Credentials): Promise<string | undefined> {
    const challenge = this.#challenges.get(host.name)
    if (challenge?.scheme !== 'bearer' || credentials.identityToken !== undefined) return undefined
    const body = await this.#ask(host, new URL(challenge.parameters['realm'] ?? ''), challenge.parameters['service'], credentials, [], true)
    return typeof body['refresh_token'] === 'string' && body['refresh_token'] ? body['refresh_token'] : undefined
  }

  /** Learns from a 401 what the host asks for. False where what was shown is what it asks for, and not enough. */
  learn(host: Host, header: string | undefined, shown: string | undefined): boolean {
    const challenges = parseChallenges(header ?? '')
    const challenge = challenges.find(({ scheme }) => scheme === 'bearer') ?? challenges[0]
    if (!challenge) return false
    const before = this.#challenges.get(host.name)
    this.#challenges.set(host.name, challenge)
    if (shown === undefined) return true
    const { scope: _asked, error: _why, ...now } = challenge.parameters
    const { scope: _askedBefore, error: _whyBefore, ...then } = before?.parameters ?? {}
    return before?.scheme !== challenge.scheme || JSON.stringify(now) !== JSON.stringify(then)
  }

  /** Drops a token that the host did not take, so that the next try gets another. */
  forget(header: string): void {
    for (const [key, token] of this.#tokens) void token.then((known) => known.header === header && this.#tokens.delete(key), () => this.#tokens.delete(key))
  }

  #forgetOld(): void {
    if (this.#tokens.size < 100) return
    for (const [key, token] of this.#tokens) void token.then(({ until }) => until <= Date.now() && this.#tokens.delete(key), () => this.#tokens.delete(key))
  }

  async #fetch(host: Host, challenge: Challenge, credentials: Credentials, scopes: readonly string[]): Promise<Token> {
    const { realm = '', service } = challenge.parameters
    let url: URL
    try {
      url = new URL(realm)
    } catch (error) {
      throw new BerthError('system', `the registry ${host.name} names no server for tokens: ${JSON.stringify(realm)}`, { cause: error })
    }
    const secret = credentials.identityToken !== undefined || credentials.password !== undefined
    if (url.protocol !== 'https:' && secret && !host.insecure && host.scheme !== 'http') throw new BerthError('system', `the registry ${host.name} wants a password to be sent in the clear to ${url.origin}`)
    const body = await (credentials.identityToken !== undefined ? this.#refresh(host, url, service, credentials.identityToken, scopes) : this.#ask(host, url, service, credentials, scopes))
    const text = typeof body['token'] === 'string' && body['token'] ? body['token'] : body['access_token']
    if (typeof text !== 'string' || text === '') throw new BerthError('system', 'authorization server did not include a token in the response')
    const life = typeof body['expires_in'] === 'number' && body['expires_in'] > 0 ? body['expires_in'] : DEFAULT_LIFE
    return { header: `Bearer ${text}`, until: Date.now() + Math.max(life - MARGIN, life / 2) * 1000 }
  }

  async #ask(host: Host, url: URL, service: string | undefined, credentials: Credentials, scopes: readonly string[], offline = false): Promise<Record<string, unknown>> {
    const query = new URL(url)
    if (service !== undefined) query.searchParams.set('service', service)
    for (const scope of scopes) query.searchParams.append('scope', scope)
    if (offline) {
      query.searchParams.set('offline_token', 'true')
      query.searchParams.set('client_id', 'berth')
    }
    if (credentials.username) query.searchParams.set('account', credentials.username)
    return await this.#answer(query, { method: 'GET', headers: credentials.username === undefined ? {} : { Authorization: basic(credentials) } }, host)
  }

  async #refresh(host: Host, url: URL, service: string | undefined, token: string, scopes: readonly string[]): Promise<Record<string, unknown>> {
    const form = new URLSearchParams({ grant_type: 'refresh_token', refresh_token: token, client_id: 'berth', service: service ?? '', scope: scopes.join(' ') })
    return await this.#answer(url, { method: 'POST', headers: { 'Content-Type': 'application/x-www-form-urlencoded' }, body: Buffer.from(form.toString()) }, host)
  }

  async #answer(url: URL, request: { method: 'GET' | 'POST', headers: Record<string, string>, body?: Buffer }, host: Host): Promise<Record<string, unknown>> {
    const response = await this.#connections.follow(url.href, request, host)
    if (response.statusCode !== 200) throw await refused(response, request.method, url.href)
    const text = (await bodyOf(response, 1 << 20)).toString('utf8')
    try {
      const body = JSON.parse(text) as unknown
      if (typeof body === 'object' && body !== null) return body as Record<string, unknown>
      throw new Error('it is no object')
    } catch (error) {
      throw new BerthError('system', `the answer of the authorization server ${url.origin} is not understood: ${messageOf(error)}`, { cause: error })
    }
  }
}

/** The header of name and password (RFC 7617). */
export function basic({ username = '', password = '' }: Credentials): string {
  return 'Basic ' + Buffer.from(`${username}:${password}`).toString('base64')
}
