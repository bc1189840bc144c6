import { closeSync } from 'node:fs'
import { parentPort } from 'node:worker_threads'
import { isKind, messageOf, type ErrorKind } from '../lib/errors.ts'
import { dropBuffers } from '../lib/garbage.ts'
import { must } from '../sys/ffi.ts'
import { nr } from '../sys/syscalls.ts'
import { DescriptorBytes, Growth, GrowingBytes } from './bytes.ts'
import { compareTrees, type Change } from './changes.ts'
import { pack, type PackOptions, type Packed } from './pack.ts'
import { replay } from './split.ts'
import { unpack, type Unpacked, type UnpackOptions } from './unpack.ts'

/** Bytes of buffers that wait for the next task. */
const KEPT = 4 << 20

/** What a worker thread is asked. Descriptors are the process's: the worker closes the one that it unpacks from, the caller
 * the others. */
export type Task =
  | { task: 'unpack', fd: number, growth?: SharedArrayBuffer, root: number, options: UnpackOptions }
  | { task: 'pack', fd: number, root: number, options: PackOptions }
  | { task: 'replay', fd: number, root: number, split: string }
  | { task: 'sync', root: number }
  | { task: 'compare', before: number, after: number, ignore: readonly string[] }

export type Reply = { ok: Unpacked | Packed | Change[] | undefined } | { error: { kind: ErrorKind | undefined, message: string, code?: string } }

function perform(task: Task): Unpacked | Packed | Change[] | undefined {
  switch (task.task) {
    case 'compare': return compareTrees(task.before, task.after, task.ignore)
    case 'sync': return void must('syncfs', nr('syncfs'), task.root)
    case 'pack': return pack(task.fd, task.root, task.options)
    case 'replay': return replay(task.fd, task.root, task.split)
    case 'unpack':
      try {
        return unpack(task.growth ? new GrowingBytes(task.fd, new Growth(task.growth)) : new DescriptorBytes(task.fd), task.root, task.options)
      } finally {
        closeSync(task.fd)
      }
  }
}

parentPort?.on('message', (task: Task) => {
  let reply: Reply
  try {
    reply = { ok: perform(task) }
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code
    reply = { error: { kind: isKind(error) ? error.kind : undefined, message: messageOf(error), ...(code && { code }) } }
  }
  parentPort!.postMessage(reply)
  dropBuffers(KEPT)
})
