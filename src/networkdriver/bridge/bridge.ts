import { randomBytes } from 'node:crypto'
import { existsSync, writeFileSync } from 'node:fs'
import { isIP } from 'node:net'
import { codeOf, conflict, invalid, system } from '../../lib/errors.ts'
import { KeyedLock } from '../../lib/lock.ts'
import { macText } from '../../netlink/address.ts'
import { newAddress, newBridge, setLink, type Link } from '../../netlink/link.ts'
import { NetlinkSocket } from '../../sys/netlink.ts'
import type { Zygote } from '../../sys/zygote.ts'
import type { EndpointConfig, NetworkConfig, NetworkDriver, PortBinding } from '../driver.ts'
import { Firewall, type Published } from './firewall.ts'
import { findLink, listLinks, removeLink } from '../links.ts'
import type { Target } from './holders.ts'
import { PortTable } from './ports.ts'

const OPTION = {
  name: 'com.docker.network.bridge.name', masquerade: 'com.docker.network.bridge.enable_ip_masquerade', icc: 'com.docker.network.bridge.enable_icc',
  isDefault: 'com.docker.network.bridge.default_bridge', mtu: 'com.docker.network.driver.mtu', prefix: 'com.docker.network.container_iface_prefix',
} as const

export interface BridgeOptions {
  zygote: Zygote
  /** Where FIFOs are meanwhile. */
  directory: string
  /** The name of the nftables table. */
  table: string
  /** Whose bridges these are: kept as the links' alias. */
  alias: string
  /** The name of the default network's bridge. */
  defaultBridge: string
  /** The processes of this engine pass on what no rule forwards. */
  userlandProxy: boolean
  /** Whether this engine turned forwarding on. */
  guard: boolean
  warn: (message: string, error?: unknown) => void
}

/** Networks that are bridges of this host (Docker's default): a pair of links for each endpoint, nftables for what passes
 * and for ports. */
