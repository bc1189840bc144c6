import { errnoName, strerror } from './errno.ts'
import { O_CLOEXEC } from './fs.ts'
import { nr } from './syscalls.ts'

/** The stages of a program, in the order of native/berth.c. */
export const stages = ['pre', 'child', 'post', 'usr1', 'fini'] as const
export type Stage = (typeof stages)[number]

/** A place in the program's data. */
export interface Pointer { readonly kind: 'pointer', readonly kept: boolean, readonly offset: number }
/** One of the 32 registers. */
export interface Register { readonly kind: 'register', readonly index: number }
/** The unsigned 32-bit word at a place in the data, read when the step runs. */
export interface Word { readonly kind: 'word', readonly at: Pointer }
export type Operand = number | bigint | string | Uint8Array | Pointer | Register | Word

export interface StepOptions {
  /** Where the result goes. */
  out?: Register
  /** Error numbers that don't end the program; `'all'` is every one. At most two. */
  tolerate?: readonly number[] | 'all'
  /** How many following steps of the stage are left out after a tolerated error … */
  skip?: number
  /** … or, with this, after success. */
  skipOnSuccess?: boolean
  /** What the step does, for the error that names it: "mount proc on /proc". */
  doing?: string
}

const op = { sys: 0, fmt: 1, assert: 2, exec: 3, emit: 4, poke: 5, check: 6 } as const
const HEADER = 352
const STEP = 64
const REGISTERS_AT = 80
const MAGIC = 0x54524542

interface Step {
  op: number
  nr: number
  args: readonly Operand[]
  options: StepOptions
}

class Section {
  bytes: Buffer = Buffer.alloc(4096)
  length = 0

  reserve(size: number): number {
    const offset = this.length
    this.length += (size + 7) & ~7
    while (this.length > this.bytes.length) {
      const larger = Buffer.alloc(this.bytes.length * 2)
      this.bytes.copy(larger)
      this.bytes = larger
    }
    return offset
  }
}

/** Registers with a meaning to native/berth.c. */
export const EVENTS: Register = { kind: 'register', index: 0 }
export const CHILD_PID: Register = { kind: 'register', index: 1 }
export const EXIT_STATUS: Register = { kind: 'register', index: 2 }

/** Assembles a program of system calls for native/berth.c, whose comment defines stages and registers. Nothing here
 * touches the system: equal calls give equal bytes. */
export class Program {
  readonly #steps: Record<Stage, Step[]> = { pre: [], child: [], post: [], usr1: [], fini: [] }
  readonly #kept = new Section()
  readonly #once = new Section()
  readonly #strings = new Map<string, Pointer>()
  readonly #relocations: [Pointer, Pointer][] = []
  readonly #initial = new Map<number, bigint>()
  #registers = 3
  #cloneArgs: Pointer | undefined

