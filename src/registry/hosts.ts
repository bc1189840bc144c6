import { existsSync, readFileSync, readdirSync } from 'node:fs'
import { lookup } from 'node:dns/promises'
import { BlockList, isIP } from 'node:net'
import { join } from 'node:path'
import { invalid, system } from '../lib/errors.ts'

/** Where certificates for registries are kept. */
export const CERTIFICATES = ['/etc/docker/certs.d', '/etc/berth/certs.d']

/** What a person says of registries. */
export interface RegistryOptions {
  /** By a registry's domain (`docker.io`), the URLs of those that are asked before it. */
  mirrors: ReadonlyMap<string, readonly string[]>
  /** Those that may be spoken to without TLS, or with a certificate that nobody vouches for: `HOST[:PORT]` or a CIDR
   * range. Loopback addresses always may. */
  insecure: readonly string[]
  /** Directories of the kind of /etc/docker/certs.d: in each, for `HOST[:PORT]`, `*.crt` of authorities, and `NAME.cert`
   * with `NAME.key` of clients. */
  certificates: readonly string[]
  proxy: ProxyOptions
  userAgent: string
  /** Milliseconds without a byte after which a connection is given up. */
  idle: number
}

/** As the variables of these names have it. */
export interface ProxyOptions { HTTP_PROXY?: string, HTTPS_PROXY?: string, NO_PROXY?: string }

/** A server that has a registry's images. */
export interface Host {
  /** `host[:port]` as it is dialled, and as certs.d knows it. */
  name: string
  /** The scheme, where it is said; otherwise it is found out. */
  scheme?: 'http' | 'https'
  /** Before `/v2/` in its URLs; mirrors may be in a directory. */
  prefix: string
  insecure: boolean
  mirror: boolean
}

/** Where a domain's images really are. */
const servers: Readonly<Record<string, string>> = { 'docker.io': 'registry-1.docker.io' }

/** Addresses that need no TLS. */
export const LOOPBACK = ['127.0.0.0/8', '::1/128']

/** Hosts by name and by ranges of addresses. */
export class HostSet {
  readonly #names = new Set<string>()
  readonly #ranges = new BlockList()
  #resolves = false

  /** `HOST[:PORT]` or CIDR ranges. Throws `invalid` for what is neither. */
  constructor(entries: readonly string[]) {
    for (const entry of entries) {
      if (/^https?:\/\//.test(entry)) throw invalid(`registry ${entry} should not contain '://'`)
      const [address = '', prefix] = entry.split('/')
      const family = isIP(address)
      if (prefix !== undefined && family && /^\d+$/.test(prefix) && Number(prefix) <= (family === 4 ? 32 : 128)) {
        this.#ranges.addSubnet(address, Number(prefix), family === 4 ? 'ipv4' : 'ipv6')
        this.#resolves ||= !LOOPBACK.includes(entry)
      } else if (/^[^\s/]+$/.test(entry)) this.#names.add(entry.toLowerCase())
      else throw invalid(`registry ${JSON.stringify(entry)} is no HOST[:PORT] and no CIDR range`)
    }
  }

  async has(name: string): Promise<boolean> {
    const { hostname, host } = new URL(`http://${name}`)
    const bare = hostname.replace(/^\[|\]$/g, '')
    if (this.#names.has(name.toLowerCase()) || this.#names.has(host) || this.#names.has(bare)) return true
    const within = (address: string): boolean => this.#ranges.check(address, isIP(address) === 6 ? 'ipv6' : 'ipv4')
    if (isIP(bare) || bare === 'localhost') return within(bare === 'localhost' ? '127.0.0.1' : bare)
    if (!this.#resolves) return false
    const addresses = await lookup(bare, { all: true }).catch(() => []) // a name that nobody knows fails when it is dialled
    return addresses.some(({ address }) => within(address))
  }
}

/** The server at a URL. */
export async function hostAt(text: string, insecure: HostSet): Promise<Host> {
  const url = new URL(text)
  return { name: url.host, scheme: url.protocol === 'http:' ? 'http' : 'https', prefix: url.pathname.replace(/\/+$/, '').replace(/\/v2$/, ''), insecure: await insecure.has(url.host), mirror: false }
}

/** The servers to ask for a domain's images, in order: its mirrors, then its own. */
export async function hostsOf(domain: string, options: RegistryOptions, insecure: HostSet): Promise<Host[]> {
  const mirrors = await Promise.all((options.mirrors.get(domain) ?? []).map(async (url): Promise<Host> => ({ ...await hostAt(url, insecure), mirror: true })))
  const name = servers[domain] ?? domain
  return [...mirrors, { name, prefix: '', insecure: await insecure.has(domain), mirror: false }]
}

/** Reads `URL`, a mirror of docker.io, or `DOMAIN=URL`, a mirror of another registry. */
export function parseMirror(text: string): { domain: string, url: string } {
  const [, domain = 'docker.io', address = ''] = /^(?:([^=:/]+(?::\d+)?)=)?(.*)$/.exec(text) ?? []
  const fail = (why: string): Error => invalid(`invalid mirror: ${why}`)
  let url: URL
  try {
    url = new URL(address)
  } catch {
    throw fail(`${JSON.stringify(text)} is not a valid URI`)
  }
  if (url.protocol !== 'http:' && url.protocol !== 'https:') throw fail(`unsupported scheme ${JSON.stringify(url.protocol.slice(0, -1))} in ${JSON.stringify(text)}`)
  if (url.search || url.hash) throw fail(`query or fragment at end of the URI ${JSON.stringify(text)}`)
  if (url.username || url.password) throw fail(`username/password not allowed in URI ${JSON.stringify(text.replace(/\/\/[^@]*@/, '//xxxxx@'))}`)
  return { domain, url: `${url.origin}${url.pathname.replace(/\/*$/, '/')}` }
}

/** What certs.d has for a host: `ca` beside the system's own authorities, and a client's certificate. */
export function certificatesOf(name: string, directories: readonly string[]): { ca: string[], cert?: string, key?: string } {
  const found: { ca: string[], cert?: string, key?: string } = { ca: [] }
  for (const directory of directories.map((root) => join(root, name))) {
    if (!existsSync(directory)) continue
    for (const file of readdirSync(directory).toSorted()) {
      const path = join(directory, file)
      const partner = (extension: string): string => path.replace(/\.(cert|key)$/, extension)
      if (file.endsWith('.crt')) found.ca.push(readFileSync(path, 'utf8'))
      else if (file.endsWith('.cert')) {
        if (!existsSync(partner('.key'))) throw system(`missing key ${partner('.key')} for client certificate ${path}. CA certificates must use the extension .crt`)
        found.cert = readFileSync(path, 'utf8')
        found.key = readFileSync(partner('.key'), 'utf8')
      } else if (file.endsWith('.key') && !existsSync(partner('.cert'))) throw system(`missing client certificate ${partner('.cert')} for key ${path}`)
    }
  }
  return found
}
