import type { Readable } from 'node:stream'
import type { Events } from '../engine/events.ts'
import { invalid } from '../lib/errors.ts'
import { familiar, parseReference, withDefaultTag } from '../reference/reference.ts'
import { applyChanges } from './changes.ts'
import { attributesOf, type ImageConfig } from './image.ts'
import { parsePlatform } from './platform.ts'
import type { ImageStore } from './store.ts'

export interface ImportOptions { repo: string, tag: string, message: string, changes: readonly string[], platform: string, signal: AbortSignal }

/** Makes an image of one layer from an archive of a root file system. Returns its id. */
export async function importImage(deps: { images: ImageStore, events: Events }, archive: Readable, options: ImportOptions): Promise<string> {
  const reference = options.repo ? withDefaultTag(parseReference(options.tag ? `${options.repo}:${options.tag}` : options.repo)) : undefined
  if (reference?.digest) throw invalid('cannot import digest reference')
  const platform = parsePlatform(options.platform || 'linux')
  if (platform.os !== 'linux') throw invalid(`operating system is not supported: ${platform.os}`)
  const config = applyChanges({}, options.changes)
  const holder = `/hold/import-${process.pid}-${Date.now()}-${Math.random()}`
  try {
    const layer = await deps.images.layers.register(archive, undefined, holder, { signal: options.signal })
    const created = new Date().toISOString()
    const comment = options.message || 'Imported from -'
    const image: ImageConfig = {
      ...platform, created, comment, config, rootfs: { type: 'layers', diff_ids: [layer.diffId] },
      history: [{ created, comment }],
    }
    const id = deps.images.put(JSON.stringify(image), reference ? { reference } : {})
    deps.events.emit('image', 'import', id, attributesOf(deps.images.get(id), reference ? familiar(reference) : id))
    return id
  } finally {
    await deps.images.layers.release(holder)
  }
}
