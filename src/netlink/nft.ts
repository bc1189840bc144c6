import { NLM_F, be16, be32, encodeAttributes, encodeMessage, u32, type Attribute, type Attributes } from './message.ts'

/** nf_tables (linux/netfilter/nf_tables.h): tables, chains, sets, rules and elements, packed into batches, each of which
 * the kernel does as a whole or not at all. */

const SUBSYSTEM = 10
const [BATCH_BEGIN, BATCH_END] = [16, 17]
const MSG = { NEWTABLE: 0, DELTABLE: 2, NEWCHAIN: 3, NEWRULE: 6, NEWSET: 9, NEWSETELEM: 12, DELSETELEM: 14 } as const
export const NFPROTO = { INET: 1, IPV4: 2, IPV6: 10 } as const
const LIST_ELEM = 1

/** Registers of 32 bits: values are looked up together that stand in a row. */
export const R = Array.from({ length: 16 }, (_, i) => 8 + i) as readonly number[]

/** One expression of a rule. */
export type Expression = readonly [name: string, attributes: Attributes]

const META = { iifname: 6, oifname: 7, nfproto: 15, l4proto: 16, secpath: 25 } as const
const VERDICT = { drop: 0, accept: 1, return: -5, jump: -3 } as const

/** An interface's name as the kernel compares it. */
export function ifname(name: string): Buffer {
  const buffer = Buffer.alloc(16)
  buffer.write(name)
  return buffer
}

/** Loads a property of the packet. */
export const meta = (key: keyof typeof META, register = R[0]!): Expression => ['meta', [[1, be32(register)], [2, be32(META[key])]]]
/** Loads bytes of the packet's network or transport header. */
export const payload = (base: 'network' | 'transport', offset: number, length: number, register = R[0]!): Expression => ['payload', [[1, be32(register)], [2, be32(base === 'network' ? 1 : 2)], [3, be32(offset)], [4, be32(length)]]]
/** Goes on where a register has these bytes. */
export const equals = (bytes: Uint8Array, register = R[0]!): Expression => ['cmp', [[1, be32(register)], [2, be32(0)], [3, [[1, bytes]]]]]
const differs = (bytes: Uint8Array, register = R[0]!): Expression => ['cmp', [[1, be32(register)], [2, be32(1)], [3, [[1, bytes]]]]]
/** Loads bytes. */
export const immediate = (bytes: Uint8Array, register = R[0]!): Expression => ['immediate', [[1, be32(register)], [2, [[1, bytes]]]]]
/** Goes on where what begins at a register is in a set, or a key of a map, whose value it loads there. */
export const lookup = (set: string, { register = R[0]!, into }: { register?: number, into?: number } = {}): Expression => ['lookup', [[1, set], [2, be32(register)], [3, into === undefined ? undefined : be32(into)]]]
/** Goes on where a register has any of the bits. */
const anyOf = (bits: number, register = R[0]!): Expression[] => [['bitwise', [[1, be32(register)], [2, be32(register)], [3, be32(4)], [4, [[1, u32(bits)]]], [5, [[1, u32(0)]]]]], differs(u32(0), register)]
/** Goes on where the connection is in one of the states. */
export const connectionState = (...states: ('established' | 'related')[]): Expression[] => [['ct', [[1, be32(R[0]!)], [2, be32(0)]]], ...anyOf(states.reduce((bits, state) => bits | (state === 'established' ? 2 : 4), 0))]
/** Goes on where the connection's destination was translated. */
export const wasForwarded = (): Expression[] => [['ct', [[1, be32(R[0]!)], [2, be32(2)]]], ...anyOf(1 << 5)]
/** Goes on where the destination is an address of this machine. */
export const toThisMachine = (): Expression[] => [['fib', [[1, be32(R[0]!)], [2, be32(3)], [3, be32(2)]]], equals(u32(2))]
export const verdict = (code: keyof typeof VERDICT, chain?: string): Expression => ['immediate', [[1, be32(0)], [2, [[2, [[1, be32(VERDICT[code])], [2, chain]]]]]]]
/** Sends the packet, and what follows it, to the address and port in two registers. */
export const dnat = (family: 4 | 6, address: number, port: number): Expression => ['nat', [[1, be32(1)], [2, be32(family === 4 ? NFPROTO.IPV4 : NFPROTO.IPV6)], [3, be32(address)], [5, be32(port)]]]
/** Gives the packet the address of the link that it leaves by. */
export const masquerade = (): Expression => ['masq', []]

/** What an element of a set is made of; `length` is in bytes, as padded to a register's four. The numbers are those by
 * which nft(8) shows it. */
export const types = {
  ipv4: { id: 7, length: 4 }, ipv6: { id: 8, length: 16 }, protocol: { id: 12, length: 4 }, port: { id: 13, length: 4 }, ifname: { id: 41, length: 16 }, integer: { id: 4, length: 4 },
} as const
export type Type = keyof typeof types

/** What nft(8) wants to know to show a set whose keys are not in network order. */
const HOST_ORDER = Buffer.from([0, 4, 1, 0, 0, 0])

