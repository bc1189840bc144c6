import { existsSync, mkdirSync, readFileSync, readdirSync, rmSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { codeOf, conflict, invalid, notFound } from '../lib/errors.ts'
import { readIfThere, writeFileAtomic } from '../lib/files.ts'
import { Cgroup, findCgroupTrees, type CgroupTrees } from '../libcontainer/cgroups/cgroup.ts'
import type { Spec } from '../libcontainer/spec.ts'
import { processAt } from '../sys/process.ts'

export type Status = 'creating' | 'created' | 'running' | 'stopped' | 'paused'

/** What is kept of a container: `state.json` in its directory. */
export interface Kept {
  id: string
  bundle: string
  rootfs: string
  pid: number
  /** Of the process, in clock ticks since boot: a pid alone may have gone to another. */
  startTime: string
  created: string
  cgroup: string
  owner: string
  spec: Spec
}

/** The state as runtime-spec has it ("State"). */
export interface State { ociVersion: string, id: string, status: Status, pid?: number, bundle: string, annotations?: Record<string, string> }

export const OCI_VERSION = '1.2.0'

/** A container's directory and what is in it. */
export interface Files { directory: string, state: string, gate: string, events: string, exit: string, pid: string }

export function filesOf(root: string, id: string): Files {
  if (!/^[\w+.-]+$/.test(id) || id === '.' || id === '..' || id.length > 1024) throw invalid(`invalid container ID format: ${JSON.stringify(id)}`)
  const directory = join(root, id)
  const at = (name: string): string => join(directory, name)
  return { directory, state: at('state.json'), gate: at('gate'), events: at('events'), exit: at('exit'), pid: at('pid') }
}

/** Makes the directory of a new container; `conflict` where there is one of that id. */
export function claim(root: string, id: string): Files {
  const files = filesOf(root, id)
  mkdirSync(root, { recursive: true, mode: 0o700 })
  try {
    mkdirSync(files.directory, { mode: 0o711 })
  } catch (error) {
    if (codeOf(error) === 'EEXIST') throw conflict(`container with given ID already exists: ${id}`, error)
    throw error
  }
  return files
}

export function keep(files: Files, kept: Kept): void {
  writeFileAtomic(files.state, JSON.stringify(kept))
}

/** A container by its id; `not-found` where there is none. */
export function load(root: string, id: string): { files: Files, kept: Kept } {
  const files = filesOf(root, id)
  const text = readIfThere(files.state)
  if (text === undefined) throw notFound(`container ${JSON.stringify(id)} does not exist`)
  return { files, kept: JSON.parse(text) as Kept }
}

export function loadAll(root: string): { files: Files, kept: Kept }[] {
  if (!existsSync(root)) return []
  return readdirSync(root).filter((id) => existsSync(join(root, id, 'state.json'))).map((id) => load(root, id))
}

export function alive({ pid, startTime }: Kept): boolean {
  return processAt(pid)?.startTime === startTime
}

export function cgroupOf(kept: Pick<Kept, 'cgroup'>, trees: CgroupTrees = findCgroupTrees()): Cgroup {
  return new Cgroup(trees, kept.cgroup)
}

export function statusOf({ files, kept }: { files: Files, kept: Kept }): Status {
  if (!alive(kept)) return 'stopped'
  if (existsSync(files.gate)) return 'created'
  return cgroupOf(kept).frozen() ? 'paused' : 'running'
}

export function stateOf(kept: Kept, status: Status): State {
  return { ociVersion: OCI_VERSION, id: kept.id, status, ...(status !== 'stopped' && { pid: kept.pid }), bundle: kept.bundle, ...(kept.spec.annotations && { annotations: kept.spec.annotations }) }
}

/** Removes the directory of a container; again, where a monitor that is ending has written to it meanwhile. */
export function forget(files: Files): void {
  rmSync(files.directory, { recursive: true, force: true, maxRetries: 10, retryDelay: 10 })
}

/** The user that a file belongs to, by name. */
export function ownerOf(path: string): string {
  const { uid } = statSync(path)
  return readFileSync('/etc/passwd', 'utf8').split('\n').map((line) => line.split(':')).find((fields) => fields[2] === String(uid))?.[0] ?? `#${uid}`
}
