import { codeOf, invalid } from '../lib/errors.ts'
import { newForwarding, newNeighbour, newVxlan, setLink } from '../netlink/link.ts'
import { NetlinkSocket } from '../sys/netlink.ts'
import type { Zygote } from '../sys/zygote.ts'
import type { NetworkConfig, NetworkDriver } from './driver.ts'
import { TunnelEncryption } from './encryption.ts'
import { findLink, listLinks, removeLink } from './links.ts'

/** The option that has a network's number in its tunnels (Docker's name). */
export const VNI_OPTION = 'com.docker.network.driver.overlay.vxlanid_list'

/** Told from bridges, which go with their own driver. */
const aliasOf = (alias: string): string => `${alias} tunnel`

const [BRIDGE, MTU] = ['com.docker.network.bridge.name', 'com.docker.network.driver.mtu']
const OVERHEAD = 50 // of VXLAN over IPv4 (RFC 7348)
const ENCRYPTED_OVERHEAD = 90 // and of ESP with AES-GCM (RFC 4303, RFC 4106)

export interface OverlayOptions {
  zygote: Zygote
  /** Where FIFOs are meanwhile. */
  directory: string
  /** Whose links these are: kept as the links' alias. */
  alias: string
  /** The address of this host by which the others reach it. */
  address: string
  keys: TunnelKeys
}

/** What keys of encrypted tunnels are made of. */
export interface TunnelKeys {
  /** What all hosts share. */
  secret(): Uint8Array
  /** What this host has made up, and `forget` has it make up anew. */
  nonce(): string
  forget(): void
}

/** Networks of several hosts: on each a bridge, and a VXLAN tunnel between them, which knows who is where: nothing is
 * learned or flooded, and who has an address is answered on the spot. */
export function overlayDriver(bridge: NetworkDriver, { zygote, directory, address, alias, keys }: OverlayOptions): NetworkDriver {
  const route = new NetlinkSocket('route')
  const made = new Map<string, number>()
  /** Where hardware addresses are, by network. */
  const peers = new Map<string, Map<string, string>>()
  let sealing: TunnelEncryption | undefined
  const encryption = (): TunnelEncryption => (sealing ??= new TunnelEncryption({ address, nonce: keys.nonce() }, keys.secret()))
  const tunnelOf = ({ id }: NetworkConfig): string => `vx-${id.slice(0, 12)}`
  const bridgeOf = ({ id }: NetworkConfig): string => `ov-${id.slice(0, 12)}`
  const encrypted = ({ options }: NetworkConfig): boolean => options['encrypted'] !== undefined && options['encrypted'] !== 'false'
  const inner = (network: NetworkConfig): NetworkConfig => ({
    ...network, options: { [MTU]: String(1500 - (encrypted(network) ? ENCRYPTED_OVERHEAD : OVERHEAD)), ...network.options, [BRIDGE]: bridgeOf(network) },
    ...(encrypted(network) && { sealed: Number(network.options[VNI_OPTION]) }),
  })

  return {
    name: 'overlay',
    scope: 'global',
    check(network) {
      if (encrypted(network)) TunnelEncryption.check()
      if (network.options[VNI_OPTION] !== undefined && !/^\d+$/.test(network.options[VNI_OPTION])) throw invalid(`invalid ${VNI_OPTION}: ${network.options[VNI_OPTION]}`)
      bridge.check(inner(network))
    },
    async create(network) {
      if (made.has(network.id)) return
      await bridge.create(inner(network))
      const name = tunnelOf(network)
      if (!findLink(route, name)) route.request(`make the tunnel ${name}`, newVxlan({ name, id: Number(network.options[VNI_OPTION]), local: address, mtu: Number(inner(network).options[MTU]) }))
      const master = findLink(route, bridgeOf(network))!.index
      const { index } = findLink(route, name)!
      route.request(`raise ${name}`, setLink({ index, master, up: true, alias: aliasOf(alias) }))
      made.set(network.id, index)
    },
    async remove(network) {
      made.delete(network.id)
      for (const host of new Set(peers.get(network.id)?.values())) sealing?.unseal(host, network.id)
      peers.delete(network.id)
      if (findLink(route, tunnelOf(network))) await removeLink(zygote, directory, tunnelOf(network))
      await bridge.remove(inner(network))
    },
    join: (network, endpoint) => bridge.join(inner(network), endpoint),
    publish: (network, endpoint, requests) => bridge.publish!(inner(network), endpoint, requests),
    withdraw: (network, endpoint, bindings) => bridge.withdraw!(inner(network), endpoint, bindings),
    leave: (network, endpoint) => bridge.leave(inner(network), endpoint),
    peer(network, { address: host, nonce, mac, addresses }, there) {
      const index = made.get(network.id)
      if (index === undefined) return
      // before anything is sent there, and after
      if (encrypted(network) && there) encryption().seal({ address: host, nonce }, network.id)
      const send = (doing: string, request: Buffer): void => {
        try {
          route.request(doing, request)
        } catch (error) {
          if (there || codeOf(error) !== 'ENOENT') throw error // what is to go may be gone
        }
      }
      send(`${there ? 'learn' : 'forget'} where ${mac} is`, newForwarding({ index, mac, host, remove: !there }))
      for (const own of addresses) send(`${there ? 'learn' : 'forget'} who has ${own}`, newNeighbour({ index, mac, address: own, remove: !there }))
      const places = peers.get(network.id) ?? new Map<string, string>()
      peers.set(network.id, places)
      if (there) places.set(mac, host)
      else places.delete(mac)
      if (encrypted(network) && !there && ![...places.values()].includes(host)) encryption().unseal(host, network.id)
    },
    async sweep() {
      const own = new Set([...made.values()])
      for (const link of listLinks(route)) if (link.alias === aliasOf(alias) && !own.has(link.index)) await removeLink(zygote, directory, link.name)
    },
    async close() {
      for (const id of made.keys()) {
        const name = `vx-${id.slice(0, 12)}`
        if (findLink(route, name)) await removeLink(zygote, directory, name)
      }
      if (sealing) {
        sealing[Symbol.dispose]()
        keys.forget()
      }
      route[Symbol.dispose]()
    },
  }
}
