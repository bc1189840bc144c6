import { pipeline } from 'node:stream/promises'
import { BerthError, invalid, isKind, messageOf } from '../lib/errors.ts'
import { parseTime } from '../lib/units.ts'
import type { Engine, Job } from '../engine/engine.ts'
import type { Events } from '../engine/events.ts'
import { familiar, parseReference, repositoryOf } from '../reference/reference.ts'
import type { Call, Route } from '../server/router.ts'
import { goArchitecture, type Image } from './image.ts'
import { importImage } from './import.ts'
import { loadImages } from './load.ts'
import { removeImage, type ImageUser } from './remove.ts'
import { saveImages } from './save.ts'
import type { ImageStore } from './store.ts'

export interface ImageDeps {
  images: ImageStore
  engine: Engine
  events: Events
  dataRoot: string
  /** The containers made of an image. */
  usersOf: (image: string) => ImageUser[]
}

const listFilters = ['dangling', 'label', 'before', 'since', 'reference', 'until']

/** The routes of images. Names have slashes, so each ends in a wildcard that is taken apart here. */
export function imageRoutes(deps: ImageDeps): Route[] {
  const { images, engine } = deps

  const ofImage: Record<string, (call: Call, name: string) => Promise<void> | void> = {
    'GET json': (call, name) => call.send(200, inspectImage(deps, images.resolve(name))),
    'GET history': (call, name) => call.send(200, historyOf(deps, images.resolve(name))),
    'GET get': (call, name) => save(call, [name]),
    async 'POST tag'(call, name) {
      const repo = call.query.get('repo') ?? ''
      const tag = call.query.get('tag') ?? ''
      const reference = parseReference(tag ? `${repo}:${tag}` : repo)
      const image = images.resolve(name)
      images.tag(image.id, reference)
      deps.events.emit('image', 'tag', image.id, { name: familiar(reference) })
      call.empty(201)
    },
    'POST push': () => {
      throw new BerthError('unsupported', 'pushing to a registry is not supported')
    },
  }

  const save = async (call: Call, names: string[]): Promise<void> => {
    if (names.length === 0) throw invalid('no images specified')
    const job: Job<string[], void> = { name: 'image.save', subject: (input) => input.join(' '), async run(input) {
      const archive = await saveImages(deps, input)
      await pipeline(archive, call.stream('application/x-tar'), { signal: call.signal })
    } }
    await engine.run(job, names, { signal: call.signal })
  }

  return [
    { method: 'GET', path: '/images/json', handler(call) {
      call.send(200, listImages(deps, { all: call.flag('all'), shared: call.flag('shared-size'), filters: call.filters(listFilters) }))
    } },
    { method: 'GET', path: '/images/get', handler: (call) => save(call, call.query.getAll('names').flatMap((names) => names.split(','))) },
    { method: 'GET', path: '/images/search', handler() {
      throw new BerthError('unsupported', 'searching a registry is not supported')
    } },
    { method: 'POST', path: '/images/create', async handler(call) {
      const source = call.query.get('fromSrc')
      if (source === null) {
        const name = call.query.get('fromImage') ?? ''
        const reference = parseReference(call.query.get('tag') ? `${name}:${call.query.get('tag')}` : name)
        throw new BerthError('unsupported', `pull access denied for ${familiar(reference)}: pulling from a registry is not supported`)
      }
      if (source !== '-') throw invalid(`cannot import from ${JSON.stringify(source)}: only a request's body can be imported`)
      await progress(call, 'image.import', call.query.get('repo') ?? '', (report, signal) => importImage(deps, call.request, {
        repo: call.query.get('repo') ?? '', tag: call.query.get('tag') ?? '', message: call.query.get('message') ?? '', changes: call.query.getAll('changes'), platform: call.query.get('platform') ?? '', signal,
      }).then((id) => report({ status: id })))
    } },
    { method: 'POST', path: '/images/load', async handler(call) {
      const quiet = call.flag('quiet')
      await progress(call, 'image.load', '', (report, signal) => loadImages(deps, call.request, { report: quiet ? (line) => line.stream !== undefined && report(line) : report, signal }))
    } },
    { method: 'POST', path: '/images/prune', async handler(call) {
      const filters = call.filters(['dangling', 'until', 'label', 'label!'])
      const job: Job<null, object> = { name: 'image.prune', run: () => pruneImages(deps, filters) }
      call.send(200, await engine.run(job, null))
    } },
    ...(['GET', 'POST'] as const).map((method): Route => ({ method, path: '/images/*', handler(call) {
      const path = call.params['*']!
      const slash = path.lastIndexOf('/')
      const handler = ofImage[`${method} ${path.slice(slash + 1)}`]
      if (slash < 0 || !handler) throw new BerthError('not-found', 'page not found')
      return handler(call, path.slice(0, slash))
    } })),
    { method: 'DELETE', path: '/images/*', async handler(call) {
      const name = call.params['*']!
      const job: Job<string, object[]> = { name: 'image.remove', subject: (input) => input, run: (input) => removeImage(deps, input, { force: call.flag('force'), prune: !call.flag('noprune') }) }
      call.send(200, await engine.run(job, name))
    } },
  ]

  /** Runs a job that tells how far it is in lines of JSON. An error before the first line is an answer of its own; one
   * after it is the last line. */
  async function progress(call: Call, name: string, subject: string, work: (report: (line: Record<string, unknown>) => void, signal: AbortSignal) => Promise<void>): Promise<void> {
    let begun = false
    const report = (line: Record<string, unknown>): void => {
      if (!begun) call.stream('application/json')
      begun = true
      call.response.write(JSON.stringify(line) + '\r\n')
    }
    const job: Job<null, void> = { name, subject: () => subject, run: (_input, { signal }) => work(report, signal) }
    try {
      await engine.run(job, null, { signal: call.signal })
    } catch (error) {
      if (!begun) throw error
      report({ errorDetail: { message: messageOf(error) }, error: messageOf(error) })
    }
    if (!begun) call.stream('application/json')
    call.response.end()
  }
}

