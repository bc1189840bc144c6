import { AT_FDCWD, O_CLOEXEC } from './fs.ts'
import { CLONE } from './process.ts'
import { runSteps, type Zygote } from './zygote.ts'

const STATX_MNT_ID = 0x1000
const MNT_ID_AT = 144 // stx_mnt_id in struct statx

/** True where this process's root is that of its mount namespace, rather than a directory that it was put into by
 * chroot(2). `directory` is where a FIFO is meanwhile. */
export async function rootIsNamespaces(zygote: Zygote, directory: string): Promise<boolean> {
  const [ids] = await runSteps(zygote, directory, "can't find out the root", (program) => {
    const namespace = program.register()
    const [before, after] = [program.space(256), program.space(256)]
    const look = (to: typeof before): void => program.sys('pre', 'statx', [AT_FDCWD, '/', 0, STATX_MNT_ID, to], { doing: 'look at /' })
    look(before)
    program.sys('pre', 'openat', [AT_FDCWD, '/proc/self/ns/mnt', O_CLOEXEC], { out: namespace, doing: 'open the mount namespace' })
    program.sys('pre', 'setns', [namespace, CLONE.mount], { doing: 'enter the mount namespace' }) // at its root
    look(after)
    const idIn = (status: typeof before) => ({ kind: 'word', at: { ...status, offset: status.offset + MNT_ID_AT } }) as const
    program.emit('pre', idIn(before), idIn(after))
  })
  return ids!.value === ids!.detail
}
