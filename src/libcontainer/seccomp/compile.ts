import { errno } from '../../sys/errno.ts'
import { machine, syscallNumber, type Architecture } from '../../sys/syscalls.ts'
import { invalid } from '../../lib/errors.ts'
import { architectureOf, type Seccomp, type SeccompAction, type SeccompArgument } from './profile.ts'

/** A classic BPF instruction (struct sock_filter, linux/filter.h). */
interface Instruction { code: number, jt: number, jf: number, k: number }

const LD_ABS = 0x20 // BPF_LD|BPF_W|BPF_ABS
const AND = 0x54 // BPF_ALU|BPF_AND|BPF_K
const JA = 0x05
const JEQ = 0x15
const JGT = 0x25
const JGE = 0x35
const RET = 0x06

const NR = 0 // offsets in struct seccomp_data
const ARCH = 4
const ARGS = 16

const audit: Record<Architecture, number> = { x86_64: 0xc000003e, i386: 0x40000003, x32: 0xc000003e, aarch64: 0xc00000b7, arm: 0x40000028 }
const X32_BIT = 0x4000_0000

const KILL_PROCESS = 0x80000000
const ALLOW = 0x7fff0000
const ERRNO = 0x00050000

const actions: Record<SeccompAction, (data: number) => number> = {
  SCMP_ACT_ALLOW: () => ALLOW,
  SCMP_ACT_ERRNO: (data) => ERRNO | (data & 0xffff),
  SCMP_ACT_KILL: () => 0,
  SCMP_ACT_KILL_THREAD: () => 0,
  SCMP_ACT_KILL_PROCESS: () => KILL_PROCESS,
  SCMP_ACT_LOG: () => 0x7ffc0000,
  SCMP_ACT_TRACE: (data) => 0x7ff00000 | (data & 0xffff),
  SCMP_ACT_TRAP: () => 0x00030000,
  SCMP_ACT_NOTIFY: () => 0x7fc00000,
}

function value(action: SeccompAction, data: number | undefined): number {
  const known = actions[action]
  if (!known) throw invalid(`invalid seccomp action: ${JSON.stringify(action)}`)
  return known(data ?? errno.EPERM) >>> 0
}

/** What one system call gets: an unconditional result, or alternatives tried in order. */
interface Verdict { result?: number, alternatives: { args: readonly SeccompArgument[], result: number }[] }

const ins = (code: number, k: number, jt = 0, jf = 0): Instruction => ({ code, jt, jf, k: k >>> 0 })

/** Instructions that fall through when the comparison holds and jump to their end plus `onFail` when it doesn't: the
 * caller patches jumps marked with 255. An argument is compared as an unsigned 64-bit number, high word first. */
function compare(argument: SeccompArgument): { code: Instruction[], fail: number[] } {
  const at = ARGS + argument.index * 8
  const big = BigInt(argument.value)
  const high = Number((big >> 32n) & 0xffffffffn)
  const low = Number(big & 0xffffffffn)
  const code: Instruction[] = []
  const fail: number[] = []
  const failing = (instruction: Instruction): void => {
    fail.push(code.length)
    code.push(instruction)
  }
  switch (argument.op) {
    case 'SCMP_CMP_EQ':
      code.push(ins(LD_ABS, at + 4))
      failing(ins(JEQ, high, 0, 255))
      code.push(ins(LD_ABS, at))
      failing(ins(JEQ, low, 0, 255))
      break
    case 'SCMP_CMP_MASKED_EQ': {
      const want = BigInt(argument.valueTwo ?? 0)
      code.push(ins(LD_ABS, at + 4), ins(AND, high))
      failing(ins(JEQ, Number((want >> 32n) & 0xffffffffn), 0, 255))
      code.push(ins(LD_ABS, at), ins(AND, low))
      failing(ins(JEQ, Number(want & 0xffffffffn), 0, 255))
      break
    }
    case 'SCMP_CMP_NE':
      code.push(ins(LD_ABS, at + 4), ins(JEQ, high, 0, 2), ins(LD_ABS, at))
      failing(ins(JEQ, low, 255, 0))
      break
    case 'SCMP_CMP_GT':
    case 'SCMP_CMP_GE': // high greater: holds; high less: fails; equal: the low word decides
      code.push(ins(LD_ABS, at + 4), ins(JGT, high, 3, 0))
      failing(ins(JEQ, high, 0, 255))
      code.push(ins(LD_ABS, at))
      failing(ins(argument.op === 'SCMP_CMP_GT' ? JGT : JGE, low, 0, 255))
      break
    case 'SCMP_CMP_LT':
    case 'SCMP_CMP_LE':
      code.push(ins(LD_ABS, at + 4), ins(JGE, high, 0, 3)) // less: holds
      failing(ins(JEQ, high, 0, 255))
      code.push(ins(LD_ABS, at))
      failing(ins(argument.op === 'SCMP_CMP_LT' ? JGE : JGT, low, 255, 0))
      break
    default:
      throw invalid(`invalid seccomp operator: ${JSON.stringify(argument.op)}`)
  }
  return { code, fail }
}