const ZERO_TIME = '0001-01-01T00:00:00Z'

/** The API's ImageInspect. */
function inspectImage(deps: ImageDeps, image: Image): object {
  const { config } = image
  const { tags, digests } = deps.images.namesOf(image.id)
  const top = image.topLayer ? deps.images.layers.get(image.topLayer) : undefined
  return {
    Id: image.id, RepoTags: tags, RepoDigests: digests, Parent: image.parent ?? '', Comment: config.comment ?? '', Created: config.created ?? ZERO_TIME,
    DockerVersion: config.docker_version ?? '', Author: config.author ?? '',
    Config: { User: '', Env: null, Cmd: null, Entrypoint: null, WorkingDir: '', Labels: null, OnBuild: null, Volumes: null, ...config.config },
    Architecture: config.architecture || goArchitecture, ...(config.variant && { Variant: config.variant }), Os: config.os || 'linux', Size: deps.images.size(image),
    GraphDriver: { Name: deps.images.layers.driver.name, Data: top ? deps.images.layers.driver.data(top.driverId) : {} },
    RootFS: { Type: 'layers', Layers: config.rootfs.diff_ids }, Metadata: { LastTagTime: image.lastTagged ?? ZERO_TIME },
  }
}

/** The API's list of HistoryResponseItem, newest first. */
function historyOf(deps: ImageDeps, image: Image): object[] {
  const layers = deps.images.chain(image)
  let at = 0
  const items = (image.config.history ?? []).map((entry) => ({
    Id: '<missing>', Created: entry.created ? Math.floor(Date.parse(entry.created) / 1000) : 0, CreatedBy: entry.created_by ?? '', Tags: null as string[] | null,
    Size: entry.empty_layer ? 0 : (layers[at++]?.size ?? 0), Comment: entry.comment ?? '',
  }))
  while (at < layers.length) items.push({ Id: '<missing>', Created: 0, CreatedBy: '', Tags: null, Size: layers[at++]!.size, Comment: '' })
  items.reverse()
  if (items[0]) {
    items[0].Id = image.id
    const { tags } = deps.images.namesOf(image.id)
    items[0].Tags = tags.length ? tags : null
  }
  return items
}

