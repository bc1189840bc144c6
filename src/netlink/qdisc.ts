import { NLM_F, encodeAttributes, encodeMessage, u32 } from './message.ts'

/** What is done to packets on their way (tc(8)). */
export interface Impairment {
  /** Bytes a second; 0 for no limit. */
  rate: number
  /** Nanoseconds that each waits, and by how much that varies. */
  delay: number
  jitter: number
  /** The part that is lost, from 0 to 1. */
  loss: number
}

const [RTM_NEWQDISC, RTM_DELQDISC] = [36, 37]
const TC_H_ROOT = 0xffff_ffff
const [TCA_KIND, TCA_OPTIONS] = [1, 2]

/** struct tcmsg, of a link's root queueing discipline. */
function header(index: number): Buffer {
  const buffer = Buffer.alloc(20)
  buffer.writeInt32LE(index, 4)
  buffer.writeUInt32LE(TC_H_ROOT, 12)
  return buffer
}

/** Puts an impairment on what leaves by a link: a token bucket (tc-tbf(8)) where only the rate is limited, else netem
 * (tc-netem(8)), which not every kernel has. */
export function newQdisc(index: number, impairment: Impairment): Buffer {
  const { rate, delay, loss } = impairment
  const [kind, options] = rate && !delay && !loss ? ['tbf', tokenBucket(rate)] as const : ['netem', netem(impairment)] as const
  return encodeMessage(RTM_NEWQDISC, NLM_F.REQUEST | NLM_F.ACK | NLM_F.CREATE | NLM_F.REPLACE, header(index), [[TCA_KIND, kind], [TCA_OPTIONS, options]])
}

/** Takes what `newQdisc` put on a link off again. */
export function deleteQdisc(index: number): Buffer {
  return encodeMessage(RTM_DELQDISC, NLM_F.REQUEST | NLM_F.ACK, header(index))
}

function tokenBucket(rate: number): Buffer {
  const burst = Math.max(32 << 10, Math.ceil(rate / 100)) // what comes in one tick of the slowest timer
  const parameters = Buffer.alloc(36) // struct tc_tbf_qopt
  parameters[1] = 1 // TC_LINKLAYER_ETHERNET: no table of rates is needed
  parameters.writeUInt32LE(Math.min(rate, 0xffff_ffff), 8)
  parameters.writeUInt32LE(Math.min(0xffff_ffff, Math.ceil(rate / 20) + burst), 24) // limit: 50 ms
  const rate64 = Buffer.alloc(8)
  rate64.writeBigUInt64LE(BigInt(rate))
  return encodeAttributes([[1, parameters], [6, u32(burst)], [4, rate > 0xffff_fffe ? rate64 : undefined]]) // TCA_TBF_PARMS, TCA_TBF_BURST, TCA_TBF_RATE64
}

function netem({ rate, delay, jitter, loss }: Impairment): Buffer {
  const options = Buffer.alloc(24) // struct tc_netem_qopt
  options.writeUInt32LE(10_000, 4) // limit, in packets
  options.writeUInt32LE(Math.min(0xffff_ffff, Math.round(loss * 2 ** 32)), 8)
  const time = (nanoseconds: number): Buffer => {
    const buffer = Buffer.alloc(8)
    buffer.writeBigInt64LE(BigInt(Math.round(nanoseconds)))
    return buffer
  }
  const rates = Buffer.alloc(16) // struct tc_netem_rate
  rates.writeUInt32LE(Math.min(rate, 0xffff_ffff), 0)
  return Buffer.concat([options, encodeAttributes([[10, time(delay)], [11, time(jitter)], [6, rate ? rates : undefined]])]) // TCA_NETEM_LATENCY64, JITTER64, RATE
}
