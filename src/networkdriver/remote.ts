import type { Plugin } from '../lib/plugin.ts'
import { protocolNumbers, type NetworkConfig, type NetworkDriver, type Pool } from './driver.ts'

const OF = 'NetworkDriver'

interface JoinAnswer {
  InterfaceName?: { SrcName?: string, DstPrefix?: string }
  Gateway?: string
  GatewayIPv6?: string
  StaticRoutes?: { Destination: string, RouteType: number, NextHop?: string }[]
}

const NEXTHOP = 0

/** Networks that a plugin makes (Docker's remote driver protocol): it makes a link, which is moved into the sandbox. What it
 * has made it keeps; it is not asked again after a restart of the engine. */
export function remoteDriver(plugin: Plugin): NetworkDriver {
  const call = <T extends object>(method: string, body: object = {}): Promise<T> => plugin.call<T>(OF, method, body)
  let scope: 'local' | 'global' = 'local'
  const data = (pools: readonly Pool[]): object[] => pools.map(({ subnet, gateway }) => ({ AddressSpace: '', Pool: subnet, Gateway: gateway ? `${gateway}/${subnet.split('/')[1]}` : '', AuxAddresses: {} }))
  const optionsOf = ({ options, internal, ipv6 }: NetworkConfig): object => ({ 'com.docker.network.generic': options, 'com.docker.network.internal': internal, 'com.docker.network.enable_ipv6': ipv6.length > 0 })
  return {
    name: plugin.name,
    get scope() {
      return scope
    },
    async activate() {
      scope = (await call<{ Scope?: string }>('GetCapabilities')).Scope === 'global' ? 'global' : 'local'
    },
    check() {},
    async create(network, { again = false } = {}) {
      if (!again) await call('CreateNetwork', { NetworkID: network.id, Options: optionsOf(network), IPv4Data: data(network.ipv4), IPv6Data: data(network.ipv6) })
    },
    async remove(network) {
      await call('DeleteNetwork', { NetworkID: network.id })
    },
    async join(network, endpoint, { again = false } = {}) {
      const place = { NetworkID: network.id, EndpointID: endpoint.id }
      if (again) return { link: { kind: 'moved', from: '' }, mtu: 0, prefix: 'eth' } // it is in its sandbox
      await call('CreateEndpoint', { ...place, Options: endpoint.options, Interface: { Address: endpoint.ipv4 ?? '', AddressIPv6: endpoint.ipv6 ?? '', MacAddress: endpoint.mac } })
      try {
        const { InterfaceName, Gateway, GatewayIPv6, StaticRoutes = [] } = await call<JoinAnswer>('Join', { ...place, SandboxKey: `/run/berth/netns/${endpoint.id}`, Options: {} })
        return {
          link: { kind: 'moved', from: InterfaceName?.SrcName ?? '' }, mtu: 0, prefix: InterfaceName?.DstPrefix || 'eth', ...(Gateway && { gateway4: Gateway }), ...(GatewayIPv6 && { gateway6: GatewayIPv6 }),
          routes: StaticRoutes.map(({ Destination, RouteType, NextHop }) => ({ to: Destination, ...(RouteType === NEXTHOP && NextHop && { gateway: NextHop }) })),
        }
      } catch (error) {
        await call('DeleteEndpoint', place)
        throw error
      }
    },
    async publish(network, endpoint, requests) {
      const bindings = requests.flatMap(({ protocol, hosts, from, to }) => hosts.map((host) => ({ protocol, host, port: from, to })))
      await call('ProgramExternalConnectivity', { NetworkID: network.id, EndpointID: endpoint.id, Options: { 'com.docker.network.portmap': bindings.map(({ protocol, host, port, to }) => ({ Proto: protocolNumbers[protocol], IP: '', Port: to, HostIP: host, HostPort: port, HostPortEnd: port })) } })
      return bindings
    },
    async withdraw(network, endpoint) {
      await call('RevokeExternalConnectivity', { NetworkID: network.id, EndpointID: endpoint.id })
    },
    async leave(network, endpoint) {
      const place = { NetworkID: network.id, EndpointID: endpoint.id }
      await call('Leave', place)
      await call('DeleteEndpoint', place)
    },
  }
}
