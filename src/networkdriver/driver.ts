import type { Interface } from '../libcontainer/network.ts'

/** Addresses that a network has: a subnet, its gateway, which is left out where the network has none. */
export interface Pool { subnet: string, gateway?: string }

/** A network as its driver sees it. */
export interface NetworkConfig {
  id: string
  name: string
  internal: boolean
  options: Readonly<Record<string, string>>
  ipv4: readonly Pool[]
  ipv6: readonly Pool[]
  /** The number of tunnels out of which nothing may come that was not encrypted. */
  sealed?: number
}

/** Protocols that have ports, by their numbers (IANA, "Protocol Numbers"). */
export const protocolNumbers = { tcp: 6, udp: 17, sctp: 132 } as const
export type Protocol = keyof typeof protocolNumbers

/** A port of the host that leads to one of a container. `host` is an address of the host's, 0.0.0.0 or :: for all. */
export interface PortBinding { protocol: Protocol, host: string, port: number, to: number }

/** What is asked for: the same port of several addresses, the first of a range that is free, or with `from` 0 any. */
export interface PortRequest { protocol: Protocol, hosts: readonly string[], from: number, last: number, to: number }

/** A sandbox's place in a network, with the addresses that it was given. */
export interface EndpointConfig {
  id: string
  /** Who has it, for errors. */
  owner: string
  mac: string
  /** With prefix. */
  ipv4?: string | undefined
  ipv6?: string | undefined
  options: Readonly<Record<string, string>>
}

/** What an endpoint is in its sandbox: an interface without name and default routes, and the gateways of those. */
export interface Joined {
  link: Interface['link']
  mtu: number
  gateway4?: string | undefined
  gateway6?: string | undefined
  /** The beginning of the interface's name. */
  prefix: string
  /** Beyond those to the subnets and the default. */
  routes?: Interface['routes']
}

/** Makes networks, and connects sandboxes to them. Its words: `create` once a network, and again after a restart of the
 * engine, with `again`, when it may be there already; `join` likewise once for each endpoint; `publish` any number of
 * times between `join` and `leave`. What is not there is no error to `leave` and `remove`. */
export interface NetworkDriver {
  readonly name: string
  /** Where its networks are known: on this host, or on all that share a store. */
  readonly scope: 'local' | 'global'
  /** Asks who it is, where that is not known from the beginning; to be called before a network is made. */
  activate?(): Promise<void>
  /** Refuses options that it can not have, with `invalid`. */
  check(network: NetworkConfig): void
  create(network: NetworkConfig, options?: { again?: boolean }): Promise<void>
  remove(network: NetworkConfig): Promise<void>
  join(network: NetworkConfig, endpoint: EndpointConfig, options?: { again?: boolean }): Promise<Joined>
  /** Makes ports of the host lead to an endpoint; all or none of them. Returns them with the ports that they got. */
  publish?(network: NetworkConfig, endpoint: EndpointConfig, requests: readonly PortRequest[]): Promise<PortBinding[]>
  withdraw?(network: NetworkConfig, endpoint: EndpointConfig, bindings: readonly PortBinding[]): Promise<void>
  /** Another host's endpoint has come, or gone: where it is, and its addresses without prefix. What is not known is no
   * error. */
  peer?(network: NetworkConfig, peer: { address: string, nonce: string, mac: string, addresses: readonly string[] }, there: boolean): void
  /** The endpoint is no more, and none of its ports. */
  leave(network: NetworkConfig, endpoint: EndpointConfig): Promise<void>
  /** Removes what a crash left, and no network has; once, when all that live are made. */
  sweep?(): Promise<void>
  /** Gives back what the driver has as a whole; networks without endpoints go with it. */
  close?(): Promise<void>
}