function leaf(verdict: Verdict | undefined, otherwise: number): Instruction[] {
  const code: Instruction[] = []
  for (const { args, result } of verdict?.alternatives ?? []) {
    const start = code.length
    const fails: number[] = []
    for (const argument of args) {
      const { code: part, fail } = compare(argument)
      fails.push(...fail.map((i) => code.length + i))
      code.push(...part)
    }
    code.push(ins(RET, result))
    for (const i of fails) {
      const jump = code[i]!
      const distance = code.length - i - 1
      if (distance > 254) throw invalid(`a seccomp rule with ${args.length} arguments is too long (from instruction ${start})`)
      if (jump.jt === 255) jump.jt = distance
      if (jump.jf === 255) jump.jf = distance
    }
  }
  code.push(ins(RET, verdict?.result ?? otherwise))
  return code
}

/** A search tree over ranges of numbers that share a leaf: about log2(ranges) comparisons a call. */
function tree(ranges: { from: number, code: Instruction[] }[]): Instruction[] {
  if (ranges.length === 1) return ranges[0]!.code
  const middle = ranges.length >> 1
  const left = tree(ranges.slice(0, middle))
  const right = tree(ranges.slice(middle))
  const from = ranges[middle]!.from
  if (left.length <= 255) return [ins(JGE, from, left.length, 0), ...left, ...right]
  return [ins(JGE, from, 0, 1), ins(JA, left.length), ...left, ...right]
}

function architectureCode(verdicts: Map<number, Verdict>, otherwise: number, beyond: number): Instruction[] {
  const numbers = [...verdicts.keys()].sort((a, b) => a - b)
  const ranges: { from: number, key: string, code: Instruction[] }[] = []
  const add = (from: number, verdict: Verdict | undefined, result: number): void => {
    const key = JSON.stringify(verdict?.alternatives.length ? verdict : (verdict?.result ?? result))
    if (ranges.at(-1)?.key !== key) ranges.push({ from, key, code: leaf(verdict, result) })
  }
  const first = numbers[0] ?? 0
  add(first & X32_BIT, undefined, otherwise)
  if (ranges[0]) ranges[0].from = first & X32_BIT
  for (let i = 0; i < numbers.length; i++) {
    const number = numbers[i]!
    add(number, verdicts.get(number), otherwise)
    if (numbers[i + 1] !== number + 1) add(number + 1, undefined, i + 1 < numbers.length ? otherwise : beyond)
  }
  return [ins(LD_ABS, NR), ...tree(ranges)]
}

/** The filter's bytes: an array of struct sock_filter, for seccomp(2). Calls of an architecture that the profile doesn't
 * name kill the process. A call younger than every call that the profile names gets ENOSYS in place of EPERM, so that
 * C libraries fall back to older calls (runc does the same). */
