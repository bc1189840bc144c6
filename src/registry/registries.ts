import { BerthError, messageOf } from '../lib/errors.ts'
import type { Reference } from '../reference/reference.ts'
import { Connections } from './connections.ts'
import { bodyOf, refused } from './failure.ts'
import { HostSet, LOOPBACK, hostAt, hostsOf, type RegistryOptions } from './hosts.ts'
import { Repository } from './repository.ts'
import { Tokens, basic, type Credentials } from './tokens.ts'

/** What a search finds. */
export interface SearchResult { name: string, description: string, star_count: number, is_official: boolean, is_automated: boolean }

/** The index of docker.io, which is searched; and what logins to it are known by. */
export const INDEX_SERVER = 'https://index.docker.io/v1/'
const INDEX_HOST = 'index.docker.io'

/** All registries, as one client sees them: who shares it shares connections and tokens. */
export class Registries {
  readonly options: RegistryOptions
  readonly #insecure: HostSet
  readonly #connections: Connections
  readonly #tokens: Tokens

  constructor(options: RegistryOptions) {
    this.options = options
    this.#insecure = new HostSet([...LOOPBACK, ...options.insecure])
    this.#connections = new Connections(options)
    this.#tokens = new Tokens(this.#connections)
  }

  /** A name's repository on each server that may have it: mirrors first. Credentials are shown to the registry itself. */
  async toPull({ domain, path }: Pick<Reference, 'domain' | 'path'>, credentials: Credentials): Promise<Repository[]> {
    const hosts = await hostsOf(domain, this.options, this.#insecure)
    return hosts.map((host) => new Repository({ host, path, connections: this.#connections, tokens: this.#tokens, credentials: host.mirror ? {} : credentials, actions: ['pull'] }))
  }

  /** A name's repository on its own registry, for writing. `readFrom` are repositories that blobs are taken over from. */
  async toPush({ domain, path }: Pick<Reference, 'domain' | 'path'>, credentials: Credentials, readFrom: readonly string[] = []): Promise<Repository> {
    const host = (await hostsOf(domain, this.options, this.#insecure)).at(-1)!
    return new Repository({ host, path, connections: this.#connections, tokens: this.#tokens, credentials, actions: ['pull', 'push'], readFrom })
  }

  /** A repository of the registry at a URL. */
  async at(url: string, path: string, credentials: Credentials): Promise<Repository> {
    return new Repository({ host: await hostAt(url, this.#insecure), path, connections: this.#connections, tokens: this.#tokens, credentials, actions: ['pull'] })
  }

  /** Checks credentials. Returns a token that stands for them, where the registry gives such. */
  async login(domain: string, credentials: Credentials): Promise<string | undefined> {
    const host = (await hostsOf(domain, this.options, this.#insecure)).at(-1)!
    const repository = new Repository({ host, path: '', connections: this.#connections, tokens: this.#tokens, credentials, actions: [] })
    await repository.check()
    return await this.#tokens.identity(host, credentials)
  }

  /** Looks for repositories by a registry's search of old (Docker Registry API V1, "Search"). */
  async search(domain: string, term: string, limit: number, credentials: Credentials, signal?: AbortSignal): Promise<SearchResult[]> {
    const name = domain === 'docker.io' ? INDEX_HOST : domain
    const host = { name, prefix: '', insecure: await this.#insecure.has(domain), mirror: false }
    const url = `${await this.#connections.origin(host, signal)}/v1/search?q=${encodeURIComponent(term)}&n=${limit}`
    const headers = { 'X-Docker-Token': 'true', ...(credentials.username !== undefined && { Authorization: basic(credentials) }) }
    const response = await this.#connections.follow(url, { method: 'GET', headers, signal }, host)
    if (response.statusCode !== 200) throw await refused(response, 'GET', url)
    try {
      const { results } = JSON.parse((await bodyOf(response, 16 << 20)).toString('utf8')) as { results?: unknown }
      return (Array.isArray(results) ? results : []).map((item: Partial<SearchResult>) => ({
        name: String(item.name ?? ''), description: String(item.description ?? ''), star_count: Number(item.star_count ?? 0), is_official: item.is_official === true, is_automated: item.is_automated === true,
      }))
    } catch (error) {
      throw new BerthError('system', `the registry's answer to a search is not understood: ${messageOf(error)}`, { cause: error })
    }
  }

  close(): Promise<void> {
    return this.#connections.close()
  }
}
