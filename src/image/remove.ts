import { conflict } from '../lib/errors.ts'
import { shortId } from '../lib/ids.ts'
import type { Events } from '../engine/events.ts'
import { familiar, parseReference, repositoryOf, withDefaultTag, type Reference } from '../reference/reference.ts'
import { attributesOf, type Image } from './image.ts'
import type { ImageStore } from './store.ts'

/** A container made of an image. */
export interface ImageUser { id: string, running: boolean }

export interface RemoveDeps { images: ImageStore, events: Events, usersOf: (image: string) => ImageUser[] }

/** Takes an image's name away and, with the last one, the image and the layers that only it needs. Returns the rows of
 * the API's answer. */
export async function removeImage(deps: RemoveDeps, text: string, options: { force: boolean, prune: boolean }): Promise<({ Untagged: string } | { Deleted: string })[]> {
  const { images } = deps
  const image = images.resolve(text)
  const rows: ({ Untagged: string } | { Deleted: string })[] = []
  const { tags, digests } = images.namesOf(image.id)
  const names = [...tags, ...digests]
  const untag = (name: string): void => {
    images.untag(parseReference(name))
    deps.events.emit('image', 'untag', image.id, attributesOf(image, image.id))
    rows.push({ Untagged: name })
  }
  if (isIdOf(image, text)) {
    const repositories = new Set(names.map((name) => repositoryOf(parseReference(name))))
    if (repositories.size > 1 && !options.force) throw conflict(`conflict: unable to delete ${shortId(image.id)} (must be forced) - image is referenced in multiple repositories`)
    refuseUsed(deps, image, options.force)
    names.forEach(untag)
  } else {
    const wanted = withDefaultTag(parseReference(text))
    const going = goingWith(wanted, names)
    const last = going.length === names.length
    if (last && !options.force) {
      const user = deps.usersOf(image.id)[0]
      if (user) throw conflict(`conflict: unable to remove repository reference ${JSON.stringify(text)} (must force) - container ${shortId(user.id)} is using its referenced image ${shortId(image.id)}`)
    }
    going.forEach(untag)
    if (!last || deps.usersOf(image.id).length) return rows
  }
  await erase(deps, image, options.prune, rows)
  return rows
}

/** A name, and with the last tag of a repository its digests. */
function goingWith(wanted: Reference, names: readonly string[]): string[] {
  const name = familiar(wanted)
  const others = names.filter((other) => other !== name && repositoryOf(parseReference(other)) === repositoryOf(wanted))
  const onlyDigests = !wanted.digest && others.every((other) => parseReference(other).digest)
  return [name, ...(onlyDigests ? others : [])]
}

function isIdOf(image: Image, text: string): boolean {
  return image.id === text || image.id.startsWith(`sha256:${text.replace(/^sha256:/, '')}`) && /^(sha256:)?[a-f0-9]+$/.test(text)
}

function refuseUsed(deps: RemoveDeps, image: Image, force: boolean): void {
  const children = deps.images.children(image.id)
  if (children.length) throw conflict(`conflict: unable to delete ${shortId(image.id)} (cannot be forced) - image has dependent child images`)
  for (const { id, running } of deps.usersOf(image.id)) {
    if (running) throw conflict(`conflict: unable to delete ${shortId(image.id)} (cannot be forced) - image is being used by running container ${shortId(id)}`)
    if (!force) throw conflict(`conflict: unable to delete ${shortId(image.id)} (must be forced) - image is being used by stopped container ${shortId(id)}`)
  }
}

async function erase(deps: RemoveDeps, image: Image, prune: boolean, rows: ({ Untagged: string } | { Deleted: string })[]): Promise<void> {
  const { images } = deps
  if (images.children(image.id).length) return
  const { parent } = image
  const layers = await images.remove(image.id)
  deps.events.emit('image', 'delete', image.id, attributesOf(image, image.id))
  rows.push({ Deleted: image.id }, ...layers.map((layer) => ({ Deleted: layer })))
  if (!prune || !parent || !images.has(parent)) return
  const names = images.namesOf(parent)
  if (names.tags.length || names.digests.length || deps.usersOf(parent).length) return
  await erase(deps, images.get(parent), prune, rows)
}