/** A shell pattern against a reference, as people write either: `busybox`, `busy*`, `host/*:1`. */
export function matchesReference(pattern: string, name: string): boolean {
  const expression = (text: string): RegExp => new RegExp('^' + text.replace(/[.+^${}()|\\]/g, '\\$&').replace(/\*/g, '[^/]*').replace(/\?/g, '[^/]') + '$')
  const reference = parseReference(name)
  const short = familiar({ domain: reference.domain, path: reference.path })
  return expression(pattern).test(name) || expression(pattern).test(short) || expression(pattern).test(repositoryOf(reference))
}

function listImages(deps: ImageDeps, options: { all: boolean, shared: boolean, filters: Map<string, string[]> }): object[] {
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
  const answer: { Created: number, RepoTags: string[] }[] = []
  for (const image of images.list()) {
    const { tags = [], digests = [] } = names.get(image.id) ?? {}
    if (!options.all && tags.length === 0 && digests.length === 0 && images.children(image.id).length > 0) continue
    if (dangling !== undefined && dangling !== (tags.length === 0 && digests.length === 0)) continue
    if (before !== undefined && created(image) >= before || since !== undefined && created(image) <= since) continue
    if (until !== undefined && created(image) > parseTime(until, Date.now())) continue
    if (!(filters.get('label') ?? []).every((label) => hasLabel(image, label))) continue
    const patterns = filters.get('reference')
    const shown = patterns ? tags.filter((tag) => patterns.some((pattern) => matchesReference(pattern, tag))) : tags
    if (patterns && shown.length === 0) continue
    answer.push(summary(deps, image, shown, digests))
  }
  return answer.sort((a, b) => b.Created - a.Created || ((a.RepoTags[0] ?? '') < (b.RepoTags[0] ?? '') ? -1 : 1))
}

function summary(deps: ImageDeps, image: Image, tags: string[], digests: string[]) {
  return {
    Id: image.id, ParentId: image.parent ?? '', RepoTags: tags, RepoDigests: digests, Created: Math.floor((image.config.created ? Date.parse(image.config.created) : 0) / 1000),
    Size: deps.images.size(image), SharedSize: -1, Labels: image.config.config?.Labels ?? {}, Containers: -1,
  }
}

function flagOf(filters: Map<string, string[]>, name: string): boolean | undefined {
  const value = filters.get(name)?.[0]
  if (value === undefined) return undefined
  if (['true', '1'].includes(value)) return true
  if (['false', '0'].includes(value)) return false
  throw invalid(`invalid filter '${name}=${value}'`)
}

function hasLabel(image: Image, label: string): boolean {
  const labels = image.config.config?.Labels ?? {}
  const equals = label.indexOf('=')
  return equals < 0 ? label in labels : labels[label.slice(0, equals)] === label.slice(equals + 1)
}

async function pruneImages(deps: ImageDeps, filters: Map<string, string[]>): Promise<object> {
  const { images } = deps
  const danglingOnly = flagOf(filters, 'dangling') ?? true
  const until = filters.get('until')?.[0]
  const deleted: object[] = []
  let space = 0
  const names = images.names()
  for (const image of images.list()) {
    const name = names.get(image.id)
    if (danglingOnly && name || deps.usersOf(image.id).length || images.children(image.id).length) continue
    if (until !== undefined && Date.parse(image.config.created ?? ZERO_TIME) > parseTime(until, Date.now())) continue
    if (!(filters.get('label') ?? []).every((label) => hasLabel(image, label)) || (filters.get('label!') ?? []).some((label) => hasLabel(image, label))) continue
    const size = images.size(image)
    try {
      deleted.push(...await removeImage(deps, image.id, { force: true, prune: true }))
      space += size
    } catch (error) {
      if (!isKind(error, 'conflict')) throw error // it got a user meanwhile: then it stays
    }
  }
  return { ImagesDeleted: deleted.length ? deleted : null, SpaceReclaimed: space }
}

