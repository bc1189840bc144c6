import { isKind, messageOf, unavailable } from '../lib/errors.ts'
import { withoutFirst } from '../lib/streams.ts'
import type { Descriptor } from '../manifest/manifest.ts'
import type { Registries } from '../registry/registries.ts'
import type { Repository } from '../registry/repository.ts'
import { refusalOf } from '../registry/failure.ts'
import { retry } from '../registry/retry.ts'
import type { Credentials } from '../registry/tokens.ts'
import { layout } from './layout.ts'
import { refuse } from './answer.ts'
import type { RegistryStore, Stored, StoredManifest } from './store.ts'

const ATTEMPTS = 5
const QUICK_ATTEMPTS = 2

/** A blob on its way here. */
interface Arriving { id: string, written: number, done: Promise<void>, state: 'running' | 'done' | 'failed', waiting: (() => void)[] }

/** Another registry, whose content is kept here when somebody has asked for it: what is here by digest is right; what a tag
 * means is asked each time, as long as the other answers. */
export class PullThrough {
  readonly #store: RegistryStore
  readonly #registries: Registries
  readonly #url: string
  readonly #credentials: Credentials
  readonly #arriving = new Map<string, Arriving>()
  readonly #warn: (message: string) => void

  constructor(options: { store: RegistryStore, registries: Registries, url: string, credentials: Credentials, warn: (message: string) => void }) {
    this.#store = options.store
    this.#registries = options.registries
    this.#url = options.url
    this.#credentials = options.credentials
    this.#warn = options.warn
  }

  #upstream(name: string): Promise<Repository> {
    return this.#registries.at(this.#url, name, this.#credentials)
  }

  /** Asks the other registry. Undefined where it has not got it, or does not answer, or will not say. */
  async #ask<T>(name: string, question: (upstream: Repository) => Promise<T>): Promise<T | undefined> {
    try {
      const upstream = await this.#upstream(name)
      return await retry(() => question(upstream), { attempts: QUICK_ATTEMPTS })
    } catch (error) {
      if (!isKind(error)) throw error
      if (refusalOf(error)?.status === 429) throw refuse('TOOMANYREQUESTS', messageOf(error))
      if (!isKind(error, 'not-found')) this.#warn(`${this.#url} does not give ${name}: ${messageOf(error)}`)
      return undefined
    }
  }

  async manifest(name: string, reference: string): Promise<StoredManifest | undefined> {
    if (reference.includes(':')) return await this.#store.manifest(name, reference) ?? await this.#fetch(name, { digest: reference })
    const there = await this.#ask(name, (upstream) => upstream.head(reference))
    const local = there?.digest ?? await this.#store.resolve(name, reference)
    const known = local === undefined ? undefined : await this.#store.manifest(name, local)
    if (known && await this.#store.resolve(name, reference) === known.digest) return known
    return await this.#fetch(name, { tag: reference }) ?? known
  }

  async #fetch(name: string, reference: { tag: string } | { digest: string }): Promise<StoredManifest | undefined> {
    const fetched = await this.#ask(name, (upstream) => upstream.manifest('tag' in reference ? reference.tag : reference.digest))
    return fetched && await this.#store.putManifest(name, reference, Buffer.from(fetched.manifest.text), fetched.manifest.mediaType, { sparse: true })
  }

  /** A blob's length. */
  async size(name: string, digest: string): Promise<Stored | undefined> {
    const local = await this.#store.blob(name, digest)
    if (local) return local
    const size = await this.#ask(name, (upstream) => upstream.size(digest))
    return size === undefined ? undefined : { digest, size }
  }

  /** A blob's bytes from `start` to before `end`, as they arrive. */
  async* blob(name: string, { digest, size }: Stored, start: number, end: number): AsyncGenerator<Buffer> {
    const arriving = this.#arriving.get(digest) ?? await this.#begin(name, digest, size)
    for (let at = start; at < end;) {
      const path = arriving.state === 'done' ? layout.blob(digest) : layout.uploaded(name, arriving.id)
      const there = arriving.state === 'done' ? end : Math.min(arriving.written, end)
      if (there > at) {
        try {
          for await (const chunk of this.#store.storage.read(path, at, there)) {
            at += chunk.length
            yield chunk
          }
        } catch (error) {
          if (!isKind(error, 'not-found')) throw error
          await arriving.done // it is being moved to where it stays
        }
      } else if (arriving.state === 'failed') await arriving.done
      else if (arriving.state === 'running') await new Promise<void>((resolve) => arriving.waiting.push(resolve))
    }
  }

  async #begin(name: string, digest: string, size: number): Promise<Arriving> {
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    promise.catch(() => {}) // those who read see it
    const arriving: Arriving = { id: await this.#store.begin(name), written: 0, done: promise, state: 'running', waiting: [] }
    const other = this.#arriving.get(digest)
    if (other) { // somebody was quicker
      await this.#store.drop(name, arriving.id)
      return other
    }
    this.#arriving.set(digest, arriving)
    const wake = (): void => arriving.waiting.splice(0).forEach((resume) => resume())
    const end = (state: 'done' | 'failed', settle: () => void): void => {
      arriving.state = state
      this.#arriving.delete(digest)
      settle()
      wake()
    }
    this.#transfer(name, { digest, size, mediaType: '' }, arriving, wake).then(() => end('done', resolve), async (error: unknown) => {
      end('failed', () => reject(error))
      this.#warn(`${this.#url} does not give ${name}@${digest}: ${messageOf(error)}`)
      await this.#store.drop(name, arriving.id).catch((failure: unknown) => this.#warn(messageOf(failure)))
    })
    return arriving
  }

  async #transfer(name: string, { digest, size }: Descriptor, arriving: Arriving, wake: () => void): Promise<void> {
    const upstream = await this.#upstream(name)
    await retry(async () => {
      if (arriving.written >= size) return
      const { stream, from } = await upstream.blob(digest, arriving.written)
      await this.#store.append(name, arriving.id, withoutFirst(unbroken(stream), arriving.written - from), { written(length) {
        arriving.written = length
        wake()
      } })
    }, { attempts: ATTEMPTS, progress: () => arriving.written })
    await this.#store.finish(name, arriving.id, digest)
  }

  async tags(name: string): Promise<string[]> {
    return await this.#ask(name, (upstream) => upstream.tags()) ?? await this.#store.tags(name)
  }

  async referrers(name: string, digest: string): Promise<Descriptor[]> {
    return await this.#ask(name, (upstream) => upstream.referrers(digest)) ?? await this.#store.referrers(name, digest)
  }
}

/** A stream's bytes. What breaks it is worth another try, and what fails whoever takes them is not. */
async function* unbroken(stream: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  try {
    for await (const chunk of stream) yield chunk
  } catch (error) {
    throw unavailable(`the connection broke: ${messageOf(error)}`, error)
  }
}
