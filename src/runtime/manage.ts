import { BerthError, invalid, system } from '../lib/errors.ts'
import type { CgroupStats } from '../libcontainer/cgroups/files.ts'
import type { Resources } from '../libcontainer/spec.ts'
import { sendSignal } from '../sys/signal.ts'
import { runHooks } from './hooks.ts'
import { alive, cgroupOf, filesOf, forget, keep, load, stateOf, statusOf, type State } from './state.ts'

/** A container's state, as `state` prints it. */
export function readState(root: string, id: string): State {
  const { files, kept } = load(root, id)
  return stateOf(kept, statusOf({ files, kept }))
}

/** Sends a signal to a container's process, or to all of them. */
export function killContainer(root: string, id: string, signal: number, all: boolean): void {
  const { files, kept } = load(root, id)
  const cgroup = cgroupOf(kept)
  if (all) return cgroup.kill(signal)
  const status = statusOf({ files, kept })
  if (status === 'stopped') throw invalid('container not running')
  sendSignal(kept.pid, signal)
  if (status === 'paused' && signal === 9) void cgroup.freeze(false)
}

/** Removes what is left of a stopped container; with `force` a running one is killed first, and one that is not there
 * is no error. */
export async function deleteContainer(root: string, id: string, force: boolean): Promise<void> {
  let found: ReturnType<typeof load>
  try {
    found = load(root, id)
  } catch (error) {
    if (force && error instanceof BerthError && error.kind === 'not-found') return forget(filesOf(root, id))
    throw error
  }
  const { files, kept } = found
  const status = statusOf(found)
  if (status !== 'stopped' && status !== 'created' && !force) throw invalid(`cannot delete container ${id} that is not stopped: ${status}`)
  const cgroup = cgroupOf(kept)
  if (alive(kept)) sendSignal(kept.pid, 'SIGKILL')
  cgroup.kill('SIGKILL')
  if (status === 'paused') await cgroup.freeze(false)
  for (let tries = 0; tries < 200 && (alive(kept) || !cgroup.remove()); tries++) await new Promise((resolve) => setTimeout(resolve, 10))
  if (alive(kept)) throw system(`container ${id} does not end`)
  forget(files)
  try {
    runHooks(kept, ['poststop'], 'stopped')
  } catch (error) {
    process.stderr.write(`${(error as Error).message}\n`) // runtime-spec: logged, and the rest goes on
  }
}

/** Freezes or thaws a container's processes. */
export async function setPaused(root: string, id: string, paused: boolean): Promise<void> {
  const found = load(root, id)
  const status = statusOf(found)
  if (paused && status !== 'running' && status !== 'created') throw invalid(`container not running or created: ${status}`)
  if (!paused && status !== 'paused') throw invalid('container not paused')
  await cgroupOf(found.kept).freeze(paused)
}

/** The processes in a container. */
export function processesOf(root: string, id: string): number[] {
  return cgroupOf(load(root, id).kept).processes()
}

/** Changes limits; those that are not named stay. */
export function updateContainer(root: string, id: string, change: Resources): void {
  const { files, kept } = load(root, id)
  if (statusOf({ files, kept }) === 'stopped') throw invalid('container not running')
  const before = kept.spec.linux?.resources ?? {}
  const resources: Resources = { ...before, ...change, memory: { ...before.memory, ...change.memory }, cpu: { ...before.cpu, ...change.cpu }, blockIO: { ...before.blockIO, ...change.blockIO } }
  cgroupOf(kept).update(change)
  kept.spec.linux = { ...kept.spec.linux, resources }
  keep(files, kept)
}

/** The figures of `events --stats`, laid out as runc's. */
export function statsOf(root: string, id: string): object {
  const { files, kept } = load(root, id)
  if (statusOf({ files, kept }) === 'stopped') throw invalid(`container with id ${id} is not running`)
  return { type: 'stats', id, data: figures(cgroupOf(kept).stats()) }
}

function figures({ cpu, memory, pids, blkio }: CgroupStats): object {
  const io = (entries: CgroupStats['blkio']['serviced']): object[] => entries.map(({ major, minor, op, value }) => ({ major, minor, op, value }))
  return {
    cpu: { usage: { total: cpu.total, kernel: cpu.kernel, user: cpu.user, percpu: cpu.perCpu }, throttling: { periods: cpu.periods, throttledPeriods: cpu.throttledPeriods, throttledTime: cpu.throttledTime } },
    memory: { usage: { limit: memory.limit, usage: memory.usage, max: memory.maxUsage, failcnt: memory.failures }, raw: memory.stats },
    pids: { current: pids.current, limit: pids.limit }, blkio: { ioServiceBytesRecursive: io(blkio.serviceBytes), ioServicedRecursive: io(blkio.serviced) },
  }
}
