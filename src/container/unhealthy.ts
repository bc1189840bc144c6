import { isKind } from '../lib/errors.ts'
import type { Container } from './container.ts'
import type { ContainerDeps } from './deps.ts'
import { actionOf } from './healthcheck.ts'
import { killContainer, restartContainer, stopContainer } from './stop.ts'

/** Does with a container that has become unhealthy what it was made for. A kill leaves the rest to its restart policy. */
export async function actOnUnhealthy(deps: ContainerDeps, container: Container): Promise<void> {
  const abort = new AbortController().signal
  try {
    switch (actionOf(container.record.config)) {
      case 'none': return
      case 'kill': return await killContainer(deps, container, 'SIGKILL', { byPerson: false })
      case 'stop': return await stopContainer(deps, container, { abort })
      case 'restart': {
        const count = container.record.restartCount
        await restartContainer(deps, container, { abort })
        container.record.restartCount = count + 1
        deps.containers.save(container)
      }
    }
  } catch (error) {
    if (!isKind(error, 'conflict') && !isKind(error, 'not-modified')) deps.warn(`container ${container.id} is unhealthy, and nothing could be done about it`, error)
  }
}
