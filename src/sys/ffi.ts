import { dlopen, getRawPointer } from 'node:ffi'
import { nativeLibrary } from './build.ts'
import { errnoError } from './errno.ts'

/** An argument of a system call: a number, a NUL-terminated copy of a string, or the address of a buffer. */
export type Argument = number | bigint | string | Uint8Array | null

const frame = new BigInt64Array(7)
const low = new Int32Array(frame.buffer)
const buffers: Uint8Array[] = []

type Enter = (frame: bigint) => void
let enter: Enter | undefined
let framePointer = 0n

function open(): Enter {
  framePointer = getRawPointer(frame.buffer)
  const { functions } = dlopen(nativeLibrary(), { berth_syscall: { arguments: ['pointer'], return: 'void' } })
  return functions.berth_syscall as Enter
}

function put(slot: number, value: Argument): void {
  if (typeof value === 'number') {
    low[slot * 2] = value | 0
    low[slot * 2 + 1] = Math.floor(value / 0x1_0000_0000)
  } else if (value === null) frame[slot] = 0n
  else if (typeof value === 'bigint') frame[slot] = BigInt.asIntN(64, value)
  else {
    const buffer = typeof value === 'string' ? Buffer.from(value + '\0') : value
    buffers.push(buffer) // kept alive until the call returns
    frame[slot] = addressOf(buffer)
  }
}

/** The address of a buffer, for structures that point to others. The caller keeps the buffer alive meanwhile. */
export function addressOf(buffer: Uint8Array): bigint {
  return getRawPointer(buffer.buffer as ArrayBuffer) + BigInt(buffer.byteOffset)
}

/** Makes a system call on this thread and returns its result, or a negated errno (syscall(2)). It blocks the thread for
 * as long as the call does; a string with a NUL in it is cut there, so callers check names first. */
export function syscall(nr: number, ...args: Argument[]): number {
  enter ??= open()
  put(0, nr)
  for (let i = 0; i < 6; i++) put(i + 1, args[i] ?? 0)
  enter(framePointer)
  buffers.length = 0
  return low[0]! + (low[1] === -1 || low[1] === 0 ? 0 : low[1]! * 0x1_0000_0000)
}

/** As `syscall`, but throws a system error named `what` for a negated errno. */
export function must(what: string, nr: number, ...args: Argument[]): number {
  const result = syscall(nr, ...args)
  if (result < 0 && result >= -4095) throw errnoError(-result, what)
  return result
}
