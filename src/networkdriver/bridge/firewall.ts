import { Batch, R, connectionState, dnat, equals, ifname, immediate, lookup, masquerade, meta, payload, toThisMachine, verdict, wasForwarded, type Element, type Expression } from '../../netlink/nft.ts'
import { addressBytes } from '../../netlink/address.ts'
import { be16, u8 } from '../../netlink/message.ts'
import { codeOf } from '../../lib/errors.ts'
import { isIP } from 'node:net'
import { protocolNumbers, type Protocol } from '../driver.ts'
import type { NetlinkSocket } from '../../sys/netlink.ts'

/** A bridge as the rules see it. */
export interface Guarded {
  bridge: string
  /** Nothing passes between it and other networks. */
  internal: boolean
  /** What leaves it has the machine's address. */
  masquerade: boolean
  /** Containers on it reach each other. */
  betweenContainers: boolean
  /** The number of its tunnels, where nothing may come out of one that was not encrypted. */
  sealed?: number | undefined
}

/** A port of the machine that leads to a container. `host` is one of the machine's addresses, or 0.0.0.0 or :: for all. */
export interface Published { protocol: Protocol, host: string, port: number, to: string, toPort: number }

const IPV4 = u8(2)
const IPV6 = u8(10)

/** The rules of an engine's bridges: a table of its own. Bridges and ports are elements of sets and maps, so the rules are
 * the same however many there are. A table that somebody has flushed is made again at the next change. */
export class Firewall {
  readonly #table: string
  readonly #socket: NetlinkSocket
  readonly #networks = new Map<string, Guarded>()
  readonly #ports = new Map<string, Published>()
  readonly #targets = new Map<string, number>()
  /** Packets that are neither from nor to our bridges are dropped: forwarding was off before this engine came. */
  readonly #guard: boolean

  constructor(table: string, socket: NetlinkSocket, options: { guard: boolean }) {
    this.#table = table
    this.#socket = socket
    this.#guard = options.guard
  }

  /** Makes the table as it should be, from nothing. */
  rebuild(): void {
    // made before it is deleted, so that there is one to delete
    const batch = new Batch(this.#table).table().deleteTable().table()
    rules(batch, this.#guard)
    for (const [set, elements] of Object.entries(networkElements([...this.#networks.values()]))) batch.add(set, elements)
    const ports = [...this.#ports.values()]
    for (const family of [4, 6] as const) batch.add(`published${family}`, ports.filter(({ to }) => isIP(to) === family).map(portElement)).add(`own${family}`, ownElements(ports, family))
    this.#send('write the firewall rules', batch)
  }

  /** Takes the table away. */
  remove(): void {
    this.#send('remove the firewall rules', new Batch(this.#table).table().deleteTable())
  }

  addNetwork(network: Guarded): void {
    this.#networks.set(network.bridge, network)
    this.#change(`let packets of ${network.bridge} pass`, (batch) => {
      for (const [set, elements] of Object.entries(networkElements([network]))) batch.add(set, elements)
    })
  }

  removeNetwork(bridge: string): void {
    const network = this.#networks.get(bridge)
    if (!network) return
    this.#networks.delete(bridge)
    this.#change(`forget the bridge ${bridge}`, (batch) => {
      for (const [set, elements] of Object.entries(networkElements([network]))) batch.remove(set, elements)
    })
  }

  publish(ports: readonly Published[]): void {
    for (const port of ports) this.#ports.set(keyOf(port), port)
    this.#changePorts('publish ports', ports, 'add', ports.filter(({ to }) => this.#count(to, 1) === 1))
  }

  withdraw(ports: readonly Published[]): void {
    const known = ports.filter((port) => this.#ports.delete(keyOf(port)))
    this.#changePorts('withdraw ports', known, 'remove', known.filter(({ to }) => this.#count(to, -1) === 0))
  }

  /** How many ports lead to an address, after a change. */
  #count(address: string, change: number): number {
    const count = (this.#targets.get(address) ?? 0) + change
    if (count) this.#targets.set(address, count)
    else this.#targets.delete(address)
    return count
  }

  /** `own` are those whose address came, or went, with them. */
  #changePorts(doing: string, ports: readonly Published[], action: 'add' | 'remove', own: readonly Published[]): void {
    if (ports.length) this.#change(doing, (batch) => {
      for (const family of [4, 6] as const) batch[action](`published${family}`, ports.filter(({ to }) => isIP(to) === family).map(portElement))[action](`own${family}`, ownElements(own, family))
    })
  }

  /** Makes a change, which is in the state already; a table that has gone, or is not what it was, is made anew. */
  #change(doing: string, write: (batch: Batch) => void): void {
    const batch = new Batch(this.#table)
    write(batch)
    if (batch.empty) return
    try {
      this.#send(doing, batch)
    } catch (error) {
      if (codeOf(error) !== 'ENOENT' && codeOf(error) !== 'EEXIST') throw error
      this.rebuild()
    }
  }

  #send(doing: string, batch: Batch): void {
    this.#socket.request(doing, batch.encode())
  }
}

