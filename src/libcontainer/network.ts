import { addressBytes } from '../netlink/address.ts'
import { LATER, PID_LATER, moveLink, newAddress, newLayered, newRoute, newVeth, placeOf, setBridgePort, setLink, type LayerKind } from '../netlink/link.ts'
import { Batch, NFPROTO, dnat, equals, immediate, meta, payload, R, verdict } from '../netlink/nft.ts'
import { be16, u8 } from '../netlink/message.ts'
import { deleteQdisc, newQdisc, type Impairment } from '../netlink/qdisc.ts'
import { AT_FDCWD, O_CLOEXEC } from '../sys/fs.ts'
import { errno } from '../sys/errno.ts'
import { protocols } from '../sys/netlink.ts'
import { CLONE } from '../sys/process.ts'
import { CHILD_PID, type Operand, type Program, type Register, type Stage } from '../sys/program.ts'

/** An interface of a container's network namespace. */
export interface Interface {
  /** Its name in the container: `eth` and a number. */
  name: string
  /** What it is: one end of a pair, whose other end has a name on the host and belongs to a bridge, by index; a link on top
   * of one of the host's; or a link of the host's that leaves it. */
  link:
    | { kind: 'veth', host: string, bridge: number, hairpin?: boolean, isolated?: boolean }
    | { kind: LayerKind, parent: number, mode: number }
    | { kind: 'moved', from: string }
  mac: string
  /** 0 leaves the kernel's. */
  mtu: number
  /** With prefix: `10.1.0.2/16`. */
  addresses: readonly string[]
  /** To a network straight by this link, or by a gateway; without `to` the default. */
  routes: readonly { to?: string, gateway?: string }[]
  impairment?: Impairment | undefined
}

/** What a container's network namespace gets when it begins. */
export interface NetworkPlan {
  interfaces: readonly Interface[]
  /** A name server's sockets, at 127.0.0.11, which the monitor holds as RESOLVER_UDP_FD and RESOLVER_TCP_FD. */
  resolver: boolean
}

/** The address at which a container asks for names; what it sends to port 53 comes to RESOLVER_PORT, so that a name server
 * of the container's own can have port 53 of all its addresses. */
export const RESOLVER_ADDRESS = '127.0.0.11'
const RESOLVER_PORT = 61_053 // above the ephemeral ones (ip(7), ip_local_port_range)
/** The descriptors in the monitor that hold the name server's sockets. */
export const RESOLVER_UDP_FD = 101
export const RESOLVER_TCP_FD = 102

const [AF_INET, SOCK_STREAM, SOCK_DGRAM, AF_NETLINK, SOCK_RAW] = [2, 1, 2, 16, 3]

/** Netlink requests as steps of a program, each of which waits for its acknowledgement. */
export class Requests {
  readonly #program: Program
  readonly #stage: Stage
  readonly #socket: Register

