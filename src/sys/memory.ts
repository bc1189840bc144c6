import { dlopen } from 'node:ffi'

const INTERVAL = 1000

let trim: ((keep: bigint) => number) | null | undefined
let last = 0

function open(): typeof trim {
  try {
    return dlopen('libc.so.6', { malloc_trim: { arguments: ['uint64'], return: 'int32' } }).functions.malloc_trim as (keep: bigint) => number
  } catch {
    return null // another C library, which has no such function
  }
}

/** Gives the kernel back what the C library keeps of memory that was freed (malloc_trim(3)), at most once a second: layers go
 * through buffers of all sizes, and leave holes. */
export function giveMemoryBack(): void {
  const now = performance.now()
  if (now - last < INTERVAL) return
  last = now
  trim = trim === undefined ? open() : trim
  trim?.(0n)
}
