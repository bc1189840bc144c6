import { isIP } from 'node:net'
import { addressBytes } from './address.ts'
import { NLM_F, be16, encodeMessage, u32, type Attribute } from './message.ts'

/** IPsec by netlink (linux/xfrm.h): security associations and policies of ESP in transport mode between two hosts, for one
 * UDP port. */

const MSG = { NEWSA: 0x10, DELSA: 0x11, NEWPOLICY: 0x13, DELPOLICY: 0x14 } as const
const [XFRMA_TMPL, XFRMA_ALG_AEAD, XFRMA_REPLAY_ESN_VAL] = [5, 18, 23]
const [IPPROTO_ESP, IPPROTO_UDP, TRANSPORT, STATE_ESN] = [50, 17, 0, 128]
const WINDOW = 128
const CHANGE = NLM_F.REQUEST | NLM_F.ACK
const CREATE = CHANGE | NLM_F.CREATE | NLM_F.EXCL

/** One direction between two hosts. */
export interface Direction { from: string, to: string }

const familyOf = (address: string): number => (isIP(address) === 6 ? 10 : 2)

function wide(address: string): Buffer {
  const buffer = Buffer.alloc(16) // xfrm_address_t
  addressBytes(address).copy(buffer)
  return buffer
}

/** struct xfrm_id. */
function identity(to: string, spi: number): Buffer {
  const rest = Buffer.alloc(8)
  rest.writeUInt32BE(spi, 0)
  rest[4] = IPPROTO_ESP
  return Buffer.concat([wide(to), rest])
}

/** struct xfrm_selector: all of a direction, or what is for a port of UDP. */
function selector({ from, to }: Direction, port?: number): Buffer {
  const buffer = Buffer.alloc(56)
  if (port === undefined) return buffer
  wide(to).copy(buffer, 0)
  wide(from).copy(buffer, 16)
  be16(port).copy(buffer, 32)
  be16(0xffff).copy(buffer, 34)
  buffer.writeUInt16LE(familyOf(to), 40)
  const bits = isIP(to) === 6 ? 128 : 32
  buffer[42] = bits
  buffer[43] = bits
  buffer[44] = IPPROTO_UDP
  return buffer
}

/** struct xfrm_lifetime_cfg, without end, and struct xfrm_lifetime_cur. */
function lifetimes(): Buffer {
  const buffer = Buffer.alloc(96)
  buffer.fill(0xff, 0, 32) // XFRM_INF: bytes and packets
  return buffer
}

/** A security association: AES-GCM (RFC 4106) with 16 bytes of key and 4 of salt, and 64-bit sequence numbers. */
export function newAssociation({ from, to }: Direction, spi: number, key: Uint8Array): Buffer {
  const info = Buffer.alloc(224) // struct xfrm_usersa_info
  identity(to, spi).copy(info, 56)
  wide(from).copy(info, 80)
  lifetimes().copy(info, 96)
  info.writeUInt16LE(familyOf(to), 212)
  info[214] = TRANSPORT
  info[216] = STATE_ESN
  const algorithm = Buffer.alloc(72 + key.length) // struct xfrm_algo_aead
  algorithm.write('rfc4106(gcm(aes))')
  algorithm.writeUInt32LE(key.length * 8, 64)
  algorithm.writeUInt32LE(128, 68)
  algorithm.set(key, 72)
  const replay = Buffer.alloc(24) // struct xfrm_replay_state_esn, whose bitmap the kernel begins empty
  replay.writeUInt32LE(WINDOW / 32, 0)
  replay.writeUInt32LE(WINDOW, 20)
  return encodeMessage(MSG.NEWSA, CREATE, info, [[XFRMA_ALG_AEAD, algorithm], [XFRMA_REPLAY_ESN_VAL, replay]])
}

export function deleteAssociation({ to }: Direction, spi: number): Buffer {
  const id = Buffer.alloc(24) // struct xfrm_usersa_id
  wide(to).copy(id, 0)
  id.writeUInt32BE(spi, 16)
  id.writeUInt16LE(familyOf(to), 20)
  id[22] = IPPROTO_ESP
  return encodeMessage(MSG.DELSA, CHANGE, id)
}

const DIRECTIONS = { in: 0, out: 1 } as const

/** Demands that what goes to a port of UDP is encrypted. */
export function newPolicy(direction: keyof typeof DIRECTIONS, way: Direction, port: number): Buffer {
  const info = Buffer.alloc(168) // struct xfrm_userpolicy_info
  selector(way, port).copy(info, 0)
  lifetimes().copy(info, 56)
  info[160] = DIRECTIONS[direction]
  const template = Buffer.alloc(64) // struct xfrm_user_tmpl
  identity(way.to, 0).copy(template, 0)
  template.writeUInt16LE(familyOf(way.to), 24)
  wide(way.from).copy(template, 28)
  u32(0xffff_ffff).copy(template, 52) // any algorithms
  u32(0xffff_ffff).copy(template, 56)
  u32(0xffff_ffff).copy(template, 60)
  return encodeMessage(MSG.NEWPOLICY, CREATE, info, [[XFRMA_TMPL, template]] satisfies Attribute[])
}

export function deletePolicy(direction: keyof typeof DIRECTIONS, way: Direction, port: number): Buffer {
  const id = Buffer.alloc(64) // struct xfrm_userpolicy_id
  selector(way, port).copy(id, 0)
  id[60] = DIRECTIONS[direction]
  return encodeMessage(MSG.DELPOLICY, CHANGE, id)
}
