import { passesLabels } from '../api/filters.ts'
import { isKind } from '../lib/errors.ts'
import { parseTime } from '../lib/units.ts'
import { ZERO_TIME, type Image } from './image.ts'
import { flagOf } from './list.ts'
import { removeImage, type RemoveDeps } from './remove.ts'

/** Removes the images without a container that the filters (`dangling`, `until`, `label`, `label!`) let through. */
export async function pruneImages(deps: RemoveDeps, filters: Map<string, string[]>): Promise<object> {
  const { images } = deps
  const danglingOnly = flagOf(filters, 'dangling') ?? true
  const until = filters.get('until')?.[0]
  const deleted: object[] = []
  let space = 0
  const names = images.names()
  // children before their parents, which are kept for them
  for (const image of images.list().toSorted((a, b) => depth(deps, b) - depth(deps, a))) {
    if (!images.has(image.id)) continue // it went with its child
    const name = names.get(image.id)
    if (danglingOnly && name || deps.usersOf(image.id).length || images.children(image.id).length) continue
    if (until !== undefined && Date.parse(image.config.created ?? ZERO_TIME) > parseTime(until, Date.now())) continue
    if (!passesLabels(image.config.config?.Labels ?? {}, filters)) continue
    const sizes = new Map(images.layers.chain(image.topLayer).map(({ chainId, size }) => [chainId, size]))
    try {
      const gone = await removeImage(deps, image.id, { force: true, prune: true })
      deleted.push(...gone)
      for (const row of gone) if ('Deleted' in row) space += sizes.get(row.Deleted) ?? 0 // other images stand on the rest
    } catch (error) {
      if (!isKind(error, 'conflict')) throw error // it got a user meanwhile: then it stays
    }
  }
  if (!until && !filters.has('label') && !filters.has('label!')) space += images.layers.pruneBlobs()
  deps.events.emit('image', 'prune', '', { reclaimed: String(space) })
  return { ImagesDeleted: deleted.length ? deleted : null, SpaceReclaimed: space }
}


/** How many images an image stands on. */
function depth({ images }: RemoveDeps, image: Image): number {
  let depth = 0
  for (let at = image.parent; at !== undefined && images.has(at); at = images.get(at).parent) depth++
  return depth
}