  /** A fresh register, with the value that it starts with. */
  register(initial = 0): Register {
    if (this.#registers === 32) throw new Error('a program has 32 registers')
    const register: Register = { kind: 'register', index: this.#registers++ }
    this.set(register, initial)
    return register
  }

  /** Sets the value that a register starts with. */
  set(register: Register, initial: number | bigint): void {
    this.#initial.set(register.index, BigInt(initial))
  }

  /** Reserves zeroed bytes. `kept` data stays mapped for the stages usr1 and fini. */
  space(size: number, kept = false): Pointer {
    return { kind: 'pointer', kept, offset: (kept ? this.#kept : this.#once).reserve(size) }
  }

  /** Copies bytes into the data. */
  bytes(data: Uint8Array, kept = false): Pointer {
    const pointer = this.space(data.length, kept)
    ;(kept ? this.#kept : this.#once).bytes.set(data, pointer.offset)
    return pointer
  }

  /** A NUL-terminated string; equal strings share their place. */
  string(text: string, kept = false): Pointer {
    const key = (kept ? 'k' : 'o') + text
    let pointer = this.#strings.get(key)
    if (!pointer) {
      const section = kept ? this.#kept : this.#once
      const offset = section.reserve(Buffer.byteLength(text) + 1)
      section.bytes.write(text, offset)
      pointer = { kind: 'pointer', kept, offset }
      this.#strings.set(key, pointer)
    }
    return pointer
  }

  /** An array of addresses that ends with NULL, as execve(2) takes. */
  pointers(texts: readonly string[]): Pointer {
    const array = this.space((texts.length + 1) * 8)
    texts.forEach((text, i) => this.relocate({ ...array, offset: array.offset + i * 8 }, this.string(text)))
    return array
  }

  /** Has the address of `target` stand at `at` when the program runs. */
  relocate(at: Pointer, target: Pointer): void {
    this.#relocations.push([at, target])
  }

  /** Has the stage `pre` make a pipe (pipe2(2)), whose ends are closed on exec. */
  pipe(): { read: Word, write: Word } {
    const ends = this.space(8)
    this.sys('pre', 'pipe2', [ends, O_CLOEXEC], { doing: 'make a pipe' })
    return { read: { kind: 'word', at: ends }, write: { kind: 'word', at: { ...ends, offset: ends.offset + 4 } } }
  }

  /** Adds a system call by name. Strings and byte arrays are copied and passed by address. */
  sys(stage: Stage, name: string, args: readonly Operand[], options: StepOptions = {}): void {
    this.#add(stage, op.sys, nr(name), args, options)
  }

  /** Writes the decimal of a register and a suffix as a NUL-terminated string; `out` gets its length. */
  format(stage: Stage, to: Pointer, value: Register, suffix = '', options: StepOptions = {}): void {
    this.#add(stage, op.fmt, 0, [to, value, suffix], options)
  }

  /** Fails with `error` unless `(value & mask) == expected`. */
  assert(stage: Stage, value: Operand, expected: number, error: number, options: StepOptions & { mask?: number } = {}): void {
    this.#add(stage, op.assert, 0, [value, expected, error, options.mask ?? -1], options)
  }

  /** Executes the first of `candidates` that is an executable file (execvp(3)). */
  exec(stage: Stage, candidates: readonly string[], argv: readonly string[], env: readonly string[], options: StepOptions = {}): void {
    this.#add(stage, op.exec, 0, [this.pointers(candidates), this.pointers(argv), this.pointers(env)], options)
  }

  /** Sends a `reached` event with two values. */
  emit(stage: Stage, value: Operand, detail: Operand = 0): void {
    this.#add(stage, op.emit, 0, [value, detail], {})
  }

  /** Stores the low 32 bits of a value in the data when the step runs. */
  poke(stage: Stage, at: Pointer, value: Operand): void {
    this.#add(stage, op.poke, 0, [at, value], {})
  }

  /** Fails with the error that a 32-bit word of the data has as a negated errno, unless it is 0. */
  check(stage: Stage, at: Pointer, options: StepOptions = {}): void {
    this.#add(stage, op.check, 0, [{ kind: 'word', at }], options)
  }

  /** Sets 32 bits of the data. */
  setWord(at: Pointer, value: number): void {
    ;(at.kept ? this.#kept : this.#once).bytes.writeUInt32LE(value >>> 0, at.offset)
  }

  /** Makes the program clone a child: flags of clone3(2). Returns where its struct clone_args stands. */
  clone(flags: bigint): Pointer {
    const args = Buffer.alloc(88) // struct clone_args, up to the member cgroup
    args.writeBigUInt64LE(flags, 0)
    args.writeBigUInt64LE(17n, 32) // exit_signal: SIGCHLD
    this.#cloneArgs = this.bytes(args)
    return this.#cloneArgs
  }

  /** How many steps a stage has so far, for `skip` counts. */
  count(stage: Stage): number {
    return this.#steps[stage].length
  }

  /** What the step at a place of a `failed` event was doing. */
  describe(place: number, error: number): string {
    if (place === 0xffffffff) return `clone: ${cloneHint(error)}`
    const stage = stages[place >> 16]
    const step = stage && this.#steps[stage][place & 0xffff]
    return `${step?.options.doing ?? `${stage} step ${place & 0xffff}`}: ${strerror(error)}`
  }

  #add(stage: Stage, code: number, number: number, args: readonly Operand[], options: StepOptions): void {
    const kept = stage === 'usr1' || stage === 'fini'
    const placed = args.map((arg) =>
      typeof arg === 'string' ? this.string(arg, kept) : arg instanceof Uint8Array ? this.bytes(arg, kept) : arg)
    this.#steps[stage].push({ op: code, nr: number, args: placed, options })
  }

  /** The program's bytes. `token` comes back in its events. */
  encode(token: bigint): Buffer {
    const order: Stage[] = ['usr1', 'fini', 'pre', 'child', 'post']
    const offsets = {} as Record<Stage, number>
    let at = HEADER
    const place = (stage: Stage): void => {
      offsets[stage] = at
      at += this.#steps[stage].length * STEP
    }
    place('usr1')
    place('fini')
    const keptAt = at
    at += this.#kept.length
    const keep = at
    place('pre')
    place('child')
    place('post')
    const onceAt = at
    at += this.#once.length
    const relocationsAt = at
    at += this.#relocations.length * 8
    const program = Buffer.alloc(at)
    const address = (p: Pointer): number => (p.kept ? keptAt : onceAt) + p.offset

    program.writeUInt32LE(MAGIC, 0)
    program.writeUInt32LE(at, 4)
    program.writeUInt32LE(keep, 8)
    stages.forEach((stage, i) => {
      program.writeUInt32LE(offsets[stage], 12 + i * 8)
      program.writeUInt32LE(this.#steps[stage].length, 16 + i * 8)
    })
    program.writeUInt32LE(relocationsAt, 52)
    program.writeUInt32LE(this.#relocations.length, 56)
    program.writeUInt32LE(this.#cloneArgs ? 1 : 0, 60)
    program.writeBigUInt64LE(BigInt(this.#cloneArgs ? address(this.#cloneArgs) : 0), 64)
    program.writeBigUInt64LE(token, 72)
    for (const [index, value] of this.#initial) program.writeBigInt64LE(value, REGISTERS_AT + index * 8)

    for (const stage of order) this.#steps[stage].forEach((step, i) => encodeStep(program, offsets[stage] + i * STEP, step, address))
    this.#kept.bytes.copy(program, keptAt, 0, this.#kept.length)
    this.#once.bytes.copy(program, onceAt, 0, this.#once.length)
    this.#relocations.forEach(([where, target], i) => {
      program.writeUInt32LE(address(where), relocationsAt + i * 8)
      program.writeUInt32LE(address(target), relocationsAt + i * 8 + 4)
    })
    return program
  }
}

function encodeStep(program: Buffer, at: number, step: Step, address: (p: Pointer) => number): void {
  const { out, tolerate = [], skip = 0, skipOnSuccess = false } = step.options
  program[at] = step.op
  program[at + 1] = out ? out.index : 0xff
  program[at + 2] = skip
  program[at + 3] = skipOnSuccess ? 1 : 0
  program.writeUInt16LE(tolerate === 'all' ? 0xffff : (tolerate[0] ?? 0), at + 4)
  program.writeUInt16LE(tolerate === 'all' ? 0 : (tolerate[1] ?? 0), at + 6)
  program.writeUInt32LE(step.nr, at + 8)
  let kinds = 0
  step.args.forEach((arg, i) => {
    const slot = at + 16 + i * 8
    if (typeof arg === 'number') {
      program.writeInt32LE(arg | 0, slot)
      program.writeInt32LE(Math.floor(arg / 0x1_0000_0000), slot + 4)
    }
    else if (typeof arg === 'bigint') program.writeBigInt64LE(BigInt.asIntN(64, arg), slot)
    else if (typeof arg === 'string' || arg instanceof Uint8Array) throw new Error('unplaced operand')
    else if (arg.kind === 'pointer') {
      kinds |= 1 << (2 * i)
      program.writeUInt32LE(address(arg), slot)
    } else if (arg.kind === 'register') {
      kinds |= 2 << (2 * i)
      program.writeUInt32LE(arg.index, slot)
    } else {
      kinds |= 3 << (2 * i)
      program.writeUInt32LE(address(arg.at), slot)
    }
  })
  program.writeUInt32LE(kinds, at + 12)
}

function cloneHint(error: number): string {
  return errnoName(error) === 'ENOSPC' ? `${strerror(error)} (the limit of namespaces, /proc/sys/user, is reached)` : strerror(error)
}
