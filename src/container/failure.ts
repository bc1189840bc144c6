import { BerthError } from '../lib/errors.ts'
import type { ProcessFailure } from '../execdriver/driver.ts'

/** The errors of a start that carry an exit code, as Docker's have it. */
export class StartError extends BerthError {
  readonly exitCode: number

  constructor(kind: 'invalid' | 'system', message: string, exitCode: number) {
    super(kind, message)
    this.exitCode = exitCode
  }
}

/** Puts a process that could not be executed into Docker's words, from which its client makes exit codes 126 and 127. */
export function explainFailure(prefix: string, command: string, { what, errno, atExec, notFound }: ProcessFailure): StartError {
  const quoted = JSON.stringify(command)
  if (!atExec) return new StartError('system', `${prefix}${what}: unknown`, 128)
  if (notFound && errno === 'ENOENT')
    return new StartError('invalid', `${prefix}exec: ${quoted}: ${command.includes('/') ? `stat ${command}: no such file or directory` : 'executable file not found in $PATH'}: unknown`, 127)
  if (errno === 'EACCES') return new StartError('invalid', `${prefix}exec: ${quoted}: permission denied: unknown`, 126)
  if (errno === 'ENOENT') return new StartError('invalid', `${prefix}exec ${command}: no such file or directory: unknown`, 127)
  return new StartError('invalid', `${prefix}${what.replace(/^exec /, 'exec: ')}: unknown`, errno === 'ENOEXEC' ? 126 : 128)
}
