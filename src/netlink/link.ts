import { isIP } from 'node:net'
import { addressBytes, bitsOf, macBytes, parseSubnet, withoutPrefix, type Family } from './address.ts'
import { NLM_F, be16, encodeAttributes, encodeMessage, parseAttributes, textOf, u16, u8, type Attributes } from './message.ts'

/** rtnetlink(7): links, addresses, routes, neighbours. Each function packs one request. */

const RTM = { NEWLINK: 16, DELLINK: 17, GETLINK: 18, SETLINK: 19, NEWADDR: 20, NEWROUTE: 24, NEWNEIGH: 28, DELNEIGH: 29 } as const
const IFLA = { ADDRESS: 1, IFNAME: 3, MTU: 4, LINK: 5, MASTER: 10, LINKINFO: 18, NET_NS_PID: 19, IFALIAS: 20 } as const
const [IFLA_INFO_KIND, IFLA_INFO_DATA, VETH_INFO_PEER] = [1, 2, 1]
const IFF_UP = 1
const [AF_INET, AF_INET6] = [2, 10]
const CHANGE = NLM_F.REQUEST | NLM_F.ACK
const CREATE = CHANGE | NLM_F.CREATE | NLM_F.EXCL

/** struct ifinfomsg. */
function linkHeader({ index = 0, up = false, addressFamily = 0 }: { index?: number, up?: boolean, addressFamily?: number } = {}): Buffer {
  const header = Buffer.alloc(16)
  header[0] = addressFamily
  header.writeInt32LE(index, 4)
  if (up) {
    header.writeUInt32LE(IFF_UP, 8)
    header.writeUInt32LE(IFF_UP, 12)
  }
  return header
}

export interface LinkOptions {
  name?: string
  index?: number
  mac?: string | undefined
  mtu?: number | undefined
  /** The index of the bridge that it belongs to; 0 takes it out of one. */
  master?: number
  up?: boolean
  /** A text of its maker's; only for a link that is there. */
  alias?: string
}

function linkAttributes({ name, mac, mtu, master, alias }: LinkOptions): Attributes {
  return [[IFLA.IFNAME, name], [IFLA.ADDRESS, mac === undefined ? undefined : macBytes(mac)], [IFLA.MTU, mtu || undefined], [IFLA.MASTER, master], [IFLA.IFALIAS, alias]]
}

/** Stand in a message for what is known only when it is sent: an interface's index, and a process's id. */
export const LATER = 0x7e57ab1e
export const PID_LATER = 0x7e57ab1f

/** Where in a message one of them stands. */
export function placeOf(message: Buffer, mark: number): number {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32LE(mark)
  return message.indexOf(bytes)
}

/** A pair of links (veth(4)): one here, the other in the network namespace of a process. */
export function newVeth(here: LinkOptions, there: LinkOptions, pid: number): Buffer {
  const peer = Buffer.concat([linkHeader(), encodeAttributes([...linkAttributes(there), [IFLA.NET_NS_PID, pid]])])
  return encodeMessage(RTM.NEWLINK, CREATE, linkHeader({ up: here.up ?? false }), [
    ...linkAttributes(here), [IFLA.LINKINFO, [[IFLA_INFO_KIND, 'veth'], [IFLA_INFO_DATA, [[VETH_INFO_PEER, peer]]]]],
  ])
}

/** Links on top of others. */
export type LayerKind = 'macvlan' | 'ipvlan'

/** A link on top of another, by index; with `pid` in the network namespace of that process. `mode` is that of
 * linux/if_link.h. */
export function newLayered(options: LinkOptions & { kind: LayerKind, parent: number, mode: number }, pid?: number): Buffer {
  const { kind, parent, mode } = options
  return encodeMessage(RTM.NEWLINK, CREATE, linkHeader(), [
    ...linkAttributes(options), [IFLA.LINK, parent], [IFLA.NET_NS_PID, pid],
    [IFLA.LINKINFO, [[IFLA_INFO_KIND, kind], [IFLA_INFO_DATA, [[1, kind === 'macvlan' ? mode : u16(mode)]]]]], // IFLA_MACVLAN_MODE, IFLA_IPVLAN_MODE
  ])
}

