import { chownSync, existsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { invalid } from '../lib/errors.ts'
import { readIfThere } from '../lib/files.ts'
import { rootOf } from '../lib/idmap.ts'
import { RESOLVER_ADDRESS } from '../libcontainer/network.ts'
import { formatResolvConf, hostResolvConf, isLoopback, type ResolvConf } from '../libnetwork/host.ts'
import { userDefined } from '../libnetwork/network.ts'
import { containerDirectory, remapOf, type ContainerDeps } from './deps.ts'
import { linksOf } from './links.ts'
import { hostnameOf } from './process.ts'
import type { ContainerRecord } from './record.ts'
import { withoutPrefix } from '../netlink/address.ts'

const baseHosts = '127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\nff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n'

/** Writes a container's /etc/hosts, /etc/hostname and /etc/resolv.conf, in place: they may be mounted. */
export function writeNameFiles(deps: ContainerDeps, record: ContainerRecord): void {
  const directory = containerDirectory(deps, record.id)
  const remap = remapOf(deps, record.host)
  const write = (file: string, text: string): void => {
    const path = join(directory, file)
    const made = !existsSync(path)
    writeFileSync(path, text, { mode: 0o644 })
    const { uid, gid } = rootOf(remap)
    if (remap && made) chownSync(path, uid, gid) // the container's root may change them
  }
  const host = record.host.NetworkMode === 'host'
  write('hosts', (host ? readIfThere('/etc/hosts') ?? baseHosts : baseHosts) + hostsLines(deps, record))
  write('hostname', `${hostnameOf(record) || deps.hostname}\n`)
  write('resolv.conf', host && !record.host.Dns.length && !record.host.DnsSearch.length && !record.host.DnsOptions.length ? readIfThere('/etc/resolv.conf') ?? '' : formatResolvConf(resolvConfOf(deps, record)))
}

/** The lines of /etc/hosts that are the container's own: what it was told, its links on the default network, itself. */
function hostsLines(deps: ContainerDeps, record: ContainerRecord): string {
  const lines: string[] = []
  for (const entry of record.host.ExtraHosts ?? []) {
    const at = entry.search(/[:=]/)
    const [name, address] = [entry.slice(0, at), entry.slice(at + 1)]
    lines.push(`${address === 'host-gateway' ? hostGateway(deps, record) : address.replace(/^\[(.*)\]$/, '$1')}\t${name}`)
  }
  for (const { container, alias, address } of linksOf(deps, record)) lines.push(`${address}\t${[...new Set([alias, container.record.config.Hostname, container.record.name])].join(' ')}`)
  const { Hostname, Domainname } = record.config
  const name = Domainname ? `${Hostname}.${Domainname} ${Hostname}` : Hostname
  for (const { ipv4, ipv6 } of record.endpoints) for (const address of [ipv4, ipv6]) if (address) lines.push(`${withoutPrefix(address)}\t${name}`)
  return lines.map((line) => `${line}\n`).join('')
}

/** The host's address as its containers reach it. */
function hostGateway(deps: ContainerDeps, record: ContainerRecord): string {
  const gateway = deps.publish.hostGateway || deps.networks.find('bridge')?.pools[0]?.gateway || record.endpoints.find(({ gateway4 }) => gateway4)?.gateway4
  if (!gateway) throw invalid('unable to derive the IP value for host-gateway')
  return gateway
}

/** True for a container that asks its own name server: on networks with names, and where the host's servers are such that
 * only the host itself reaches them. */
export function asksNameServer(deps: Pick<ContainerDeps, 'dns'>, { host, networks }: ContainerRecord, hostConf?: ResolvConf): boolean {
  if (networks.some(userDefined)) return true
  if (networks.length === 0 || host.Dns.length > 0 || deps.dns.servers.length > 0) return false
  const { servers } = hostConf ?? hostResolvConf()
  return servers.length > 0 && servers.every(isLoopback)
}

/** A container's resolver settings: its own where it has some, else the daemon's, else the host's. On networks with names
 * it asks its name server; on others a server that only the host reaches is of no use. */
function resolvConfOf(deps: ContainerDeps, record: ContainerRecord): ResolvConf {
  const { host } = record
  const base = hostResolvConf()
  const search = host.DnsSearch.length ? host.DnsSearch : deps.dns.search.length ? [...deps.dns.search] : base.search
  const options = host.DnsOptions.length ? host.DnsOptions : deps.dns.options.length ? [...deps.dns.options] : base.options
  const asked = host.Dns.length ? host.Dns : deps.dns.servers
  if (asksNameServer(deps, record, base)) return { servers: [RESOLVER_ADDRESS], search: search.filter((name) => name !== '.'), options: [...options.filter((option) => !option.startsWith('ndots:')), ...options.filter((option) => option.startsWith('ndots:')).concat('ndots:0').slice(0, 1)] }
  const reachable = base.servers.filter((server) => !isLoopback(server) || host.NetworkMode === 'host')
  return { servers: asked.length ? [...asked] : reachable, search: search.filter((name) => name !== '.'), options }
}
