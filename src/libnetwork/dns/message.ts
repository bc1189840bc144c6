import { addressBytes, addressText } from '../../netlink/address.ts'

/** DNS messages (RFC 1035, section 4), as far as a name server needs that answers from a table and passes on the rest. */

export const TYPE = { A: 1, PTR: 12, AAAA: 28, ANY: 255 } as const
export const RCODE = { ok: 0, format: 1, failure: 2, noName: 3, refused: 5 } as const
const [CLASS_IN, HEADER, FLAG_RESPONSE, FLAG_RECURSION_DESIRED, FLAG_RECURSION_AVAILABLE, FLAG_TRUNCATED] = [1, 12, 0x8000, 0x0100, 0x0080, 0x0200]

export interface Question { id: number, name: string, type: number, recursion: boolean, /** Where the question ends in the message. */ end: number }

/** The question of a query, or undefined for what is none: no query, several questions, or a message that is cut. */
export function parseQuery(message: Buffer): Question | undefined {
  if (message.length < HEADER + 5) return undefined
  const flags = message.readUInt16BE(2)
  if (flags & 0xf800 || message.readUInt16BE(4) !== 1) return undefined // a response, or another operation
  const labels: string[] = []
  let at = HEADER
  for (;;) {
    const length = message[at]
    if (length === undefined || length > 63) return undefined
    at += 1 + length
    if (length === 0) break
    labels.push(message.toString('latin1', at - length, at))
    if (at - HEADER > 255) return undefined
  }
  if (at + 4 > message.length || message.readUInt16BE(at + 2) !== CLASS_IN) return undefined
  return { id: message.readUInt16BE(0), name: labels.join('.'), type: message.readUInt16BE(at), recursion: (flags & FLAG_RECURSION_DESIRED) !== 0, end: at + 4 }
}

/** An answer's data: an address, or for PTR a name. */
export type Answer = { address: string } | { pointer: string }

const TTL = 600

function nameBytes(name: string): Buffer {
  return Buffer.concat([...name.split('.').filter(Boolean).map((label) => Buffer.concat([Buffer.from([label.length]), Buffer.from(label, 'latin1')])), Buffer.from([0])])
}

/** A response to a query: its question, then the answers, each under the question's name. */
export function encodeResponse(query: Buffer, question: Question, code: number, answers: readonly Answer[]): Buffer {
  const head = Buffer.alloc(HEADER)
  head.writeUInt16BE(question.id, 0)
  head.writeUInt16BE(FLAG_RESPONSE | FLAG_RECURSION_AVAILABLE | (question.recursion ? FLAG_RECURSION_DESIRED : 0) | code, 2)
  head.writeUInt16BE(1, 4)
  head.writeUInt16BE(answers.length, 6)
  return Buffer.concat([head, query.subarray(HEADER, question.end), ...answers.map((answer) => {
    const data = 'address' in answer ? addressBytes(answer.address) : nameBytes(answer.pointer)
    const record = Buffer.alloc(12)
    record.writeUInt16BE(0xc000 | HEADER, 0) // the question's name
    record.writeUInt16BE('pointer' in answer ? TYPE.PTR : data.length === 4 ? TYPE.A : TYPE.AAAA, 2)
    record.writeUInt16BE(CLASS_IN, 4)
    record.writeUInt32BE(TTL, 6)
    record.writeUInt16BE(data.length, 10)
    return Buffer.concat([record, data])
  })])
}

/** The beginning of a response that is too long for a datagram: its client asks again by TCP (RFC 2181, section 9). */
export function truncate(response: Buffer, question: Question): Buffer {
  const cut = Buffer.from(response.subarray(0, question.end))
  cut.writeUInt16BE(cut.readUInt16BE(2) | FLAG_TRUNCATED, 2)
  for (const at of [6, 8, 10]) cut.writeUInt16BE(0, at)
  return cut
}

/** The address that a name below in-addr.arpa or ip6.arpa stands for. */
export function addressOfPointer(name: string): string | undefined {
  const v4 = /^(\d+)\.(\d+)\.(\d+)\.(\d+)\.in-addr\.arpa$/i.exec(name)
  if (v4) return v4.slice(1).toReversed().join('.')
  const v6 = /^((?:[0-9a-f]\.){32})ip6\.arpa$/i.exec(name)
  return v6 ? addressText(BigInt('0x' + v6[1]!.split('.').toReversed().join('')), 6) : undefined
}