/** A VLAN of a link, by its tag (IEEE 802.1Q). */
export function newVlan({ name, parent, tag }: { name: string, parent: number, tag: number }): Buffer {
  return encodeMessage(RTM.NEWLINK, CREATE, linkHeader(), [[IFLA.IFNAME, name], [IFLA.LINK, parent], [IFLA.LINKINFO, [[IFLA_INFO_KIND, 'vlan'], [IFLA_INFO_DATA, [[1, u16(tag)]]]]]])
}

/** A VXLAN tunnel (RFC 7348) from an address of this host, which learns nothing, and answers who has an address that it
 * was told of. */
export function newVxlan({ name, id, local, mtu }: { name: string, id: number, local: string, mtu: number }): Buffer {
  const bytes = addressBytes(local)
  return encodeMessage(RTM.NEWLINK, CREATE, linkHeader(), [[IFLA.IFNAME, name], [IFLA.MTU, mtu], [IFLA.LINKINFO, [[IFLA_INFO_KIND, 'vxlan'], [IFLA_INFO_DATA, [
    [1, id], [bytes.length === 4 ? 4 : 17, bytes], [7, u8(0)], [11, u8(1)], [15, be16(4789)], // IFLA_VXLAN_ID, LOCAL, LEARNING, PROXY, PORT
  ]]]]])
}

/** struct ndmsg. */
function neighbourHeader(addressFamily: number, index: number, state: number, flags: number): Buffer {
  const header = Buffer.alloc(12)
  header[0] = addressFamily
  header.writeInt32LE(index, 4)
  header.writeUInt16LE(state, 8)
  header[10] = flags
  return header
}

const [NUD_NOARP, NUD_PERMANENT, NTF_SELF, NDA_DST, NDA_LLADDR] = [0x40, 0x80, 2, 1, 2]
const KEEP = CHANGE | NLM_F.CREATE | NLM_F.REPLACE

/** Frames for a hardware address go through a tunnel to a host, or no longer. */
export function newForwarding({ index, mac, host, remove }: { index: number, mac: string, host: string, remove: boolean }): Buffer {
  const AF_BRIDGE = 7
  return encodeMessage(remove ? RTM.DELNEIGH : RTM.NEWNEIGH, remove ? CHANGE : KEEP, neighbourHeader(AF_BRIDGE, index, NUD_NOARP | NUD_PERMANENT, NTF_SELF), [[NDA_LLADDR, macBytes(mac)], [NDA_DST, addressBytes(host)]])
}

/** The hardware address of a neighbour, for good, or no longer. */
export function newNeighbour({ index, mac, address, remove }: { index: number, mac: string, address: string, remove: boolean }): Buffer {
  return encodeMessage(remove ? RTM.DELNEIGH : RTM.NEWNEIGH, remove ? CHANGE : KEEP, neighbourHeader(isIP(address) === 6 ? AF_INET6 : AF_INET, index, NUD_PERMANENT, 0), [[NDA_DST, addressBytes(address)], [NDA_LLADDR, macBytes(mac)]])
}

/** A bridge. */
export function newBridge(options: LinkOptions): Buffer {
  return encodeMessage(RTM.NEWLINK, CREATE, linkHeader({ up: options.up ?? false }), [...linkAttributes(options), [IFLA.LINKINFO, [[IFLA_INFO_KIND, 'bridge']]]])
}

/** Changes a link, which is found by its index or, without one, by its name. */
export function setLink(options: LinkOptions): Buffer {
  const { index } = options
  const header = linkHeader({ ...(index !== undefined && { index }), up: options.up ?? false })
  return encodeMessage(RTM.NEWLINK, CHANGE, header, linkAttributes(options))
}

/** Moves a link into the network namespace of a process, under another name. */
export function moveLink({ index, name, pid }: { index: number, name: string, pid: number }): Buffer {
  return encodeMessage(RTM.NEWLINK, CHANGE, linkHeader({ index }), [[IFLA.IFNAME, name], [IFLA.NET_NS_PID, pid]])
}

