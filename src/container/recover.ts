import { Cgroup } from '../libcontainer/cgroups/cgroup.ts'
import type { Container } from './container.ts'
import type { ContainerDeps } from './deps.ts'
import { followProcess, settleExit } from './exit.ts'
import { watchHealth } from './health.ts'
import { NEVER, isRunning } from './record.ts'
import { openContainerLog } from './logs.ts'
import { restoreNetworks } from './network.ts'
import { cgroupPathOf, launch } from './start.ts'

/** Takes up a container after the engine was away: one whose process lives goes on; the end of one that ended
 * meanwhile, and what it said until then, is recorded. */
export async function recoverContainer(deps: ContainerDeps, container: Container): Promise<void> {
  const { record } = container
  const { process: live, exit, startedAt } = deps.execDriver.recover(record.id)
  container.cgroup = new Cgroup(deps.trees, cgroupPathOf(deps, record))
  const began = record.state.startedAt
  // the engine may have been killed before it could say so
  if (live && startedAt && (began === NEVER || Date.parse(began) < startedAt.getTime() - 1000)) record.state.startedAt = startedAt.toISOString()
  if (live) {
    container.began = performance.now() - Math.max(0, Date.now() - Date.parse(record.state.startedAt))
    await openContainerLog(deps, container, { running: true })
    try {
      await restoreNetworks(deps, container, live)
    } catch (error) {
      deps.warn(`the networks of container ${container.id} could not be restored`, error)
    }
    if (!exit) {
      record.state = { ...record.state, status: container.cgroup.frozen() ? 'paused' : 'running', pid: live.pid }
      if (record.state.status === 'running') watchHealth(deps, container, { resume: true })
      deps.containers.save(container)
    }
    const ended = followProcess(deps, container, live, launch, exit?.at.toISOString())
    return exit ? await ended : undefined
  }
  using _held = await deps.lock.hold(container.id)
  record.endpoints = []
  if (isRunning(record) || exit) {
    const finishedAt = (exit?.at ?? new Date()).toISOString()
    if (record.state.startedAt === NEVER) record.state.startedAt = finishedAt
    return await settleExit(deps, container, { exitCode: exit?.status ?? 255, error: '', finishedAt }, launch)
  }
  container.cgroup.remove()
  container.cgroup = undefined
  if (record.state.status === 'restarting') {
    record.state.status = 'exited'
    deps.containers.save(container)
  }
  deps.execDriver.release(record.id)
}
