/** Netlink messages as bytes (RFC 3549; linux/netlink.h): packing and parsing, of which neither touches a socket. Numbers
 * are in the machine's order, little-endian on both machines that berth runs on, except where a name says `be`. */

export const NLM_F = { REQUEST: 1, ACK: 4, DUMP: 0x300, REPLACE: 0x100, EXCL: 0x200, CREATE: 0x400, APPEND: 0x800 } as const
export const NLMSG = { ERROR: 2, DONE: 3 } as const
const NLA_F_NESTED = 0x8000
const HEADER = 16

/** An attribute: its type, and its value: 32 bits, a NUL-terminated string, bytes as they are, or attributes in it. What
 * is undefined is left out. */
export type Attribute = readonly [type: number, value: number | string | Uint8Array | Attributes | undefined]
export type Attributes = readonly Attribute[]

const align = (length: number): number => (length + 3) & ~3

export function u8(value: number): Buffer {
  return Buffer.from([value])
}

export function u16(value: number): Buffer {
  const buffer = Buffer.alloc(2)
  buffer.writeUInt16LE(value)
  return buffer
}

export function u32(value: number): Buffer {
  const buffer = Buffer.alloc(4)
  buffer.writeUInt32LE(value >>> 0)
  return buffer
}

export function be16(value: number): Buffer {
  const buffer = Buffer.alloc(2)
  buffer.writeUInt16BE(value)
  return buffer
}

export function be32(value: number): Buffer {
  const buffer = Buffer.alloc(4)
  buffer.writeUInt32BE(value >>> 0)
  return buffer
}

/** Attributes one after the other, each padded to four bytes. */
export function encodeAttributes(attributes: Attributes): Buffer {
  const parts: Buffer[] = []
  for (const [type, value] of attributes) {
    if (value === undefined) continue
    const nested = Array.isArray(value)
    const data = typeof value === 'number' ? u32(value) : typeof value === 'string' ? Buffer.from(value + '\0') : nested ? encodeAttributes(value as Attributes) : (value as Uint8Array)
    const attribute = Buffer.alloc(align(4 + data.length))
    attribute.writeUInt16LE(4 + data.length, 0)
    attribute.writeUInt16LE(nested ? type | NLA_F_NESTED : type, 2)
    attribute.set(data, 4)
    parts.push(attribute)
  }
  return Buffer.concat(parts)
}

/** A message of one type: the header of its family, then attributes. */
export function encodeMessage(type: number, flags: number, family: Uint8Array, attributes: Attributes = [], sequence = 0): Buffer {
  const body = encodeAttributes(attributes)
  const message = Buffer.alloc(HEADER + align(family.length) + body.length)
  message.writeUInt32LE(message.length, 0)
  message.writeUInt16LE(type, 4)
  message.writeUInt16LE(flags, 6)
  message.writeUInt32LE(sequence, 8)
  message.set(family, HEADER)
  body.copy(message, HEADER + align(family.length))
  return message
}

/** A message that has come: `body` is what follows the header. */
export interface Message { type: number, flags: number, sequence: number, body: Buffer }

/** The messages of a datagram. */
export function* parseMessages(datagram: Buffer): Generator<Message> {
  for (let at = 0; at + HEADER <= datagram.length;) {
    const length = datagram.readUInt32LE(at)
    if (length < HEADER) return
    yield { type: datagram.readUInt16LE(at + 4), flags: datagram.readUInt16LE(at + 6), sequence: datagram.readUInt32LE(at + 8), body: datagram.subarray(at + HEADER, at + length) }
    at += align(length)
  }
}

/** Attributes by type, from `at` on; of equal ones the last. */
export function parseAttributes(body: Buffer, at: number): Map<number, Buffer> {
  const attributes = new Map<number, Buffer>()
  while (at + 4 <= body.length) {
    const length = body.readUInt16LE(at)
    if (length < 4) break
    attributes.set(body.readUInt16LE(at + 2) & 0x3fff, body.subarray(at + 4, at + length))
    at += align(length)
  }
  return attributes
}

/** The errno of a message of type NLMSG.ERROR: 0 acknowledges. */
export function errorOf(body: Buffer): number {
  return -body.readInt32LE(0)
}

/** A string attribute's text. */
export function textOf(data: Buffer | undefined): string | undefined {
  return data?.toString('utf8').replace(/\0.*$/s, '')
}