/** Changes how a bridge treats one of its links: frames may go back to where they came from, or reach no other such port. */
export function setBridgePort({ index, hairpin, isolated }: { index: number, hairpin: boolean, isolated: boolean }): Buffer {
  const [AF_BRIDGE, IFLA_PROTINFO, IFLA_BRPORT_MODE, IFLA_BRPORT_ISOLATED] = [7, 12, 4, 33]
  return encodeMessage(RTM.SETLINK, CHANGE, linkHeader({ index, addressFamily: AF_BRIDGE }), [[IFLA_PROTINFO, [[IFLA_BRPORT_MODE, u8(hairpin ? 1 : 0)], [IFLA_BRPORT_ISOLATED, u8(isolated ? 1 : 0)]]]])
}

/** Takes a link away. It waits for all processors (some 20 ms): not on the event loop. */
export function deleteLink(name: string): Buffer {
  return encodeMessage(RTM.DELLINK, CHANGE, linkHeader(), [[IFLA.IFNAME, name]])
}

/** Asks for the link of a name. */
export function getLink(name: string): Buffer {
  return encodeMessage(RTM.GETLINK, NLM_F.REQUEST, linkHeader(), [[IFLA.IFNAME, name]])
}

/** Asks for all links. */
export function getLinks(): Buffer {
  return encodeMessage(RTM.GETLINK, NLM_F.REQUEST | NLM_F.DUMP, linkHeader())
}

export interface Link { index: number, name: string, alias: string | undefined }

/** The link of an RTM_NEWLINK message's body. */
export function parseLink(body: Buffer): Link {
  const attributes = parseAttributes(body, 16)
  return { index: body.readInt32LE(4), name: textOf(attributes.get(IFLA.IFNAME)) ?? '', alias: textOf(attributes.get(IFLA.IFALIAS)) }
}

/** Gives a link an address, `10.1.0.2/16`; an IPv6 one is used at once, without looking for doubles. */
export function newAddress(index: number, cidr: string): Buffer {
  const [address = '', prefix = ''] = cidr.split('/')
  const { family: kind, base } = parseSubnet(cidr)
  const header = Buffer.from([kind === 6 ? AF_INET6 : AF_INET, Number(prefix), kind === 6 ? IFA_F_NODAD : 0, 0, 0, 0, 0, 0]) // struct ifaddrmsg
  header.writeUInt32LE(index, 4)
  const bytes = addressBytes(address)
  const broadcast = kind === 4 && Number(prefix) < 31 ? broadcastOf(base, Number(prefix), kind) : undefined
  return encodeMessage(RTM.NEWADDR, CHANGE | NLM_F.CREATE | NLM_F.REPLACE, header, [[IFA.LOCAL, bytes], [IFA.ADDRESS, bytes], [IFA.BROADCAST, broadcast]])
}

const IFA = { ADDRESS: 1, LOCAL: 2, BROADCAST: 4 } as const
const IFA_F_NODAD = 2

function broadcastOf(base: bigint, prefix: number, kind: Family): Buffer {
  const buffer = Buffer.alloc(4)
  buffer.writeUInt32BE(Number(base | (1n << BigInt(bitsOf(kind) - prefix)) - 1n))
  return buffer
}

/** A route: to a network, or without `to` the default, by a gateway or straight to the link. */
export interface RouteOptions { to?: string | undefined, gateway?: string | undefined, index: number }

export function newRoute({ to, gateway, index }: RouteOptions): Buffer {
  const target = to === undefined ? undefined : parseSubnet(to)
  const kind = target?.family ?? (gateway ? (isIP(gateway) as Family) : 4)
  const header = Buffer.alloc(12) // struct rtmsg
  header[0] = kind === 6 ? AF_INET6 : AF_INET
  header[1] = target?.prefix ?? 0
  header[4] = 254 // RT_TABLE_MAIN
  header[5] = 3 // RTPROT_BOOT
  header[6] = gateway ? 0 : 253 // RT_SCOPE_UNIVERSE, RT_SCOPE_LINK
  header[7] = 1 // RTN_UNICAST
  return encodeMessage(RTM.NEWROUTE, CHANGE | NLM_F.CREATE | NLM_F.REPLACE, header, [
    [1, target && addressBytes(withoutPrefix(to!))], [5, gateway === undefined ? undefined : addressBytes(gateway)], [4, index], // RTA_DST, RTA_GATEWAY, RTA_OIF
  ])
}
