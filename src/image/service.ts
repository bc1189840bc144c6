import { pipeline } from 'node:stream/promises'
import { BerthError, invalid, messageOf } from '../lib/errors.ts'
import type { Engine, Job } from '../engine/engine.ts'
import type { Events } from '../engine/events.ts'
import { familiar, parseReference } from '../reference/reference.ts'
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

/** The routes of images. Names have slashes, so each ends in a wildcard that is taken apart here. */
export function imageRoutes(deps: ImageDeps): Route[] {
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
      const listed = listImages(deps, { all: call.flag('all'), shared: call.flag('shared-size'), filters: call.filters(listFilters) })
      call.send(200, listed.map((image) => withVirtualSize(call, image)))
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

/** Clients of API versions before 1.44 look for the size under another name too. */
function withVirtualSize<T extends { Size: number }>(call: Call, image: T): T {
  return call.version < 1044 ? { ...image, VirtualSize: image.Size } : image
}