  constructor(program: Program, stage: Stage, protocol: keyof typeof protocols = 'route') {
    this.#program = program
    this.#stage = stage
    this.#socket = program.register()
    program.sys(stage, 'socket', [AF_NETLINK, SOCK_RAW | O_CLOEXEC, protocols[protocol]], { out: this.#socket, doing: 'open a netlink socket' })
  }

  /** Sends a request, with values in the places of LATER and PID_LATER. */
  send(doing: string, bytes: Buffer, { later, pid, tolerate }: { later?: Operand, pid?: Operand, tolerate?: readonly number[] } = {}): void {
    const p = this.#program
    const request = p.bytes(bytes)
    const answer = p.space(1024)
    for (const [mark, value] of [[LATER, later], [PID_LATER, pid]] as const) if (value !== undefined) p.poke(this.#stage, { ...request, offset: request.offset + placeOf(bytes, mark) }, value)
    p.sys(this.#stage, 'sendto', [this.#socket, request, bytes.length, 0], { doing })
    p.sys(this.#stage, 'recvfrom', [this.#socket, answer, 1024, 0], { doing })
    p.check(this.#stage, { ...answer, offset: answer.offset + 16 }, { doing, ...(tolerate && { tolerate }) })
  }

  /** Finds out the index of an interface in this namespace (netdevice(7), SIOCGIFINDEX). */
  indexOf(name: string): Operand {
    const request = Buffer.alloc(40) // struct ifreq
    request.write(name)
    const at = this.#program.bytes(request)
    this.#program.sys(this.#stage, 'ioctl', [this.#socket, 0x8933, at], { doing: `look for the interface ${name}` })
    return { kind: 'word', at: { ...at, offset: at.offset + 16 } }
  }

  close(): void {
    this.#program.sys(this.#stage, 'close', [this.#socket])
  }
}

/** The steps that give a network namespace its interfaces. They begin in the host's namespace, and leave their process in
 * the other: that of the process `pid`, of which `pidfd` is a descriptor. */
export function addInterfaces(p: Program, stage: Stage, target: { pid: Operand, pidfd: Operand }, plan: NetworkPlan): void {
  const outside = new Requests(p, stage)
  for (const { name, link, mac, mtu, impairment } of plan.interfaces) {
    if (link.kind === 'moved') {
      outside.send(`move the link ${link.from}`, moveLink({ index: LATER, name, pid: PID_LATER }), { later: outside.indexOf(link.from), pid: target.pid })
      continue
    }
    if (link.kind !== 'veth') {
      outside.send(`make the interface ${name}`, newLayered({ name, mtu, ...link, ...(link.kind === 'macvlan' && { mac }) }, PID_LATER), { pid: target.pid })
      continue
    }
    outside.send(`make the interface ${name}`, newVeth({ name: link.host, master: link.bridge, mtu, up: true }, { name, mac, mtu }, PID_LATER), { pid: target.pid })
    const { hairpin = false, isolated = false } = link
    if (hairpin || isolated) outside.send(`set up the bridge port of ${name}`, setBridgePort({ index: LATER, hairpin, isolated }), { later: outside.indexOf(link.host) })
    if (impairment) outside.send(`impair ${name}`, newQdisc(LATER, impairment), { later: outside.indexOf(link.host) })
  }
  outside.close()
  p.sys(stage, 'setns', [target.pidfd, CLONE.network], { doing: 'enter the network namespace' })
  const inside = new Requests(p, stage)
  inside.send('raise lo', setLink({ index: 1, up: true }))
  for (const { name, addresses, routes, impairment } of plan.interfaces) {
    const index = inside.indexOf(name)
    if (!addresses.some((address) => address.includes(':'))) disableIPv6(p, stage, name)
    for (const address of addresses) inside.send(`give ${name} the address ${address}`, newAddress(LATER, address), { later: index })
    if (impairment) inside.send(`impair ${name}`, newQdisc(LATER, impairment), { later: index })
    inside.send(`raise ${name}`, setLink({ index: LATER, up: true }), { later: index })
    for (const { to, gateway } of routes) inside.send(`set the route to ${to ?? 'other networks'} by ${gateway ?? name}`, newRoute({ to, gateway, index: LATER }), { later: index })
  }
  inside.close()
  if (plan.resolver) openResolver(p, stage)
}

/** The steps that change what is done to an interface's packets, in both directions where it has an end on the host. They
 * begin in the host's namespace, and leave their process in the other, of which `pidfd` is a process. */
export function impairInterface(p: Program, stage: Stage, pidfd: Operand, { name, link }: Pick<Interface, 'name' | 'link'>, impairment: Impairment | undefined): void {
  const request = impairment ? newQdisc(LATER, impairment) : deleteQdisc(LATER)
  const doing = `impair ${name}`
  if (link.kind === 'veth') {
    const outside = new Requests(p, stage)
    outside.send(doing, request, { later: outside.indexOf(link.host) })
  }
  p.sys(stage, 'setns', [pidfd, CLONE.network], { doing: 'enter the network namespace' })
  const inside = new Requests(p, stage)
  inside.send(doing, request, { later: inside.indexOf(name) })
}

/** An interface without addresses of IPv6 has no link-local one either. */
function disableIPv6(p: Program, stage: Stage, name: string): void {
  const fd = p.register()
  const doing = `turn off IPv6 of ${name}`
  p.sys(stage, 'openat', [AT_FDCWD, `/proc/sys/net/ipv6/conf/${name}/disable_ipv6`, 1 | O_CLOEXEC], { out: fd, doing, tolerate: [errno.ENOENT], skip: 2 })
  p.sys(stage, 'write', [fd, '1', 1], { doing })
  p.sys(stage, 'close', [fd])
}

function openResolver(p: Program, stage: Stage): void {
  const doing = 'open the name server'
  const address = resolverSocketAddress()
  const fd = p.register()
  for (const [type, number] of [[SOCK_DGRAM, RESOLVER_UDP_FD], [SOCK_STREAM, RESOLVER_TCP_FD]] as const) {
    p.sys(stage, 'socket', [AF_INET, type | O_CLOEXEC, 0], { out: fd, doing })
    p.sys(stage, 'bind', [fd, address, address.length], { doing })
    if (type === SOCK_STREAM) p.sys(stage, 'listen', [fd, 128], { doing })
    p.sys(stage, 'dup3', [fd, number, O_CLOEXEC], { doing })
    p.sys(stage, 'close', [fd])
  }
  const rules = new Requests(p, stage, 'netfilter')
  rules.send('send queries to the name server', resolverRules())
  rules.close()
}

/** Where the name server listens, as struct sockaddr_in. */
export function resolverSocketAddress(): Buffer {
  const address = Buffer.alloc(16)
  address.writeUInt16LE(AF_INET, 0)
  address.writeUInt16BE(RESOLVER_PORT, 2)
  addressBytes(RESOLVER_ADDRESS).copy(address, 4)
  return address
}

let rulesOfResolver: Buffer | undefined

/** Sends what is for port 53 of the resolver's address to the port where it listens: a batch for a network namespace,
 * which may have had it before. */
export function resolverRules(): Buffer {
  if (rulesOfResolver) return rulesOfResolver
  const batch = new Batch('berth', NFPROTO.IPV4).table().deleteTable().table().chain('output', { type: 'nat', hook: 'output', priority: -100 })
  for (const protocol of [6, 17]) {
    batch.rule('output', payload('network', 16, 4), equals(addressBytes(RESOLVER_ADDRESS)), meta('l4proto'), equals(u8(protocol)), payload('transport', 2, 2), equals(be16(53)),
      immediate(addressBytes(RESOLVER_ADDRESS), R[0]), immediate(be16(RESOLVER_PORT), R[1]), dnat(4, R[0]!, R[1]!), verdict('accept'))
  }
  return (rulesOfResolver = batch.encode())
}

/** Has a container's process wait, in the stage `child`, until its monitor has made its interfaces. Returns the step of
 * waiting. */
export function giveNetwork(p: Program, pidfd: Operand, plan: NetworkPlan): () => void {
  const pipe = p.pipe()
  addInterfaces(p, 'post', { pid: CHILD_PID, pidfd }, plan)
  p.sys('post', 'write', [pipe.write, 'x', 1], { doing: 'tell that the network is there' })
  for (const end of [pipe.read, pipe.write]) p.sys('post', 'close', [end])
  return () => p.sys('child', 'read', [pipe.read, p.space(8), 1], { doing: 'wait for the network' })
}