const typeOf = (parts: readonly Type[]): number => parts.reduce((id, part) => id << 6 | types[part].id, 0)
const lengthOf = (parts: readonly Type[]): number => parts.reduce((length, part) => length + types[part].length, 0)

const HOOKS = { prerouting: 0, input: 1, forward: 2, output: 3, postrouting: 4 } as const

export interface ChainOptions { type: 'filter' | 'nat', hook: keyof typeof HOOKS, priority: number }

/** An element: its key's parts, and in a map its value's. */
export interface Element { key: readonly Uint8Array[], value?: readonly Uint8Array[] }

const padded = (parts: readonly Uint8Array[]): Buffer => Buffer.concat(parts.map((part) => Buffer.concat([part, Buffer.alloc(-part.length & 3)])))

/** Changes of one table, in their order. */
export class Batch {
  readonly #table: string
  readonly #family: number
  readonly #messages: Buffer[] = []
  #sets = 0

  constructor(table: string, family: number = NFPROTO.INET) {
    this.#table = table
    this.#family = family
  }

  get empty(): boolean {
    return this.#messages.length === 0
  }

  #add(message: number, flags: number, attributes: Attributes): this {
    this.#messages.push(encodeMessage(SUBSYSTEM << 8 | message, NLM_F.REQUEST | flags, Buffer.from([this.#family, 0, 0, 0]), attributes, this.#messages.length + 1))
    return this
  }

  /** Makes the table; one that is there stays. */
  table(): this {
    return this.#add(MSG.NEWTABLE, NLM_F.CREATE, [[1, this.#table]])
  }

  /** Takes the table away with all that is in it. It must be there. */
  deleteTable(): this {
    return this.#add(MSG.DELTABLE, 0, [[1, this.#table]])
  }

  /** Makes a chain: one that packets come to at a hook, or one to jump to. */
  chain(name: string, base?: ChainOptions): this {
    return this.#add(MSG.NEWCHAIN, NLM_F.CREATE, [
      [1, this.#table], [3, name],
      ...(base ? [[4, [[1, be32(HOOKS[base.hook])], [2, be32(base.priority)]]], [5, be32(1)], [7, base.type]] as Attribute[] : []),
    ])
  }

  /** Makes a set, or with `value` a map. */
  set(name: string, key: readonly Type[], value?: readonly Type[]): this {
    return this.#add(MSG.NEWSET, NLM_F.CREATE, [
      [1, this.#table], [2, name], [3, be32(value ? 8 : 0)], [4, be32(typeOf(key))], [5, be32(lengthOf(key))],
      ...(value ? [[6, be32(typeOf(value))], [7, be32(lengthOf(value))]] as Attribute[] : []), [10, be32(++this.#sets)],
      ...(key.length === 1 && key[0] === 'ifname' ? [[13, HOST_ORDER]] as Attribute[] : []),
    ])
  }

  /** Puts elements into a set or map; one that is there already is an error only if it has another value. */
  add(set: string, elements: readonly Element[]): this {
    return elements.length ? this.#elements(MSG.NEWSETELEM, NLM_F.CREATE, set, elements) : this
  }

  /** Takes elements away, which must be there. */
  remove(set: string, elements: readonly Element[]): this {
    return elements.length ? this.#elements(MSG.DELSETELEM, 0, set, elements) : this
  }

  #elements(message: number, flags: number, set: string, elements: readonly Element[]): this {
    for (let at = 0; at < elements.length; at += 500) { // an attribute has at most 64 kB
      const list = elements.slice(at, at + 500).map(({ key, value }): Attribute => [LIST_ELEM, [[1, [[1, padded(key)]]], [2, value && [[1, padded(value)]]]]])
      this.#add(message, flags, [[1, this.#table], [2, set], [3, list]])
    }
    return this
  }

  /** Adds a rule at the end of a chain. */
  rule(chain: string, ...expressions: readonly (Expression | Expression[])[]): this {
    const list = expressions.flatMap((part) => (typeof part[0] === 'string' ? [part as Expression] : part as Expression[])).map(([name, attributes]): Attribute => [LIST_ELEM, [[1, name], [2, encodeAttributes(attributes)]]])
    return this.#add(MSG.NEWRULE, NLM_F.CREATE | NLM_F.APPEND, [[1, this.#table], [2, chain], [4, list]])
  }

  /** The batch's bytes: one datagram. The last change is acknowledged. */
  encode(): Buffer {
    const frame = (type: number, sequence: number): Buffer => encodeMessage(type, NLM_F.REQUEST, Buffer.concat([Buffer.from([0, 0]), be16(SUBSYSTEM)]), [], sequence)
    const messages = this.#messages.map((message) => Buffer.from(message))
    const last = messages.at(-1)
    last?.writeUInt16LE(last.readUInt16LE(6) | NLM_F.ACK, 6)
    return Buffer.concat([frame(BATCH_BEGIN, 0), ...messages, frame(BATCH_END, messages.length + 1)])
  }
}