const keyOf = ({ protocol, host, port }: Published): string => `${protocol} ${host} ${port}`

function portElement({ protocol, host, port, to, toPort }: Published): Element {
  return { key: [u8(protocolNumbers[protocol]), addressBytes(host), be16(port)], value: [addressBytes(to), be16(toPort)] }
}

/** The addresses to which ports lead, each with itself: what a container sends to its own published port. */
function ownElements(ports: readonly Published[], family: number): Element[] {
  return [...new Set(ports.map(({ to }) => to))].filter((to) => isIP(to) === family).map((to) => ({ key: [addressBytes(to), addressBytes(to)] }))
}

/** A number of tunnels as its three bytes in a VXLAN header. */
function be24(number: number): Buffer {
  return Buffer.from([number >> 16 & 255, number >> 8 & 255, number & 255])
}

/** The elements of networks, by set. */
function networkElements(networks: readonly Guarded[]): Record<string, Element[]> {
  const bridges = (chosen: readonly Guarded[]): Element[] => chosen.map(({ bridge }) => ({ key: [ifname(bridge)] }))
  const pairs = (chosen: readonly Guarded[]): Element[] => chosen.map(({ bridge }) => ({ key: [ifname(bridge), ifname(bridge)] }))
  return {
    networks: bridges(networks), internal: bridges(networks.filter(({ internal }) => internal)), masqueraded: bridges(networks.filter((network) => network.masquerade)),
    sealed: networks.flatMap(({ sealed }) => (sealed === undefined ? [] : [{ key: [be24(sealed)] }])), same: pairs(networks), reachable: pairs(networks.filter(({ betweenContainers }) => betweenContainers)),
  }
}

