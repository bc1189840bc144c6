import type { ImageTransfers } from '../image/service.ts'
import { parsePlatform } from '../image/platform.ts'
import type { Job } from '../engine/engine.ts'
import { BerthError, invalid } from '../lib/errors.ts'
import { hostOf, parseReference, splitDomain, withDefaultTag, type Reference } from '../reference/reference.ts'
import { streamProgress } from '../server/progress.ts'
import type { Route } from '../server/router.ts'
import { credentialsOf, readAuthHeader } from './credentials.ts'
import type { DistributionDeps } from './deps.ts'
import { inspectRemote } from './inspect.ts'
import { pullImage } from './pull.ts'
import { pushImage } from './push.ts'
import { searchFilters, searchImages } from './search.ts'

/** What images' routes leave to registries. */
export function imageTransfers(deps: DistributionDeps): ImageTransfers {
  return {
    async pull(call) {
      const name = call.query.get('fromImage') ?? ''
      const tag = call.query.get('tag') ?? ''
      const reference = parseReference(tag === '' ? name : tag.includes(':') ? `${name}@${tag}` : `${name}:${tag}`)
      const wanted = call.query.get('platform')
      const platform = wanted ? parsePlatform(wanted) : undefined
      if (platform && platform.os !== 'linux') throw invalid(`operating system is not supported: ${platform.os}`)
      const credentials = readAuthHeader(call.request.headers['x-registry-auth'])
      await streamProgress(deps.engine, call, { name: 'image.pull', subject: name, work: (report, signal) => pullImage(deps, reference, { credentials, platform, report, signal }) })
    },

    async push(call, name) {
      const tag = call.query.get('tag') ?? ''
      const reference = parseReference(tag ? `${name}:${tag}` : name)
      const credentials = readAuthHeader(call.request.headers['x-registry-auth'])
      await streamProgress(deps.engine, call, { name: 'image.push', subject: name, work: (report, signal) => pushImage(deps, reference, { credentials, report, signal }) })
    },
  }
}

/** The routes of registries. */
export function distributionRoutes(deps: DistributionDeps): Route[] {
  return [
    { method: 'GET', path: '/images/search', async handler(call) {
      const term = call.query.get('term') ?? ''
      if (term === '') throw invalid('bad parameter: term must not be empty')
      const filters = call.filters(searchFilters)
      const limit = call.number('limit')
      const credentials = readAuthHeader(call.request.headers['x-registry-auth'])
      const job: Job<string, object[]> = { name: 'registry.search', subject: (input) => input, run: (input, { signal }) => searchImages(deps, input, { limit, filters, credentials, signal }) }
      call.send(200, await deps.engine.run(job, term, { signal: call.signal }))
    } },
    { method: 'POST', path: '/auth', async handler(call) {
      const body = await call.json()
      if (typeof body !== 'object' || body === null) throw invalid('the body must be an AuthConfig')
      const address = String((body as { serveraddress?: unknown }).serveraddress ?? '')
      const job: Job<string, string | undefined> = { name: 'registry.login', subject: (input) => input, run: (input) => deps.registries.login(input, credentialsOf(body)) }
      const identity = await deps.engine.run(job, domainOf(address), { signal: call.signal })
      call.send(200, { IdentityToken: identity ?? '', Status: 'Login Succeeded' })
    } },
    { method: 'GET', path: '/distribution/*', async handler(call) {
      const [, name] = /^(.+)\/json$/.exec(call.params['*']!) ?? []
      if (name === undefined) throw new BerthError('not-found', 'page not found')
      const reference: Reference = withDefaultTag(parseReference(name))
      const credentials = readAuthHeader(call.request.headers['x-registry-auth'])
      const job: Job<Reference, object> = { name: 'registry.inspect', subject: () => name, run: (input, { signal }) => inspectRemote(deps, input, credentials, signal) }
      call.send(200, await deps.engine.run(job, reference, { signal: call.signal }))
    } },
  ]
}

/** The domain of what logins call a server: a URL, of old, or a host. */
function domainOf(address: string): string {
  return splitDomain(`${hostOf(address) || 'docker.io'}/x`).domain
}
