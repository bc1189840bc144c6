import type { DeviceRule } from '../spec.ts'

/** What every container may do with devices: make any, use the harmless ones and its terminals (runtime-spec, "Default
 * Devices"). */
export const usualDeviceRules: readonly DeviceRule[] = [
  { allow: true, type: 'c', major: -1, minor: -1, access: 'm' }, { allow: true, type: 'b', major: -1, minor: -1, access: 'm' },
  ...[[1, 3], [1, 5], [1, 7], [1, 8], [1, 9], [5, 0], [5, 1], [5, 2], [136, -1]].map(([major, minor]): DeviceRule => ({ allow: true, type: 'c', major: major!, minor: minor!, access: 'rwm' })),
]

/** An eBPF instruction (kernel: bpf/instruction-set): eight bytes. */
function instruction(code: number, destination: number, source: number, offset: number, immediate: number): Buffer {
  const bytes = Buffer.alloc(8)
  bytes[0] = code
  bytes[1] = (source << 4) | destination
  bytes.writeInt16LE(offset, 2)
  bytes.writeInt32LE(immediate | 0, 4)
  return bytes
}

const LDX_W = 0x61
const MOV64_REG = 0xbf
const MOV32_IMM = 0xb4
const ALU32_AND = 0x54
const ALU32_RSH = 0x74
const JNE = 0x55
const JNE_REG = 0x5d
const EXIT = 0x95

const typeBits: Record<string, number> = { b: 1, c: 2 }
const accessBits: Record<string, number> = { m: 1, r: 2, w: 4 }

/** A BPF_PROG_TYPE_CGROUP_DEVICE program for a list of rules, the last match deciding, as version 1's files do.
 * The context is struct bpf_cgroup_dev_ctx: access_type (access << 16 | type), major, minor. */
export function compileDeviceRules(rules: readonly DeviceRule[]): Buffer {
  const code: Buffer[] = [
    instruction(LDX_W, 2, 1, 0, 0), instruction(ALU32_AND, 2, 0, 0, 0xffff), // r2: type
    instruction(LDX_W, 3, 1, 0, 0), instruction(ALU32_RSH, 3, 0, 0, 16), // r3: access
    instruction(LDX_W, 4, 1, 4, 0), // r4: major
    instruction(LDX_W, 5, 1, 8, 0), // r5: minor
  ]
  for (const rule of rules.toReversed()) {
    const body: ((distance: number) => Buffer)[] = []
    const type = rule.type ?? 'a'
    if (typeBits[type] !== undefined) body.push((distance) => instruction(JNE, 2, 0, distance, typeBits[type]!))
    const access = type === 'a' ? 7 : [...(rule.access ?? 'rwm')].reduce((bits, letter) => bits | (accessBits[letter] ?? 0), 0)
    if (access !== 7) {
      // every access asked for must be in the rule: r1 = r3 & access; r1 == r3
      body.push(() => instruction(MOV64_REG, 1, 3, 0, 0), () => instruction(ALU32_AND, 1, 0, 0, access),
        (distance) => instruction(JNE_REG, 1, 3, distance, 0))
    }
    if (rule.major !== undefined && rule.major >= 0 && type !== 'a') body.push((distance) => instruction(JNE, 4, 0, distance, rule.major!))
    if (rule.minor !== undefined && rule.minor >= 0 && type !== 'a') body.push((distance) => instruction(JNE, 5, 0, distance, rule.minor!))
    const always = body.length === 0
    body.push(() => instruction(MOV32_IMM, 0, 0, 0, rule.allow ? 1 : 0), () => instruction(EXIT, 0, 0, 0, 0))
    code.push(...body.map((make, i) => make(body.length - i - 1)))
    if (always) return Buffer.concat(code) // the verifier refuses instructions that nothing leads to
  }
  code.push(instruction(MOV32_IMM, 0, 0, 0, 0), instruction(EXIT, 0, 0, 0, 0))
  return Buffer.concat(code)
}
