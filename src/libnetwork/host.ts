import { readIfThere } from '../lib/files.ts'
import { addressText, parseSubnet, type Subnet } from '../netlink/address.ts'

/** The networks that this host has routes to (proc(5), /proc/net/route and ipv6_route), but for default routes: a new
 * network must not hide them. */
export function hostSubnets(): Subnet[] {
  const subnets: Subnet[] = []
  for (const line of (readIfThere('/proc/net/route') ?? '').split('\n').slice(1)) {
    const [, destination, , , , , , mask] = line.split(/\s+/)
    if (!destination || !mask || Number(`0x${mask}`) === 0) continue
    const swap = (hex: string): bigint => BigInt(`0x${Buffer.from(hex, 'hex').reverse().toString('hex')}`)
    subnets.push(parseSubnet(`${addressText(swap(destination), 4)}/${[...swap(mask).toString(2)].filter((bit) => bit === '1').length}`))
  }
  for (const line of (readIfThere('/proc/net/ipv6_route') ?? '').split('\n')) {
    const [destination, prefix] = line.split(/\s+/)
    const length = Number(`0x${prefix}`)
    if (!destination || !length || length === 128) continue
    subnets.push(parseSubnet(`${addressText(BigInt(`0x${destination}`), 6)}/${length}`))
  }
  return subnets
}

/** The lines of resolv.conf(5) that matter: servers, search domains, options. */
export interface ResolvConf { servers: string[], search: string[], options: string[] }

export function parseResolvConf(text: string): ResolvConf {
  const found: ResolvConf = { servers: [], search: [], options: [] }
  for (const line of text.split('\n')) {
    const [word, ...rest] = line.replace(/[#;].*$/, '').trim().split(/\s+/)
    if (word === 'nameserver' && rest[0]) found.servers.push(rest[0])
    else if (word === 'search' || word === 'domain') found.search = rest
    else if (word === 'options') found.options.push(...rest)
  }
  return found
}

export function formatResolvConf({ servers, search, options }: ResolvConf): string {
  return [...servers.map((server) => `nameserver ${server}`), ...(search.length ? [`search ${search.join(' ')}`] : []), ...(options.length ? [`options ${options.join(' ')}`] : [])].map((line) => `${line}\n`).join('')
}

/** This host's resolver settings. */
export function hostResolvConf(): ResolvConf {
  const own = parseResolvConf(readIfThere('/etc/resolv.conf') ?? '')
  // systemd-resolved listens on 127.0.0.53 of the host; its real servers are elsewhere (systemd-resolved(8))
  if (own.servers.length === 1 && own.servers[0] === '127.0.0.53') {
    const real = parseResolvConf(readIfThere('/run/systemd/resolve/resolv.conf') ?? '')
    if (real.servers.length) return { ...real, search: own.search }
  }
  return own
}

/** True for a server that only the host itself reaches. */
export const isLoopback = (address: string): boolean => address.startsWith('127.') || address === '::1'