export function bridgeDriver(options: BridgeOptions): NetworkDriver {
  const { zygote, directory, warn } = options
  const route = new NetlinkSocket('route')
  const netfilter = new NetlinkSocket('netfilter')
  const firewall = new Firewall(options.table, netfilter, { guard: options.guard })
  firewall.rebuild()
  const networks = new Map<string, { bridge: string, index: number, network: NetworkConfig }>()
  const ports = new PortTable({ hold: options.userlandProxy })
  const lock = new KeyedLock()

  const find = (name: string): Link | undefined => findLink(route, name)
  const bridgeOf = (network: NetworkConfig): string => network.options[OPTION.name] ?? (network.options[OPTION.isDefault] === 'true' ? options.defaultBridge : `br-${network.id.slice(0, 12)}`)
  const flag = (network: NetworkConfig, name: string, otherwise: boolean): boolean => {
    const text = network.options[name]
    if (text === undefined || text === '') return otherwise
    if (/^(1|t|true)$/i.test(text)) return true
    if (/^(0|f|false)$/i.test(text)) return false
    throw invalid(`failed to parse ${name} value: ${JSON.stringify(text)}`)
  }
  const mtuOf = (network: NetworkConfig): number => {
    const text = network.options[OPTION.mtu] ?? '0'
    if (!/^\d+$/.test(text) || Number(text) > 65_535) throw invalid(`failed to parse ${OPTION.mtu} value: ${JSON.stringify(text)}`)
    return Number(text)
  }
  const remove = async (name: string): Promise<void> => {
    if (find(name)) await removeLink(zygote, directory, name)
  }
  const sysctl = (path: string, value: string): void => {
    try {
      writeFileSync(`/proc/sys/net/${path}`, value)
    } catch (error) {
      if (codeOf(error) !== 'ENOENT') throw error
    }
  }

  /** The address to which a port of a host's address leads. */
  const targetOf = (network: NetworkConfig, endpoint: EndpointConfig, { host, to }: Pick<PortBinding, 'host' | 'to'>): Target => {
    const address = (isIP(host) === 6 ? endpoint.ipv6 ?? endpoint.ipv4 : endpoint.ipv4 ?? endpoint.ipv6)?.split('/')[0]
    if (!address) throw invalid(`network ${network.name} gives no addresses`)
    return { address, port: to }
  }
  /** The rules of ports; those that lead from one family to the other have none, and are passed on by this process. */
  const rulesOf = (network: NetworkConfig, endpoint: EndpointConfig, bindings: readonly PortBinding[]): Published[] => bindings.flatMap((binding) => {
    const { address, port } = targetOf(network, endpoint, binding)
    return isIP(binding.host) === isIP(address) ? [{ protocol: binding.protocol, host: binding.host, port: binding.port, to: address, toPort: port }] : []
  })
  const giveBack = async (network: NetworkConfig, endpoint: EndpointConfig, bindings?: readonly PortBinding[]): Promise<void> => {
    using _held = await lock.hold('ports')
    firewall.withdraw(rulesOf(network, endpoint, await ports.giveBack(endpoint.id, bindings)))
  }

  return {
    name: 'bridge',
    scope: 'local',
    check(network) {
      mtuOf(network)
      for (const name of [OPTION.masquerade, OPTION.icc, OPTION.isDefault]) flag(network, name, true)
      const bridge = bridgeOf(network)
      if (!/^[^\s/:]{1,15}$/.test(bridge) || bridge === '.' || bridge === '..') throw invalid(`invalid bridge name ${JSON.stringify(bridge)}: at most 15 characters, none of them a space, a slash or a colon`)
      const other = [...networks.values()].find((entry) => entry.bridge === bridge && entry.network.id !== network.id)
      if (other) throw conflict(`bridge ${bridge} is in use by network ${other.network.name}`)
    },
    async create(network) {
      const bridge = bridgeOf(network)
      const there = find(bridge)
      const foreign = there !== undefined && there.alias !== options.alias
      if (foreign && network.options[OPTION.name] === undefined) throw conflict(`the link ${bridge} belongs to another`)
      const mtu = mtuOf(network)
      if (!there) route.request(`make the bridge ${bridge}`, newBridge({ name: bridge, mac: macText([0x02, 0x42, ...randomBytes(4)]), mtu }))
      const link = find(bridge)
      if (!link) throw system(`the bridge ${bridge} is not there`)
      if (!there) route.request(`mark the bridge ${bridge}`, setLink({ index: link.index, alias: options.alias }))
      try {
        if (network.ipv6.length === 0) sysctl(`ipv6/conf/${bridge}/disable_ipv6`, '1')
        else {
          sysctl(`ipv6/conf/${bridge}/disable_ipv6`, '0')
          // nobody else has the bridge's link-local address, by which it asks for neighbours: it need not wait for a second
          for (const [name, value] of [['accept_ra', '0'], ['accept_dad', '0'], ['forwarding', '1']]) sysctl(`ipv6/conf/${bridge}/${name}`, value!)
        }
        for (const { subnet, gateway } of [...network.ipv4, ...network.ipv6]) if (gateway) route.request(`give ${bridge} the address ${gateway}`, newAddress(link.index, `${gateway}/${subnet.split('/')[1]}`))
        route.request(`raise ${bridge}`, setLink({ index: link.index, up: true }))
        sysctl(`ipv4/conf/${bridge}/route_localnet`, '1') // for ports at localhost; see the firewall's chain loopback
        firewall.addNetwork({ bridge, internal: network.internal, masquerade: flag(network, OPTION.masquerade, true) && !network.internal, betweenContainers: flag(network, OPTION.icc, true), sealed: network.sealed })
      } catch (error) {
        if (!there) await remove(bridge)
        throw error
      }
      networks.set(network.id, { bridge, index: link.index, network })
    },
    async remove(network) {
      const bridge = bridgeOf(network)
      firewall.removeNetwork(bridge)
      networks.delete(network.id)
      if (find(bridge)?.alias === options.alias) await remove(bridge)
    },
    join(network, endpoint) {
      const known = networks.get(network.id)
      if (!known) throw system(`network ${network.name} is not there`)
      return Promise.resolve({
        link: { kind: 'veth', host: `veth${endpoint.id.slice(0, 8)}`, bridge: known.index, hairpin: existsSync('/proc/sys/net/bridge'), isolated: !flag(network, OPTION.icc, true) }, mtu: mtuOf(network), prefix: network.options[OPTION.prefix] || 'eth',
        ...(!network.internal && { gateway4: network.ipv4[0]?.gateway, gateway6: network.ipv6[0]?.gateway }),
      })
    },
    async publish(network, endpoint, requests) {
      using _held = await lock.hold('ports')
      const taken: PortBinding[] = []
      try {
        for (const request of requests) {
          const target = (host: string): Target => targetOf(network, endpoint, { ...request, host })
          // without processes that pass on, neither family leads to the other
          const hosts = request.hosts.filter((host) => options.userlandProxy || isIP(host) === isIP(target(host).address))
          taken.push(...await ports.take(endpoint, { ...request, hosts }, target))
        }
        firewall.publish(rulesOf(network, endpoint, taken))
        return taken
      } catch (error) {
        await ports.giveBack(endpoint.id, taken)
        throw error
      }
    },
    withdraw: giveBack,
    leave: (network, endpoint) => giveBack(network, endpoint),
    async sweep() {
      const own = new Set([...networks.values()].map(({ bridge }) => bridge))
      for (const { name, alias } of listLinks(route)) if (alias === options.alias && !own.has(name)) await remove(name)
    },
    async close() {
      for (const { bridge } of networks.values()) if (find(bridge)?.alias === options.alias) await remove(bridge).catch((error: unknown) => warn(`can't remove the bridge ${bridge}`, error))
      firewall.remove()
      for (const socket of [route, netfilter]) socket[Symbol.dispose]()
    },
  }
}
