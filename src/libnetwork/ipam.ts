import { isIP } from 'node:net'
import { conflict, invalid, messageOf, system } from '../lib/errors.ts'
import type { RemotePool } from './remotepool.ts'
import { addressNumber, addressText, contains, overlap, parseSubnet, sizeOf, subnetText, withoutPrefix, type Family, type Subnet } from '../netlink/address.ts'

/** Addresses of one subnet: a network's API `IPAM.Config` entry. */
export interface PoolConfig {
  subnet: string
  range?: string
  gateway?: string
  auxiliary: Record<string, string>
  /** What a plugin calls it. */
  id?: string
}

/** Gives out addresses. */
export type Pool = AddressPool | RemotePool

/** Gives out the addresses of a subnet, one after the other: one that came back is the last to go out again, since
 * neighbours may still know it as somebody else's. */
export class AddressPool {
  readonly subnet: Subnet
  readonly #from: bigint
  readonly #end: bigint
  readonly #used = new Set<bigint>()
  #next: bigint

  constructor(config: PoolConfig) {
    this.subnet = parseSubnet(config.subnet)
    const range = config.range ? parseSubnet(config.range) : this.subnet
    this.#from = range.base
    this.#end = range.base + sizeOf(range)
    this.#next = this.#from
    const { family, base, prefix } = this.subnet
    const point = sizeOf(this.subnet) <= 2n // RFC 3021, RFC 6164: both addresses are hosts'
    if (!point) {
      this.#used.add(base)
      if (family === 4) this.#used.add(base + sizeOf(this.subnet) - 1n)
    }
    if (config.gateway) this.#used.add(addressNumber(config.gateway))
    for (const address of Object.values(config.auxiliary)) this.#used.add(addressNumber(address))
    if (prefix === (family === 4 ? 32 : 128)) this.#used.delete(base)
  }

  /** A free address with the subnet's prefix, or undefined. */
  allocate(): string | undefined {
    const size = this.#end - this.#from
    for (let tries = 0n; tries < size; tries++) {
      const number = this.#next
      this.#next = this.#next + 1n === this.#end ? this.#from : this.#next + 1n
      if (this.#used.has(number)) continue
      this.#used.add(number)
      return this.#withPrefix(number)
    }
    return undefined
  }

  /** Takes this address. `conflict` where it is in use. */
  reserve(address: string): string {
    const number = addressNumber(address)
    if (this.#used.has(number)) throw conflict('Address already in use')
    this.#used.add(number)
    return this.#withPrefix(number)
  }

  /** Notes that an address is in use elsewhere. */
  take(address: string): void {
    this.#used.add(addressNumber(withoutPrefix(address)))
  }

  /** Gives an address back, with or without its prefix. */
  release(address: string): void {
    this.#used.delete(addressNumber(withoutPrefix(address)))
  }

  #withPrefix(number: bigint): string {
    return `${addressText(number, this.subnet.family)}/${this.subnet.prefix}`
  }
}

function readSubnet(text: string): Subnet {
  try {
    return parseSubnet(text)
  } catch (error) {
    throw invalid(`invalid subnet ${text}: ${messageOf(error)}`, error)
  }
}

/** Checks what was asked for, and fills in the gateway: the first address of the range that nobody else has. */
export function checkPool(asked: { subnet: string, range?: string, gateway?: string, auxiliary?: Record<string, string> }, gatewayWanted = true): PoolConfig {
  const subnet = readSubnet(asked.subnet)
  const inside = (address: string, what: string): string => {
    if (!isIP(address)) throw invalid(`invalid ${what}: ${address} is no IP address`)
    if (!contains(subnet, address)) throw invalid(`no matching subnet for ${what} ${address}`)
    return address
  }
  if (asked.range) {
    const range = parseSubnet(asked.range)
    if (!contains(subnet, addressText(range.base, range.family)) || range.prefix < subnet.prefix) throw invalid(`no matching subnet for range ${asked.range}`)
  }
  const auxiliary = asked.auxiliary ?? {}
  for (const address of Object.values(auxiliary)) inside(address, 'aux-address')
  const config: PoolConfig = { subnet: subnetText(subnet), ...(asked.range && { range: subnetText(parseSubnet(asked.range)) }), auxiliary }
  if (asked.gateway) config.gateway = inside(withoutPrefix(asked.gateway), 'gateway')
  else if (gatewayWanted) {
    const first = new AddressPool({ subnet: config.subnet, auxiliary }).allocate()
    if (first) config.gateway = withoutPrefix(first)
  }
  return config
}

/** Where subnets come from that nobody has asked for. */
export interface AddressSpace { base: string, size: number }

/** Docker's: 172.17.0.0/16 to 172.31.0.0/16, then 192.168.0.0/16 in pieces of /20. */
export const defaultSpaces: readonly AddressSpace[] = [...Array.from({ length: 15 }, (_, i) => ({ base: `172.${17 + i}.0.0/16`, size: 16 })), { base: '192.168.0.0/16', size: 20 }]

/** The first subnet of some spaces that overlaps none that is taken. */
export function freeSubnet(spaces: readonly AddressSpace[], family: Family, taken: readonly Subnet[]): string {
  for (const { base, size } of spaces) {
    const space = parseSubnet(base)
    if (space.family !== family) continue
    const step = 1n << BigInt((family === 4 ? 32 : 128) - size)
    for (let at = space.base; at < space.base + sizeOf(space); at += step) {
      const candidate: Subnet = { family, base: at, prefix: size }
      const other = taken.find((subnet) => overlap(subnet, candidate))
      if (!other) return subnetText(candidate)
      // what lies behind a large network is looked at next, rather than all that is in it
      if (sizeOf(other) > step) at = other.base + sizeOf(other) - step
    }
  }
  throw system('all predefined address pools have been fully subnetted')
}
