import { unlinkSync } from 'node:fs'
import { system } from '../lib/errors.ts'
import { AT_FDCWD, O_CLOEXEC } from './fs.ts'
import { CLONE } from './process.ts'
import { Program } from './program.ts'
import { openEvents, type Zygote } from './zygote.ts'

const STATX_MNT_ID = 0x1000
const MNT_ID_AT = 144 // stx_mnt_id in struct statx

/** True where this process's root is that of its mount namespace, rather than a directory that it was put into by
 * chroot(2). `events` is the path of a FIFO that is used meanwhile. */
export async function rootIsNamespaces(zygote: Zygote, events: string): Promise<boolean> {
  const program = new Program()
  openEvents(program, events)
  const namespace = program.register()
  const [before, after] = [program.space(256), program.space(256)]
  const look = (to: typeof before): void => program.sys('pre', 'statx', [AT_FDCWD, '/', 0, STATX_MNT_ID, to], { doing: 'look at /' })
  look(before)
  program.sys('pre', 'openat', [AT_FDCWD, '/proc/self/ns/mnt', O_CLOEXEC], { out: namespace, doing: 'open the mount namespace' })
  program.sys('pre', 'setns', [namespace, CLONE.mount], { doing: 'enter the mount namespace' }) // at its root
  look(after)
  const idIn = (status: typeof before) => ({ kind: 'word', at: { ...status, offset: status.offset + MNT_ID_AT } }) as const
  program.emit('pre', idIn(before), idIn(after))
  try {
    return await new Promise((resolve, reject) => {
      zygote.run(program, events, (event) => {
        if (event.type === 'failed') reject(system(`can't find out the root: ${program.describe(event.step, event.errno)}`))
        if (event.type === 'reached') resolve(event.value === event.detail)
      }, () => reject(system("can't find out the root: the monitor was killed")))
    })
  } finally {
    unlinkSync(events)
  }
}
