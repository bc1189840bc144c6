import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readIfThere } from '../lib/files.ts'

/** The profile of containers that ask for no other. */
export const DEFAULT_PROFILE = 'berth-default'

/** True where AppArmor is in force (kernel: admin-guide/LSM/apparmor). */
export function apparmorEnabled(): boolean {
  return readIfThere('/sys/module/apparmor/parameters/enabled')?.trim() === 'Y'
}

/** A container's processes may do what its other limits allow, but neither mount nor write what tunes the kernel, and
 * signals and traces stay among containers (apparmor.d(5)). */
const policy = `profile ${DEFAULT_PROFILE} flags=(attach_disconnected,mediate_deleted) {
  network,
  capability,
  file,
  umount,
  signal (receive) peer=unconfined,
  signal (send,receive) peer=${DEFAULT_PROFILE},
  ptrace (trace,read,tracedby,readby) peer=${DEFAULT_PROFILE},

  deny mount,
  deny /proc/* w,
  deny /proc/{[^1-9],[^1-9][^0-9],[^1-9s][^0-9y][^0-9s],[^1-9][^0-9][^0-9][^0-9/]*}/** w,
  deny /proc/sys/[^k]** w,
  deny /proc/sys/kernel/{?,??,[^s][^h][^m]**} w,
  deny /proc/{sysrq-trigger,kcore,mem,kmem} rwklx,
  deny /sys/[^f]*/** wklx,
  deny /sys/f[^s]*/** wklx,
  deny /sys/fs/[^c]*/** wklx,
  deny /sys/fs/c[^g]*/** wklx,
  deny /sys/fs/cg[^r]*/** wklx,
  deny /sys/{firmware,devices/virtual/powercap,kernel/security}/** rwklx,
}
`

/** Loads the default profile by apparmor_parser(8), unless the kernel has it. False where there is no parser. */
export async function loadDefaultProfile(): Promise<boolean> {
  if (readIfThere('/sys/kernel/security/apparmor/profiles')?.includes(`${DEFAULT_PROFILE} (`)) return true
  const parser = spawn('apparmor_parser', ['--replace', '--skip-cache', '--quiet'], { stdio: ['pipe', 'ignore', 'ignore'] })
  parser.stdin.on('error', () => {}) // its exit status tells
  parser.stdin.end(policy)
  try {
    const [status] = await once(parser, 'exit') as [number | null]
    return status === 0
  } catch {
    return false // it is not installed
  }
}
