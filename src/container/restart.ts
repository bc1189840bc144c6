import type { Container } from './container.ts'
import type { ContainerDeps } from './deps.ts'

const FIRST_DELAY = 100
const MAX_DELAY = 60_000
/** A run of this length makes the next delay the first again. */
const LONG_RUN = 10_000

/** Starts the process of a container whose lock is held. */
export type Launch = (deps: ContainerDeps, container: Container) => Promise<void>

const delays = new WeakMap<Container, number>()

/** Decides by the restart policy whether a container that has exited starts again, and if so arranges it. */
export function scheduleRestart(deps: ContainerDeps, container: Container, exitCode: number, launch: Launch): boolean {
  if (!shouldRestart(container, exitCode) || deps.isStopping()) return false
  const delay = performance.now() - container.began >= LONG_RUN ? FIRST_DELAY : Math.min((delays.get(container) ?? FIRST_DELAY / 2) * 2, MAX_DELAY)
  delays.set(container, delay)
  const timer = setTimeout(() => {
    container.cancelRestart = undefined
    void restart(deps, container, launch)
  }, delay)
  container.cancelRestart = () => {
    clearTimeout(timer)
    container.cancelRestart = undefined
    delays.delete(container)
  }
  return true
}

function shouldRestart(container: Container, exitCode: number): boolean {
  const { RestartPolicy } = container.record.host
  if (container.stopping || container.record.manuallyStopped) return false
  if (RestartPolicy.Name === 'always' || RestartPolicy.Name === 'unless-stopped') return true
  if (RestartPolicy.Name !== 'on-failure' || exitCode === 0) return false
  return RestartPolicy.MaximumRetryCount === 0 || container.record.restartCount < RestartPolicy.MaximumRetryCount
}

async function restart(deps: ContainerDeps, container: Container, launch: Launch): Promise<void> {
  using _held = await deps.lock.hold(container.id)
  if (container.record.state.status !== 'restarting' || container.removed || deps.isStopping()) return
  container.record.restartCount++
  try {
    await launch(deps, container)
  } catch (error) {
    deps.warn(`container ${container.id} could not be restarted`, error)
  }
}
