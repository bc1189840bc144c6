import type { LiveProcess } from '../execdriver/driver.ts'
import type { Container } from './container.ts'
import type { ContainerDeps } from './deps.ts'
import { leaveNetworks, networkEvents } from './network.ts'
import { removeContainer } from './remove.ts'
import { scheduleRestart, type Launch } from './restart.ts'
import { leaveMounts } from './volumes.ts'

const OUTPUT_GRACE = 10_000

/** What is known of a container's end. */
export interface Exit { exitCode: number, error: string, finishedAt: string }

/** Connects a process that has begun to its container's streams, and does what its end asks for. Resolves when that is
 * done; never rejects. `launch` starts it again where the restart policy says so. */
export async function followProcess(deps: ContainerDeps, container: Container, live: LiveProcess, launch: Launch, finishedAt?: string): Promise<void> {
  const outputs = live.outputs.map(({ stream, from }) => container.output.read(from, stream))
  container.process = live
  container.stdin.open(live.stdin, live.endInput)
  const status = await live.ended
  container.process = undefined
  container.stopHealth?.()
  const exit: Exit = { exitCode: status ?? 137, error: status === undefined ? 'the monitor was killed' : '', finishedAt: finishedAt ?? new Date().toISOString() }
  if (container.record.host.PidMode) container.cgroup?.kill('SIGKILL') // no pid namespace of its own took the others along
  await Promise.race([Promise.all(outputs), new Promise((resolve) => setTimeout(resolve, OUTPUT_GRACE).unref())])
  try {
    using _held = await deps.lock.hold(container.id)
    deps.failpoint('exit.seen')
    await settleExit(deps, container, exit, launch)
  } catch (error) {
    deps.warn(`container ${container.id} has exited, but its end could not be recorded`, error)
  }
  live.release()
}

/** Records an exit, frees what the run had, and does what the restart policy says. The caller holds the lock. */
export async function settleExit(deps: ContainerDeps, container: Container, exit: Exit, launch: Launch): Promise<void> {
  const { record } = container
  let oomKilled = false
  try {
    oomKilled = (container.cgroup?.oomKills() ?? 0) > 0
    await container.cgroup?.removeSoon()
  } catch (error) {
    deps.warn(`can't remove the cgroup of container ${record.id}`, error)
  }
  container.cgroup = undefined
  const left = await leaveNetworks(deps, container)
  const restarting = scheduleRestart(deps, container, exit.exitCode, launch)
  record.state = { ...record.state, ...exit, status: restarting ? 'restarting' : 'exited', pid: 0, oomKilled, ...(record.state.health && { health: { ...record.state.health, status: 'unhealthy' } }) } // as Docker has it, of what does not run
  deps.containers.save(container)
  deps.failpoint('exit.recorded')
  deps.execDriver.release(record.id)
  container.stdin.disconnect()
  container.closeLog()
  container.output.end()
  if (oomKilled) deps.events.emit('container', 'oom', record.id, container.attributes())
  deps.events.emit('container', 'die', record.id, { ...container.attributes(), exitCode: String(exit.exitCode) })
  networkEvents(deps, 'disconnect', record, left)
  await leaveMounts(deps, record)
  container.notify('next-exit')
  if (!restarting) container.notify('not-running')
  if (record.host.AutoRemove && !deps.isStopping()) await removeContainer(deps, container, { force: true, volumes: true, locked: true })
}
