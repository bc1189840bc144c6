import { join } from 'node:path'
import { system } from '../lib/errors.ts'
import { GATE } from '../libcontainer/container.ts'
import { Program } from '../sys/program.ts'
import { sendSignal } from '../sys/signal.ts'
import { Zygote, openEvents } from '../sys/zygote.ts'

/** The numbers under which a monitor has the runtime's own standard streams. */
export const INHERITED = { stdin: 3, stdout: 4, stderr: 5 } as const

/** Starts monitors for one run of the runtime. */
export interface Launcher { zygote: Zygote }

/** `more` descriptors after standard error are passed on too. */
export function openLauncher(more = 0): Launcher {
  return { zygote: Zygote.start({ pass: [0, 1, 2, ...Array.from({ length: more }, (_fd, i) => 3 + i)] }) }
}

/** A program on its way. */
export interface Running {
  pid: number
  monitorPid: number
  exited: Promise<number>
  /** Lets the monitor go, which waits for it after the end. */
  release(): void
}

/** Sends a program. Resolves once its process has been executed, or waits at one of its gates, which `reached` tells;
 * rejects with what failed. */
export async function execute({ zygote }: Launcher, program: Program, events: string, reached?: (gate: number, monitorPid: number) => void): Promise<Running> {
  const started = Promise.withResolvers<number>()
  const exited = Promise.withResolvers<number>()
  exited.promise.catch(() => {}) // whoever only starts does not look
  let monitorPid = 0
  const socket = zygote.run(program, events, (event) => {
    if (event.type === 'failed') started.reject(system(explain(program.describe(event.step, event.errno))))
    else if (event.type === 'started') started.resolve(event.pid)
    else if (event.type === 'exited') exited.resolve(event.status)
    else if (monitorPid === 0) monitorPid = event.value
    else {
      if (event.value === GATE.start) started.resolve(0)
      reached?.(event.value, monitorPid)
    }
  }, () => {
    started.reject(system('the monitor was killed'))
    exited.reject(system('the monitor was killed'))
  })
  const pid = await started.promise
  return {
    pid, monitorPid, exited: exited.promise,
    release() {
      socket.destroy()
      sendSignal(monitorPid, 'SIGUSR2')
    },
  }
}

/** runc's words for a program that is not there. */
function explain(what: string): string {
  const missing = /^exec ("[^"/]*"): no such file or directory$/.exec(what)
  return `unable to start container process: ${missing ? `exec: ${missing[1]}: executable file not found in $PATH` : what}`
}

/** Makes a user namespace with the given maps and keeps it while `work` runs, which gets its path. */
export async function withUserNamespace<T>({ zygote }: Launcher, directory: string, name: string, maps: { uid: string, gid: string }, work: (path: string) => Promise<T>): Promise<T> {
  const program = new Program()
  const events = join(directory, `${name}-events`)
  openEvents(program, events)
  const monitor = program.register()
  program.sys('pre', 'getpid', [], { out: monitor })
  program.emit('pre', monitor)
  program.clone(0x10000000n) // CLONE_NEWUSER
  program.emit('child', 1)
  program.sys('child', 'pause', [])
  const ready = Promise.withResolvers<number>()
  let seen = 0
  let monitorPid = 0
  const socket = zygote.run(program, events, (event) => {
    if (event.type === 'failed') ready.reject(system(`can't make a user namespace: ${program.describe(event.step, event.errno)}`))
    if (event.type !== 'reached') return
    if (seen++ === 0) monitorPid = event.value
    else ready.resolve(monitorPid)
  }, () => ready.reject(system("can't make a user namespace: the monitor was killed")))
  const { readFileSync, writeFileSync } = await import('node:fs')
  await ready.promise
  const pid = Number(readFileSync(`/proc/${monitorPid}/task/${monitorPid}/children`, 'utf8').trim().split(' ')[0])
  try {
    writeFileSync(`/proc/${pid}/uid_map`, maps.uid)
    writeFileSync(`/proc/${pid}/gid_map`, maps.gid)
    return await work(`/proc/${pid}/ns/user`)
  } finally {
    for (const target of [pid, monitorPid]) process.kill(target, 'SIGKILL')
    socket.destroy()
  }
}

