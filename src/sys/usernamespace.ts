import { closeSync, openSync, readFileSync, readdirSync, statSync, unlinkSync, writeFileSync } from 'node:fs'
import { readIfThere } from '../lib/files.ts'
import { system } from '../lib/errors.ts'
import { must, syscall } from './ffi.ts'
import { detachTree, mapIds } from './mount.ts'
import { CLONE, PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP } from './process.ts'
import { Program } from './program.ts'
import { sendSignal } from './signal.ts'
import { nr } from './syscalls.ts'
import { openEvents, type Zygote } from './zygote.ts'

/** A user namespace without processes; it is there until it is disposed of. */
export interface UserNamespace extends Disposable {
  /** Leads to it from any process of the host. */
  readonly path: string
}

/** Makes a user namespace whose uid_map and gid_map are the given texts (user_namespaces(7)). `events` is the path of a
 * FIFO that is used meanwhile. */
export async function openUserNamespace(zygote: Zygote, events: string, maps: { uid: string, gid: string }): Promise<UserNamespace> {
  const program = new Program()
  openEvents(program, events)
  const monitor = program.register()
  program.sys('pre', 'getpid', [], { out: monitor })
  program.emit('pre', monitor)
  program.clone(BigInt(CLONE.user))
  program.emit('child', 0)
  program.sys('child', 'pause', [])
  const ready = Promise.withResolvers<number>()
  let monitorPid = 0
  const socket = zygote.run(program, events, (event) => {
    if (event.type === 'failed') ready.reject(system(`can't make a user namespace: ${program.describe(event.step, event.errno)}`))
    else if (event.type === 'reached' && event.value) monitorPid = event.value
    else if (event.type === 'reached') ready.resolve(Number(readFileSync(`/proc/${monitorPid}/task/${monitorPid}/children`, 'utf8').trim()))
  }, () => ready.reject(system("can't make a user namespace: the monitor was killed")))
  try {
    const pid = await ready.promise
    try {
      writeFileSync(`/proc/${pid}/uid_map`, maps.uid)
      writeFileSync(`/proc/${pid}/gid_map`, maps.gid)
      const fd = openSync(`/proc/${pid}/ns/user`, 'r')
      return { path: `/proc/${process.pid}/fd/${fd}`, [Symbol.dispose]: () => closeSync(fd) }
    } finally {
      sendSignal(pid, 'SIGKILL')
    }
  } finally {
    sendSignal(monitorPid, 'SIGKILL')
    socket.destroy()
    unlinkSync(events)
  }
}

/** The maps of the user namespace at a path, as a process in it has them. */
export function readIdMaps(path: string): { uid: string, gid: string } {
  const { ino } = statSync(path)
  for (const pid of readdirSync('/proc')) {
    if (!/^\d/.test(pid) || statSync(`/proc/${pid}/ns/user`, { throwIfNoEntry: false })?.ino !== ino) continue
    const [uid, gid] = [readIfThere(`/proc/${pid}/uid_map`), readIfThere(`/proc/${pid}/gid_map`)]
    if (uid && gid) return { uid, gid }
  }
  throw system(`no process is in the user namespace ${path}, so its maps are not known`)
}

/** True where files at a path can be seen with the ids of a user namespace, an open descriptor (mount_setattr(2)). */
export function idMapsWork(path: string, userNamespace: number): boolean {
  const tree = detachTree(path)
  try {
    return mapIds(tree, userNamespace) === 0
  } finally {
    closeSync(tree)
  }
}

/** Runs `work` while this thread makes files for other ids, with all its capabilities (setfsuid(2), capabilities(7)): to
 * be done on a thread of one's own. */
export function actAs<T>({ uid, gid }: { uid: number, gid: number }, work: () => T): T {
  must('keep capabilities', nr('prctl'), PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP, 0, 0, 0)
  try {
    syscall(nr('setfsgid'), gid)
    syscall(nr('setfsuid'), uid)
    return work()
  } finally {
    syscall(nr('setfsuid'), 0)
    syscall(nr('setfsgid'), 0)
    must('let capabilities follow the user', nr('prctl'), PR_SET_SECUREBITS, 0, 0, 0, 0)
  }
}
