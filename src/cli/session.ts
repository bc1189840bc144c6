import { readFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { readIfThere } from '../lib/files.ts'
import type { Client, Endpoint } from '../api/client.ts'
import { ExitError } from './command.ts'

export const defaultHost = 'unix:///var/run/berth.sock'

/** Flags that stand before the command. */
export interface GlobalFlags { config?: string, host?: string[], tls?: boolean, tlscacert?: string, tlscert?: string, tlskey?: string, tlsverify?: boolean }

/** The client's settings, from `config.json`: those that concern a client of one engine. */
export interface ClientConfig {
  detachKeys?: string
  psFormat?: string
  imagesFormat?: string
  statsFormat?: string
  HttpHeaders?: Record<string, string>
}

/** What all commands of one run share: the engine that they speak to, and the person's settings. */
export class Session {
  readonly env: NodeJS.ProcessEnv
  readonly configDirectory: string
  readonly #flags: GlobalFlags
  #client: Client | undefined
  #config: ClientConfig | undefined

  constructor(flags: GlobalFlags, env: NodeJS.ProcessEnv) {
    this.env = env
    this.#flags = flags
    this.configDirectory = flags.config || env['DOCKER_CONFIG'] || join(homedir(), '.docker')
  }

  /** The person's `config.json`; empty where there is none. */
  get config(): ClientConfig {
    if (this.#config) return this.#config
    const path = join(this.configDirectory, 'config.json')
    const text = readIfThere(path)
    try {
      this.#config = text === undefined || text.trim() === '' ? {} : JSON.parse(text) as ClientConfig
    } catch (error) {
      throw new ExitError(1, `error parsing config file (${path}): ${(error as Error).message}`)
    }
    return this.#config
  }

  /** The detach keys of a flag, or the person's own. */
  detachKeys(flag: string): string | undefined {
    return flag || this.config.detachKeys
  }

  get endpoint(): Endpoint {
    const { host: hosts = [] } = this.#flags
    if (hosts.length > 1) throw new ExitError(1, 'Specify only one -H')
    const host = hosts[0] || this.env['DOCKER_HOST'] || defaultHost
    const tls = this.#tls()
    return { host: host.includes('://') ? host : `tcp://${host}`, version: this.env['DOCKER_API_VERSION'] ?? '', ...(tls && !host.startsWith('unix://') && { tls }), ...(this.config.HttpHeaders && { headers: this.config.HttpHeaders }) }
  }

  #tls(): Endpoint['tls'] {
    const { tls, tlsverify, tlscacert = '', tlscert = '', tlskey = '' } = this.#flags
    const verify = tlsverify || Boolean(this.env['DOCKER_TLS_VERIFY'])
    if (!tls && !verify) return undefined
    const directory = this.env['DOCKER_CERT_PATH'] || this.configDirectory
    const read = (given: string, name: string): string | undefined => (given ? readFileSync(given, 'utf8') : readIfThere(join(directory, name)))
    const [ca, cert, key] = [read(tlscacert, 'ca.pem'), read(tlscert, 'cert.pem'), read(tlskey, 'key.pem')]
    return { verify, ...(ca && { ca }), ...(cert && { cert }), ...(key && { key }) }
  }

  /** The engine, to which nothing is sent yet. HTTP is loaded only now: `berth --help` needs none. */
  async client(): Promise<Client> {
    const { Client: ApiClient } = await import('../api/client.ts')
    return this.#client ??= new ApiClient(this.endpoint)
  }
}
