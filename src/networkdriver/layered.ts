import { codeOf, conflict, forbidden, invalid, unsupported } from '../lib/errors.ts'
import { newLayered, newVlan, setLink, type LayerKind, type Link } from '../netlink/link.ts'
import { NetlinkSocket } from '../sys/netlink.ts'
import type { Zygote } from '../sys/zygote.ts'
import type { NetworkConfig, NetworkDriver } from './driver.ts'
import { findLink, removeLink } from './links.ts'

const MTU = 'com.docker.network.driver.mtu'

/** Modes by name: linux/if_link.h, enum macvlan_mode, and IPVLAN_MODE_*. */
const modes: Record<LayerKind, Record<string, number>> = { macvlan: { private: 1, vepa: 2, bridge: 4, passthru: 8 }, ipvlan: { l2: 0, l3: 1, l3s: 2 } }

export interface LayeredOptions {
  zygote: Zygote
  /** Where FIFOs are meanwhile. */
  directory: string
  /** Whose links these are: kept as the links' alias. */
  alias: string
}

/** Networks whose endpoints are links on top of one of the host's: macvlan, where each has a hardware address, and ipvlan,
 * where they share the parent's. Neither reaches the host itself, and nothing of them passes its rules. */
export function layeredDriver(kind: LayerKind, { zygote, directory, alias }: LayeredOptions): NetworkDriver {
  const route = new NetlinkSocket('route')
  const networks = new Map<string, NetworkConfig>()
  const optionOf = ({ options }: NetworkConfig, name: string): string | undefined => options[name] ?? options[`${kind}_${name}`]
  const parentOf = (network: NetworkConfig): string => {
    const parent = optionOf(network, 'parent')
    if (!parent) throw unsupported(`${kind} network ${network.name} needs a link of the host: -o parent=LINK`)
    if (!/^[^\s/:]{1,15}$/.test(parent)) throw invalid(`invalid parent link ${JSON.stringify(parent)}`)
    return parent
  }
  const modeOf = (network: NetworkConfig): number => {
    const name = optionOf(network, 'mode') || (kind === 'macvlan' ? 'bridge' : 'l2')
    const mode = modes[kind][name]
    if (mode === undefined) throw invalid(`requested ${kind} mode '${name}' is not valid, '${kind === 'macvlan' ? 'bridge' : 'l2'}' mode is the ${kind} driver default`)
    return mode
  }
  const mtuOf = ({ options }: NetworkConfig): number => {
    const text = options[MTU] ?? '0'
    if (!/^\d+$/.test(text)) throw invalid(`failed to parse ${MTU} value: ${JSON.stringify(text)}`)
    return Number(text)
  }
  const find = (link: string): Link | undefined => findLink(route, link)
  const indexOf = (link: string): number => {
    const found = find(link)
    if (!found) throw conflict(`failed to find the parent link ${link}`)
    return found.index
  }
  const remove = (link: string): Promise<void> => removeLink(zygote, directory, link)

  const make = (what: string, request: Buffer): void => {
    try {
      route.request(`make a link of type ${what}`, request)
    } catch (error) {
      if (codeOf(error) === 'EOPNOTSUPP') throw unsupported(`this kernel has no ${what} links`, error)
      throw error
    }
  }

  /** The kernel may have no such links at all, which only shows when one is made. */
  const probe = async (parent: string): Promise<void> => {
    const name = `berth${process.pid}`.slice(0, 15)
    make(kind, newLayered({ kind, name, parent: indexOf(parent), mode: kind === 'macvlan' ? 4 : 0 }))
    await remove(name)
  }

  return {
    name: kind,
    scope: 'local',
    check(network) {
      mtuOf(network)
      const [parent, mode] = [parentOf(network), modeOf(network)]
      const other = [...networks.values()].find((one) => one.id !== network.id && parentOf(one) === parent)
      if (other) throw forbidden(`network ${other.name} is already using parent interface ${parent}`)
      if (kind === 'macvlan' && mode === modes.macvlan['passthru'] && network.internal) throw invalid('a passthru network can not be internal')
    },
    async create(network) {
      const parent = parentOf(network)
      if (!find(parent)) {
        const [, below = '', tag = ''] = /^(.+)\.(\d+)$/.exec(parent) ?? []
        if (!find(below) || Number(tag) < 1 || Number(tag) > 4094) throw conflict(`failed to find the parent link ${parent} of network ${network.name}`)
        make('vlan', newVlan({ name: parent, parent: indexOf(below), tag: Number(tag) }))
        route.request(`raise ${parent}`, setLink({ index: indexOf(parent), up: true, alias }))
      }
      if (!networks.has(network.id)) await probe(parent)
      networks.set(network.id, network)
    },
    async remove(network) {
      networks.delete(network.id)
      const parent = parentOf(network)
      if (find(parent)?.alias === alias) await remove(parent)
    },
    join: (network) => Promise.resolve({
      link: { kind, parent: indexOf(parentOf(network)), mode: modeOf(network) }, mtu: mtuOf(network), prefix: 'eth',
      ...(!network.internal && { gateway4: network.ipv4[0]?.gateway, gateway6: network.ipv6[0]?.gateway }),
    }),
    leave: () => Promise.resolve(),
    async close() {
      for (const network of networks.values()) await this.remove(network)
      route[Symbol.dispose]()
    },
  }
}
