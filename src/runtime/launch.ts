import { system } from '../lib/errors.ts'
import { GATE } from '../libcontainer/container.ts'
import type { Program } from '../sys/program.ts'
import { sendSignal } from '../sys/signal.ts'
import { Zygote } from '../sys/zygote.ts'

/** The numbers under which a monitor has the runtime's own standard streams. */
export const INHERITED = { stdin: 3, stdout: 4, stderr: 5 } as const

/** Starts what makes the processes of one run of the runtime; `more` descriptors after standard error are passed on too. */
export function openZygote(more = 0): Zygote {
  return Zygote.start({ pass: [0, 1, 2, ...Array.from({ length: more }, (_fd, i) => 3 + i)] })
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
export async function execute(zygote: Zygote, program: Program, events: string, reached?: (gate: number, monitorPid: number) => void): Promise<Running> {
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
