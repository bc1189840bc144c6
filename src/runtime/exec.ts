import { writeFileSync, closeSync } from 'node:fs'
import { randomBytes } from 'node:crypto'
import { join } from 'node:path'
import { invalid } from '../lib/errors.ts'
import { TERMINAL_FD, assembleExec, type Stdio } from '../libcontainer/container.ts'
import type { ProcessSpec } from '../libcontainer/spec.ts'
import { takeDescriptor } from '../sys/fs.ts'
import { sendDescriptor } from '../sys/terminal.ts'
import type { Zygote } from '../sys/zygote.ts'
import { namespacesOf } from './hooks.ts'
import { INHERITED, execute, type Running } from './launch.ts'
import { cgroupOf, load, statusOf, type Kept } from './state.ts'

export interface ExecOptions {
  root: string
  id: string
  /** What the process is like, where the container's own is not to be followed. */
  process: (own: ProcessSpec) => ProcessSpec
  consoleSocket?: string
  pidFile?: string
  preserveFds: number
}

/** Executes a further process in a running container. Its terminal, if it has one and no socket is to get it, is
 * returned. */
export async function execInContainer(zygote: Zygote, options: ExecOptions): Promise<{ running: Running, terminal?: number, process: ProcessSpec }> {
  const { files, kept } = load(options.root, options.id)
  const status = statusOf({ files, kept })
  if (status !== 'running' && status !== 'created') throw invalid(`cannot exec in a ${status} container`)
  const process = options.process(ownProcess(kept))
  const run = join(files.directory, `exec-${randomBytes(4).toString('hex')}`)
  const stdio: Stdio = process.terminal ? { kind: 'terminal', rows: process.consoleSize?.height ?? 0, columns: process.consoleSize?.width ?? 0 } : { kind: 'inherit', ...INHERITED, more: options.preserveFds }
  const seccomp = kept.spec.linux?.seccomp
  const program = assembleExec({ pid: kept.pid, namespaces: namespacesOf(kept), cgroup: cgroupOf(kept), process, stdio, files: { events: `${run}-events`, exit: `${run}-exit`, pid: `${run}-pid` }, ...(seccomp && { seccomp }) })
  const running = await execute(zygote, program, `${run}-events`)
  if (options.pidFile) writeFileSync(options.pidFile, String(running.pid))
  if (!process.terminal) return { running, process }
  const terminal = takeDescriptor(running.monitorPid, TERMINAL_FD)
  if (!options.consoleSocket) return { running, terminal, process }
  sendDescriptor(options.consoleSocket, terminal)
  closeSync(terminal)
  return { running, process }
}

function ownProcess({ spec }: Kept): ProcessSpec {
  return { ...spec.process!, terminal: false }
}
