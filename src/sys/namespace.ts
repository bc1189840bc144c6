import { closeSync, openSync } from 'node:fs'
import { must } from './ffi.ts'
import { CLONE } from './process.ts'
import { nr } from './syscalls.ts'

/** Runs `work` on this thread in the network namespace of a process (setns(2)). It must be synchronous: what another
 * thread does for it happens in this process's own. */
export function inNetworkOf<T>(pid: number, work: () => T): T {
  const own = openSync('/proc/thread-self/ns/net', 'r')
  try {
    const other = openSync(`/proc/${pid}/ns/net`, 'r')
    try {
      must('enter a network namespace', nr('setns'), other, CLONE.network)
    } finally {
      closeSync(other)
    }
    try {
      return work()
    } finally {
      must('come back from a network namespace', nr('setns'), own, CLONE.network)
    }
  } finally {
    closeSync(own)
  }
}
