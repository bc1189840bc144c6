import { passesLabels } from '../api/filters.ts'
import { isKind } from '../lib/errors.ts'
import { parseTime } from '../lib/units.ts'
import type { ContainerDeps } from './deps.ts'
import { removeContainer } from './remove.ts'

/** Removes the containers that don't run and that the filters (`until`, `label`, `label!`) let through. Returns their ids
 * and how many bytes their own layers had. */
export async function pruneContainers(deps: ContainerDeps, filters: ReadonlyMap<string, string[]>): Promise<{ deleted: string[], space: number }> {
  const until = filters.get('until')?.[0]
  const before = until === undefined ? Infinity : parseTime(until, Date.now())
  const deleted: string[] = []
  let space = 0
  for (const container of deps.containers.list()) {
    const { record } = container
    if (container.running || record.state.status === 'restarting' || Date.parse(record.created) > before || !passesLabels(record.config.Labels, filters)) continue
    try {
      const size = await deps.layers.writableSize(container.id)
      await removeContainer(deps, container, { force: false })
      space += size
      deleted.push(container.id)
    } catch (error) {
      if (!isKind(error, 'conflict')) throw error // it was started meanwhile: then it stays
    }
  }
  deps.events.emit('container', 'prune', '', { reclaimed: String(space) })
  return { deleted, space }
}
