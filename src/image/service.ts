import { pipeline } from 'node:stream/promises'
import { BerthError, invalid } from '../lib/errors.ts'
import type { Engine, Job } from '../engine/engine.ts'
import type { Events } from '../engine/events.ts'
import { familiar, parseReference } from '../reference/reference.ts'
import { streamProgress } from '../server/progress.ts'
import type { Call, Route } from '../server/router.ts'
import { attributesOf } from './image.ts'
import { importImage } from './import.ts'
import { historyOf, inspectImage } from './inspect.ts'
import { listFilters, listImages } from './list.ts'
import { loadImages } from './load.ts'
import { pruneImages } from './prune.ts'
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

/** What of the images' routes is done with registries. */
export interface ImageTransfers { pull(call: Call): Promise<void>, push(call: Call, name: string): Promise<void> }

/** The routes of images. Names have slashes, so each ends in a wildcard that is taken apart here. */
export function imageRoutes(deps: ImageDeps, transfers: ImageTransfers): Route[] {
  const { images, engine } = deps

  const ofImage: Record<string, (call: Call, name: string) => Promise<void> | void> = {
    'GET json': (call, name) => call.send(200, withVirtualSize(call, inspectImage(images, images.resolve(name)))),
    'GET history': (call, name) => call.send(200, historyOf(images, images.resolve(name))),
    'GET get': (call, name) => save(call, [name]),
    async 'POST tag'(call, name) {
      const repo = call.query.get('repo') ?? ''
      const tag = call.query.get('tag') ?? ''
      const reference = parseReference(tag ? `${repo}:${tag}` : repo)
      const image = images.resolve(name)
      images.tag(image.id, reference)
      deps.events.emit('image', 'tag', image.id, attributesOf(image, familiar(reference)))
      call.empty(201)
    },
    'POST push': (call, name) => transfers.push(call, name),
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
      const listed = listImages(deps, { all: call.flag('all'), shared: call.flag('shared-size'), filters: call.filters(listFilters) })
      call.send(200, listed.map((image) => withVirtualSize(call, image)))
    } },
    { method: 'GET', path: '/images/get', handler: (call) => save(call, call.query.getAll('names').flatMap((names) => names.split(','))) },
    { method: 'POST', path: '/images/create', async handler(call) {
      const source = call.query.get('fromSrc')
      if (source === null) return await transfers.pull(call)
      if (source !== '-') throw invalid(`cannot import from ${JSON.stringify(source)}: only a request's body can be imported`)
      const repo = call.query.get('repo') ?? ''
      await streamProgress(engine, call, { name: 'image.import', subject: repo, work: async (report, signal) => {
        const id = await importImage(deps, call.request, { repo, tag: call.query.get('tag') ?? '', message: call.query.get('message') ?? '', changes: call.query.getAll('changes'), platform: call.query.get('platform') ?? '', signal })
        report({ status: id })
      } })
    } },
    { method: 'POST', path: '/images/load', async handler(call) {
      const quiet = call.flag('quiet')
      await streamProgress(engine, call, { name: 'image.load', subject: '', work: (report, signal) => loadImages(deps, call.request, {
        signal, report: (line) => {
          if (!quiet || line.stream !== undefined) report(line)
        },
      }) })
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
}

/** Clients of API versions before 1.44 look for the size under another name too. */
function withVirtualSize<T extends { Size: number }>(call: Call, image: T): T {
  return call.version < 1044 ? { ...image, VirtualSize: image.Size } : image
}
