import { passesLabels } from '../api/filters.ts'
import { invalid } from '../lib/errors.ts'
import { parseTime } from '../lib/units.ts'
import { familiar, parseReference, repositoryOf } from '../reference/reference.ts'
import type { Image } from './image.ts'
import type { ImageStore } from './store.ts'

export const listFilters = ['dangling', 'label', 'before', 'since', 'reference', 'until']

export interface ImageSummary { Id: string, ParentId: string, RepoTags: string[], RepoDigests: string[], Created: number, Size: number, SharedSize: number, Labels: Record<string, string>, Containers: number }

/** A shell pattern against a reference, as people write either: `busybox`, `busy*`, `host/*:1`. */
export function matchesReference(pattern: string, name: string): boolean {
  const expression = (text: string): RegExp => new RegExp('^' + text.replace(/[.+^${}()|\\]/g, '\\$&').replace(/\*/g, '[^/]*').replace(/\?/g, '[^/]') + '$')
  const reference = parseReference(name)
  const short = familiar({ domain: reference.domain, path: reference.path })
  return expression(pattern).test(name) || expression(pattern).test(short) || expression(pattern).test(repositoryOf(reference))
}

/** The API's list of ImageSummary, newest first. */
export function listImages(deps: { images: ImageStore }, options: { all: boolean, shared: boolean, filters: Map<string, string[]> }): ImageSummary[] {
  const { images } = deps
  const { filters } = options
  const names = images.names()
  const created = (image: Image): number => (image.config.created ? Date.parse(image.config.created) : 0)
  const bound = (name: string): number | undefined => {
    const value = filters.get(name)?.[0]
    return value === undefined ? undefined : created(images.resolve(value))
  }
  const [before, since] = [bound('before'), bound('since')]
  const until = filters.get('until')?.[0]
  const dangling = flagOf(filters, 'dangling')
  const answer: ImageSummary[] = []
  for (const image of images.list()) {
    const { tags = [], digests = [] } = names.get(image.id) ?? {}
    if (!options.all && tags.length === 0 && digests.length === 0 && images.children(image.id).length > 0) continue
    if (dangling !== undefined && dangling !== (tags.length === 0 && digests.length === 0)) continue
    if (before !== undefined && created(image) >= before || since !== undefined && created(image) <= since) continue
    if (until !== undefined && created(image) > parseTime(until, Date.now())) continue
    if (!passesLabels(image.config.config?.Labels ?? {}, filters)) continue
    const patterns = filters.get('reference')
    const fits = (name: string): boolean => !patterns || patterns.some((pattern) => matchesReference(pattern, name))
    const [shownTags, shownDigests] = [tags.filter(fits), digests.filter(fits)]
    if (patterns && shownTags.length + shownDigests.length === 0) continue
    answer.push(summaryOf(images, image, { tags: shownTags, digests: shownDigests }))
  }
  return answer.sort((a, b) => b.Created - a.Created || ((a.RepoTags[0] ?? '') < (b.RepoTags[0] ?? '') ? -1 : 1))
}

/** The API's ImageSummary, with what is shown of the image's names. */
export function summaryOf(images: ImageStore, image: Image, { tags = [], digests = [] }: { tags?: string[], digests?: string[] }): ImageSummary {
  return {
    Id: image.id, ParentId: image.parent ?? '', RepoTags: tags, RepoDigests: digests, Created: Math.floor((image.config.created ? Date.parse(image.config.created) : 0) / 1000),
    Size: images.size(image), SharedSize: -1, Labels: image.config.config?.Labels ?? {}, Containers: -1,
  }
}

/** A filter that is true or false; undefined where it is not given. */
export function flagOf(filters: Map<string, string[]>, name: string): boolean | undefined {
  const value = filters.get(name)?.[0]
  if (value === undefined) return undefined
  if (['true', '1'].includes(value)) return true
  if (['false', '0'].includes(value)) return false
  throw invalid(`invalid filter '${name}=${value}'`)
}
