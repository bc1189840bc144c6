import { isIP } from 'node:net'
import { namesOf } from '../libnetwork/endpointnames.ts'
import { userDefined } from '../libnetwork/network.ts'
import type { Endpoint } from '../libnetwork/sandbox.ts'
import type { Container } from './container.ts'
import type { ContainerDeps } from './deps.ts'
import { hasNetworks } from './network.ts'
import { parsePort } from './ports.ts'
import type { ContainerRecord } from './record.ts'
import { withoutPrefix } from '../netlink/address.ts'

type Deps = Pick<ContainerDeps, 'networks'>

interface WireEndpoint { NetworkID: string }

const bare = (address: string | undefined): string => withoutPrefix(address ?? '')
const prefixOf = (address: string | undefined): number => Number(address?.split('/')[1] ?? 0)

/** The addresses of an endpoint as the API has them, at two places. */
function addressesOf(endpoint: Endpoint | undefined): Record<string, string | number> {
  return {
    EndpointID: endpoint?.id ?? '', Gateway: endpoint?.gateway4 ?? '', IPAddress: bare(endpoint?.ipv4), IPPrefixLen: prefixOf(endpoint?.ipv4), IPv6Gateway: endpoint?.gateway6 ?? '',
    GlobalIPv6Address: bare(endpoint?.ipv6), GlobalIPv6PrefixLen: prefixOf(endpoint?.ipv6),
  }
}

/** The API's EndpointSettings of a container's networks, by name. */
export function networksOf({ networks }: Deps, record: ContainerRecord): Record<string, WireEndpoint> {
  const mode = record.host.NetworkMode
  if (mode.startsWith('container:')) return {}
  const empty = { IPAMConfig: null, Links: null, Aliases: null, DriverOpts: null, GwPriority: 0, MacAddress: '', DNSNames: null, ...addressesOf(undefined) }
  if (!hasNetworks(mode)) return { [mode]: { ...empty, NetworkID: networks.find(mode)?.id ?? '' } }
  return Object.fromEntries(record.networks.map(({ id, name, settings }) => {
    const endpoint = record.endpoints.find(({ network }) => network === id)
    const { aliases, links, options, priority, mac, ipv4, ipv6, linkLocal } = settings
    return [name, {
      IPAMConfig: ipv4 || ipv6 || linkLocal ? { ...(ipv4 && { IPv4Address: ipv4 }), ...(ipv6 && { IPv6Address: ipv6 }), ...(linkLocal && { LinkLocalIPs: linkLocal }) } : null, Links: links.length ? links : null, Aliases: aliases.length ? aliases : null,
      DriverOpts: Object.keys(options).length ? options : null, GwPriority: priority, NetworkID: id, MacAddress: endpoint?.mac ?? mac ?? '', ...addressesOf(endpoint),
      DNSNames: userDefined({ name }) ? namesOf(record, { settings }) : null,
    }]
  }))
}

/** The API's NetworkSettings. */
export function networkSettingsOf(deps: Deps, { record, process }: Container): object {
  const byDefault = record.endpoints.find(({ networkName }) => !userDefined({ name: networkName }))
  return {
    Bridge: '', SandboxID: deps.networks.sandbox(record.id) ? record.id : '', SandboxKey: process ? `/proc/${process.pid}/ns/net` : '', HairpinMode: false, LinkLocalIPv6Address: '', LinkLocalIPv6PrefixLen: 0,
    Ports: process ? portMapOf(record) : {}, SecondaryIPAddresses: null, SecondaryIPv6Addresses: null, MacAddress: byDefault?.mac ?? '', ...addressesOf(byDefault), Networks: networksOf(deps, record),
  }
}

/** The API's PortMap of a running container: what is published, and null for what is only exposed. */
function portMapOf(record: ContainerRecord): Record<string, { HostIp: string, HostPort: string }[] | null> {
  const map: Record<string, { HostIp: string, HostPort: string }[] | null> = {}
  if (record.host.NetworkMode !== 'host') for (const port of Object.keys(record.config.ExposedPorts)) map[port.includes('/') ? port : `${port}/tcp`] = null
  for (const { protocol, host, port, to } of record.endpoints.flatMap(({ ports }) => ports)) (map[`${to}/${protocol}`] ??= []).push({ HostIp: host, HostPort: String(port) })
  return map
}

/** The API's list of Port, of a container in a list. */
export function portsOf(record: ContainerRecord): { IP?: string, PrivatePort: number, PublicPort?: number, Type: string }[] {
  const published = record.endpoints.flatMap(({ ports }) => ports).toSorted((a, b) => a.to - b.to || isIP(a.host) - isIP(b.host))
  const ports = published.map(({ protocol, host, port, to }) => ({ IP: host, PrivatePort: to, PublicPort: port, Type: protocol }))
  if (record.state.status !== 'running' && record.state.status !== 'paused') return []
  const exposed = Object.keys(record.config.ExposedPorts).map(parsePort).filter(({ port, protocol }) => !published.some((one) => one.to === port && one.protocol === protocol))
  return record.host.NetworkMode === 'host' ? [] : [...ports, ...exposed.map(({ port, protocol }) => ({ PrivatePort: port, Type: protocol }))]
}