export function compileSeccomp(seccomp: Seccomp): Buffer {
  const otherwise = value(seccomp.defaultAction, seccomp.defaultErrnoRet)
  const beyond = seccomp.defaultAction === 'SCMP_ACT_ERRNO' ? ERRNO | errno.ENOSYS : otherwise
  const own = machine === 'x86_64' ? 'SCMP_ARCH_X86_64' : 'SCMP_ARCH_AARCH64'
  const architectures = [...new Set([own, ...(seccomp.architectures ?? [])])].flatMap((name) => architectureOf(name) ?? [])
  const code: Instruction[] = [ins(LD_ABS, ARCH)]
  const groups = new Map<number, Architecture[]>()
  for (const architecture of architectures) groups.set(audit[architecture], [...(groups.get(audit[architecture]) ?? []), architecture])
  for (const [token, members] of groups) {
    let body: Instruction[] = []
    const blocks = members.map((architecture) => architectureCode(verdictsOf(seccomp, architecture, otherwise), otherwise, beyond))
    if (members.includes('x32') && blocks[1]) {
      const [main, x32] = blocks as [Instruction[], Instruction[]]
      body = [ins(LD_ABS, NR), ins(JGE, X32_BIT, 0, 1), ins(JA, main.length), ...main, ...x32]
    } else if (token === audit.x86_64) {
      body = [ins(LD_ABS, NR), ins(JGE, X32_BIT, 0, 1), ins(RET, otherwise), ...blocks[0]!]
    } else body = blocks[0]!
    code.push(ins(JEQ, token, 1, 0), ins(JA, body.length), ...body)
  }
  code.push(ins(RET, KILL_PROCESS))
  if (code.length > 4096) throw invalid(`the seccomp profile compiles to ${code.length} instructions; the kernel takes 4096`)
  const bytes = Buffer.alloc(code.length * 8)
  code.forEach(({ code: operation, jt, jf, k }, i) => {
    bytes.writeUInt16LE(operation, i * 8)
    bytes[i * 8 + 2] = jt
    bytes[i * 8 + 3] = jf
    bytes.writeUInt32LE(k, i * 8 + 4)
  })
  return bytes
}

function verdictsOf(seccomp: Seccomp, architecture: Architecture, otherwise: number): Map<number, Verdict> {
  const verdicts = new Map<number, Verdict>()
  for (const rule of seccomp.syscalls ?? []) {
    const result = value(rule.action, rule.errnoRet)
    for (const name of rule.names) {
      const number = syscallNumber(name, architecture)
      if (number === undefined) continue
      const verdict = verdicts.get(number) ?? { alternatives: [] }
      verdicts.set(number, verdict)
      if (result === otherwise && !rule.args?.length) verdict.result ??= result
      else if (rule.args?.length) verdict.alternatives.push(...alternativesOf(rule.args, result))
      else verdict.result ??= result
    }
  }
  return verdicts
}

/** libseccomp refuses two comparisons with the same argument in one rule, and runc then adds one rule for each:
 * any of them may hold. */
function alternativesOf(args: readonly SeccompArgument[], result: number): Verdict['alternatives'] {
  const repeated = new Set(args.map((argument) => argument.index)).size < args.length
  return repeated ? args.map((argument) => ({ args: [argument], result })) : [{ args, result }]
}

/** The flags of seccomp(2) that a profile asks for. */
export function seccompFlags(seccomp: Seccomp): number {
  const known: Record<string, number> = { SECCOMP_FILTER_FLAG_TSYNC: 1, SECCOMP_FILTER_FLAG_LOG: 2, SECCOMP_FILTER_FLAG_SPEC_ALLOW: 4 }
  let flags = 0
  for (const name of seccomp.flags ?? []) {
    if (known[name] === undefined) throw invalid(`unknown seccomp flag ${JSON.stringify(name)}`)
    flags |= known[name]
  }
  return flags & ~1 // the process has one thread when it loads the filter
}
