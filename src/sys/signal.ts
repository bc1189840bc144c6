import { codeOf } from '../lib/errors.ts'

/** Sends a signal to one process (kill(2)). One that has ended meanwhile is no error; 0, which would mean this process's
 * own group, is a pid that is not known. */
export function sendSignal(pid: number, signal: NodeJS.Signals | number): void {
  if (pid === 0) return
  try {
    process.kill(pid, signal)
  } catch (error) {
    if (codeOf(error) !== 'ESRCH') throw error
  }
}