/** The sets and rules, which are the same for every engine. */
function rules(batch: Batch, guard: boolean): void {
  batch.set('networks', ['ifname']).set('internal', ['ifname']).set('masqueraded', ['ifname']).set('same', ['ifname', 'ifname']).set('reachable', ['ifname', 'ifname']).set('sealed', ['integer'])
  batch.set('published4', ['protocol', 'ipv4', 'port'], ['ipv4', 'port']).set('own4', ['ipv4', 'ipv4']).set('own6', ['ipv6', 'ipv6']).set('published6', ['protocol', 'ipv6', 'port'], ['ipv6', 'port'])

  batch.chain('publish')
  // from ::1 no way leads out of the machine: what is for it comes to the port's own socket
  batch.rule('publish', meta('nfproto'), equals(IPV6), payload('network', 24, 16), equals(addressBytes('::1')), verdict('return'))
  for (const exact of [true, false]) batch.rule('publish', meta('nfproto'), equals(IPV4), ...published(4, exact))
  for (const exact of [true, false]) batch.rule('publish', meta('nfproto'), equals(IPV6), ...published(6, exact))
  batch.chain('prerouting', { type: 'nat', hook: 'prerouting', priority: -100 }).rule('prerouting', toThisMachine(), verdict('jump', 'publish'))
  batch.chain('output', { type: 'nat', hook: 'output', priority: -100 }).rule('output', toThisMachine(), verdict('jump', 'publish'))

  // bridges route 127.0.0.0/8, so that published ports are reached by localhost; no container may use that
  batch.chain('loopback', { type: 'filter', hook: 'prerouting', priority: -300 })
  batch.rule('loopback', meta('nfproto'), equals(IPV4), payload('network', 16, 1), equals(u8(127)), meta('iifname'), lookup('networks'), verdict('drop'))

  batch.chain('postrouting', { type: 'nat', hook: 'postrouting', priority: 100 })
  const bothEnds: Expression[] = [meta('iifname', R[0]), meta('oifname', R[4])]
  // an answer inside one bridge would not pass here, and its sender would not be known to who asked
  batch.rule('postrouting', wasForwarded(), ...bothEnds, lookup('same'), masquerade())
  // with br_netfilter it does pass, but what a container sends to itself would come from itself
  batch.rule('postrouting', meta('nfproto'), equals(IPV4), wasForwarded(), payload('network', 12, 4, R[0]), payload('network', 16, 4, R[1]), lookup('own4'), masquerade())
  batch.rule('postrouting', meta('nfproto'), equals(IPV6), wasForwarded(), payload('network', 8, 16, R[0]), payload('network', 24, 16, R[4]), lookup('own6'), masquerade())
  batch.rule('postrouting', ...bothEnds, lookup('same'), verdict('accept'))
  batch.rule('postrouting', meta('iifname'), lookup('masqueraded'), masquerade())
  batch.rule('postrouting', meta('nfproto'), equals(IPV4), payload('network', 12, 1), equals(u8(127)), meta('oifname'), lookup('networks'), masquerade())

  // VXLAN (RFC 7348): the number of the network is after 8 bytes of UDP and 4 of its own
  batch.chain('tunnels', { type: 'filter', hook: 'input', priority: 0 })
  batch.rule('tunnels', meta('l4proto'), equals(u8(17)), payload('transport', 2, 2), equals(be16(4789)), payload('transport', 12, 3), lookup('sealed'), meta('secpath'), equals(u8(0)), verdict('drop'))

  batch.chain('forward', { type: 'filter', hook: 'forward', priority: 0 })
  batch.rule('forward', meta('oifname'), lookup('networks'), connectionState('established', 'related'), verdict('accept'))
  batch.rule('forward', ...bothEnds, lookup('reachable'), verdict('accept'))
  batch.rule('forward', meta('iifname'), lookup('internal'), verdict('drop'))
  batch.rule('forward', meta('oifname'), lookup('internal'), verdict('drop'))
  batch.rule('forward', meta('oifname'), lookup('networks'), wasForwarded(), verdict('accept'))
  batch.rule('forward', meta('oifname'), lookup('networks'), verdict('drop'))
  batch.rule('forward', meta('iifname'), lookup('networks'), verdict('accept'))
  if (guard) batch.rule('forward', verdict('drop'))
}

/** Looks up where a packet goes by its protocol, address and port, or without `exact` for all addresses. */
function published(family: 4 | 6, exact: boolean): Expression[] {
  const length = family === 4 ? 4 : 16
  const [address, port] = [R[1]!, R[1 + length / 4]!]
  return [
    meta('l4proto', R[0]), exact ? payload('network', family === 4 ? 16 : 24, length, address) : immediate(Buffer.alloc(length), address),
    payload('transport', 2, 2, port), lookup(`published${family}`, { register: R[0]!, into: R[0]! }), dnat(family, R[0]!, R[length / 4]!),
  ]
}
