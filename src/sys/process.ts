import { readIfThere } from '../lib/files.ts'

/** Flags of clone(2), unshare(2) and setns(2), by namespace. */
export const CLONE = {
  mount: 0x00020000, cgroup: 0x02000000, uts: 0x04000000, ipc: 0x08000000, user: 0x10000000, pid: 0x20000000, network: 0x40000000, time: 0x80,
} as const

/** prctl(2) with PR_SET_SECUREBITS: capabilities stay when the user for files changes (capabilities(7)). */
export const PR_SET_SECUREBITS = 28
export const SECBIT_NO_SETUID_FIXUP = 4

/** A process that runs: its name, and when it began, in clock ticks since boot (proc_pid_stat(5), comm and starttime).
 * Undefined for one that is not there, or has ended and waits for its parent. */
export function processAt(pid: number): { name: string, startTime: string } | undefined {
  const stat = pid > 0 ? readIfThere(`/proc/${pid}/stat`) : undefined
  if (!stat) return undefined
  const end = stat.lastIndexOf(')') // the name may have any character
  const fields = stat.slice(end + 2).split(' ')
  return 'ZX'.includes(fields[0]!) ? undefined : { name: stat.slice(stat.indexOf('(') + 1, end), startTime: fields[19]! }
}
