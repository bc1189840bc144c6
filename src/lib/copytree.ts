import { spawn } from 'node:child_process'
import { system } from './errors.ts'

/** Copies what a directory has into another, which is made where it is not there: owners, modes, times, links, attributes
 * and holes are kept; blocks are shared where the file system can (cp(1)). */
export async function copyTree(from: string, to: string, signal?: AbortSignal): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  const child = spawn('cp', ['-a', '--reflink=auto', `${from}/.`, to], { stdio: ['ignore', 'ignore', 'pipe'], env: { PATH: process.env['PATH'], LC_ALL: 'C' }, ...(signal && { signal }) })
  let said = ''
  child.stderr.on('data', (chunk: Buffer) => (said += said.length < 4096 ? chunk.toString() : ''))
  const fail = (why: string, cause?: unknown): void => reject(signal?.aborted ? signal.reason : system(`can't copy ${from}: ${why}`, cause))
  child.once('error', (error) => fail(error.message, error))
  child.once('close', (status) => (status === 0 ? resolve() : fail(said.trim() || `cp ended with status ${status}`)))
  await promise
}
