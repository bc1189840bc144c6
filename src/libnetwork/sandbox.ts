import type { EndpointConfig, PortBinding, PortRequest } from '../networkdriver/driver.ts'
import type { Impairment } from '../netlink/qdisc.ts'
import type { Interface, NetworkPlan } from '../libcontainer/network.ts'

/** What a container asks for in a network: the API's EndpointSettings. */
export interface EndpointSettings {
  aliases: string[]
  /** `CONTAINER[:ALIAS]`: names that only this container knows. */
  links: string[]
  options: Record<string, string>
  priority: number
  mac?: string
  ipv4?: string
  ipv6?: string
  /** Further addresses, which nobody gives out. */
  linkLocal?: string[]
  /** What is done to its packets, beyond what the network itself does. */
  impairment?: Impairment | undefined
}

export const noSettings = (): EndpointSettings => ({ aliases: [], links: [], options: {}, priority: 0 })

/** A sandbox's place in a network. It is kept with its container, so that an engine that comes back knows it. */
export interface Endpoint extends EndpointConfig {
  network: string
  networkName: string
  settings: EndpointSettings
  interface: string
  link: Interface['link']
  mtu: number
  gateway4?: string | undefined
  gateway6?: string | undefined
  /** Beyond those to the subnets and the default. */
  routes?: Interface['routes']
  ports: PortBinding[]
}

/** A container's network namespace: what is in it, and who it belongs to. */
export interface Sandbox {
  /** The container's. */
  id: string
  name: string
  endpoints: Endpoint[]
  requests: readonly PortRequest[]
}

/** The endpoints by which a sandbox reaches other networks: that of the highest priority, and the first by name. */
export function gatewaysOf({ endpoints }: Pick<Sandbox, 'endpoints'>): { ipv4: Endpoint | undefined, ipv6: Endpoint | undefined } {
  const order = endpoints.toSorted((a, b) => b.settings.priority - a.settings.priority || (a.networkName < b.networkName ? -1 : 1))
  return { ipv4: order.find(({ gateway4 }) => gateway4), ipv6: order.find(({ gateway6 }) => gateway6) }
}

/** The endpoint whose network publishes a sandbox's ports. */
export function publisherOf(sandbox: Pick<Sandbox, 'endpoints'>): Endpoint | undefined {
  const { ipv4, ipv6 } = gatewaysOf(sandbox)
  return ipv4 ?? ipv6
}

/** An endpoint's interface, with the default routes if they are by it. */
export function interfaceOf(sandbox: Pick<Sandbox, 'endpoints'>, endpoint: Endpoint): Interface {
  const { ipv4, ipv6 } = gatewaysOf(sandbox)
  return {
    name: endpoint.interface, link: endpoint.link, mac: endpoint.mac, mtu: endpoint.mtu, addresses: [endpoint.ipv4, endpoint.ipv6, ...(endpoint.settings.linkLocal ?? []).map((address) => `${address}/${address.includes(':') ? 64 : 16}`)].filter((address) => address !== undefined), impairment: endpoint.settings.impairment,
    routes: [...endpoint.routes ?? [], ...(ipv4 === endpoint ? [{ gateway: ipv4.gateway4! }] : []), ...(ipv6 === endpoint ? [{ gateway: ipv6.gateway6! }] : [])],
  }
}

/** What the sandbox's namespace gets when it begins. */
export function planOf(sandbox: Pick<Sandbox, 'endpoints'>, options: { resolver: boolean }): NetworkPlan {
  return { interfaces: sandbox.endpoints.map((endpoint) => interfaceOf(sandbox, endpoint)), resolver: options.resolver }
}
