import { isIP } from 'node:net'
import { invalid } from '../lib/errors.ts'

/** An IP address as a number: what arithmetic on networks needs. */
export type Family = 4 | 6

export const bitsOf = (family: Family): number => (family === 4 ? 32 : 128)

/** The bytes of an address in network order: 4 or 16. */
export function addressBytes(address: string): Buffer {
  const family = isIP(address)
  if (family === 4) return Buffer.from(address.split('.').map(Number))
  if (family !== 6) throw invalid(`invalid IP address: ${address}`)
  const plain = address.replace(/%.*$/, '').replace(/(\d+)\.(\d+)\.(\d+)\.(\d+)$/, (_whole, ...parts: string[]) => {
    const [a = 0, b = 0, c = 0, d = 0] = parts.slice(0, 4).map(Number)
    return `${(a << 8 | b).toString(16)}:${(c << 8 | d).toString(16)}`
  })
  const [head = '', tail] = plain.split('::')
  const words = (text: string): number[] => (text ? text.split(':').map((word) => parseInt(word, 16)) : [])
  const [before, after] = [words(head), tail === undefined ? [] : words(tail)]
  const all = [...before, ...Array.from({ length: 8 - before.length - after.length }, () => 0), ...after]
  const buffer = Buffer.alloc(16)
  all.forEach((word, i) => buffer.writeUInt16BE(word, i * 2))
  return buffer
}

export function addressNumber(address: string): bigint {
  return BigInt('0x' + addressBytes(address).toString('hex'))
}

/** The address that a number stands for, IPv6 as RFC 5952 writes it. */
export function addressText(number: bigint, family: Family): string {
  if (family === 4) return [24n, 16n, 8n, 0n].map((shift) => String(number >> shift & 255n)).join('.')
  const words = Array.from({ length: 8 }, (_, i) => (number >> BigInt(112 - i * 16) & 0xffffn).toString(16))
  let best = { at: -1, length: 1 }
  for (let at = 0; at < 8; at++) {
    let length = 0
    while (words[at + length] === '0') length++
    if (length > best.length) best = { at, length }
  }
  if (best.at < 0) return words.join(':')
  return `${words.slice(0, best.at).join(':')}::${words.slice(best.at + best.length).join(':')}`
}

/** A network: its lowest address as a number, and the length of its prefix. */
export interface Subnet { family: Family, base: bigint, prefix: number }

/** Reads `10.1.0.0/16`, or an address with a prefix, which is taken out of it. `invalid` for what is neither. */
export function parseSubnet(text: string): Subnet {
  const [address = '', length = '', ...more] = text.split('/')
  const family = isIP(address) as 0 | Family
  const prefix = Number(length)
  if (!family || more.length || !/^\d+$/.test(length) || prefix > bitsOf(family)) throw invalid(`invalid CIDR address: ${text}`)
  const host = BigInt(bitsOf(family) - prefix)
  return { family, base: addressNumber(address) >> host << host, prefix }
}

export function subnetText({ family, base, prefix }: Subnet): string {
  return `${addressText(base, family)}/${prefix}`
}

/** How many addresses a network has. */
export function sizeOf({ family, prefix }: Subnet): bigint {
  return 1n << BigInt(bitsOf(family) - prefix)
}

export function contains(subnet: Subnet, address: string): boolean {
  if (isIP(address) !== subnet.family) return false
  const number = addressNumber(address)
  return number >= subnet.base && number < subnet.base + sizeOf(subnet)
}

export function overlap(a: Subnet, b: Subnet): boolean {
  return a.family === b.family && a.base < b.base + sizeOf(b) && b.base < a.base + sizeOf(a)
}

/** The address of one that may have a prefix: `10.1.0.2` of `10.1.0.2/16`. */
export function withoutPrefix(address: string): string {
  return address.split('/')[0]!
}

/** A hardware address as it is written. */
export function macText(bytes: Iterable<number>): string {
  return [...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join(':')
}

/** The bytes of a hardware address written with colons or dashes. */
export function macBytes(mac: string): Buffer {
  if (!/^[0-9a-f]{2}([:-][0-9a-f]{2}){5}$/i.test(mac)) throw invalid(`invalid MAC address: ${mac}`)
  return Buffer.from(mac.replace(/[:-]/g, ''), 'hex')
}
