import { createHash, randomUUID, type Hash } from 'node:crypto'
import { digestOf } from '../lib/ids.ts'
import { KeyedLock } from '../lib/lock.ts'
import { Passing } from '../lib/garbage.ts'
import { MAX_MANIFEST, decodeManifest, parseManifest, referencesOf, isForeign, types, type Descriptor, type Manifest } from '../manifest/manifest.ts'
import { refuse } from './answer.ts'
import { layout } from './layout.ts'
import type { Appender, Storage } from './storage/driver.ts'

/** An upload that has begun. */
interface Upload { appender: Appender, hash: Hash, busy: boolean }

/** Content of a repository. */
export interface Stored { digest: string, size: number }

export interface StoredManifest extends Stored { manifest: Manifest }

/** Bytes of an upload that are written at once. */
const BATCH = 256 << 10
/** Buffers that are kept for the next upload. */
const SPARE = 16

/** After how long what was asked for, and found, counts as forgotten by whoever asked, in milliseconds. */
export const GRACE = 3600_000
/** After how long an upload that nobody goes on with is dropped, as Docker's registry has it. */
const UPLOAD_LIFE = 7 * 24 * 3600_000

/** What a registry has, and how it changes: repositories of blobs and manifests, tags, referrers, uploads. */
export class RegistryStore {
  readonly storage: Storage
  readonly #uploads = new Map<string, Upload>()
  readonly #maxBlob: number
  readonly #passing = new Passing()
  readonly #buffers: Buffer[] = []
  /** One at a time makes a blob, keeps it, or deletes it. */
  readonly #lock = new KeyedLock()

  constructor(storage: Storage, options: { maxBlob?: number } = {}) {
    this.storage = storage
    this.#maxBlob = options.maxBlob ?? Infinity
  }

  /** A blob that a repository has, or undefined. Whoever asks may count on it for a while: it is not collected. */
  async blob(name: string, digest: string): Promise<Stored | undefined> {
    if (!await this.storage.stat(layout.layer(name, digest))) return await this.#revision(name, digest) // manifests are blobs too
    return await this.#keep(digest)
  }

  async #revision(name: string, digest: string): Promise<Stored | undefined> {
    return await this.storage.stat(layout.revision(name, digest)) ? await this.#keep(digest) : undefined
  }

  /** Sees to it that a blob that is here stays for a while. */
  async #keep(digest: string): Promise<Stored | undefined> {
    const path = layout.blob(digest)
    const found = await this.storage.stat(path)
    if (!found) return undefined
    if (found.changed > Date.now() - GRACE / 4) return { digest, size: found.size }
    using _held = await this.#lock.hold(digest)
    if (!await this.storage.stat(path)) return undefined
    await this.storage.touch(path)
    return { digest, size: found.size }
  }

  /** Deletes a blob that nothing has asked for since `before`, whatever refers to it. Returns its length in bytes. */
  async collect(digest: string, before: number): Promise<number | undefined> {
    const path = layout.blob(digest)
    using _held = await this.#lock.hold(digest)
    const found = await this.storage.stat(path)
    if (!found || found.changed > before) return undefined
    await this.storage.remove(path)
    return found.size
  }

  /** A blob's bytes. A piece is the reader's until it asks for the next. */
  read(digest: string, start: number, end: number): AsyncIterable<Buffer> {
    return this.storage.read(layout.blob(digest), start, end)
  }

  async #link(path: string, digest: string): Promise<void> {
    await this.storage.put(path, Buffer.from(digest))
  }

  /** Takes a blob over from another repository. False where that has none. */
  async mount(name: string, digest: string, from: string): Promise<boolean> {
    if (!await this.blob(from, digest)) return false
    await this.#link(layout.layer(name, digest), digest)
    return true
  }

  /** Begins an upload. Returns its id. */
  async begin(name: string): Promise<string> {
    const id = randomUUID()
    await this.storage.put(`${layout.upload(name, id)}/startedat`, Buffer.from(new Date().toISOString()))
    this.#uploads.set(id, { appender: await this.storage.append(layout.uploaded(name, id)), hash: createHash('sha256'), busy: false })
    return id
  }

  /** An upload by id: one of this run, or of an earlier, whose bytes are hashed again. */
  async #upload(name: string, id: string): Promise<Upload> {
    const known = this.#uploads.get(id)
    const unknown = refuse('BLOB_UPLOAD_UNKNOWN', 'blob upload unknown to registry', { detail: id })
    if (!/^[0-9a-f-]{36}$/.test(id) || !await this.storage.stat(`${layout.upload(name, id)}/startedat`)) throw unknown
    if (known) return known
    const appender = await this.storage.append(layout.uploaded(name, id))
    const upload: Upload = { appender, hash: createHash('sha256'), busy: true }
    this.#uploads.set(id, upload)
    try {
      await this.#hashFile(name, id, upload, upload.hash)
    } finally {
      upload.busy = false
    }
    return upload
  }

  /** Bytes that an upload has. */
  async received(name: string, id: string): Promise<number> {
    return (await this.#upload(name, id)).appender.length
  }

  /** Adds bytes to an upload, which are to begin where `range` says. What a broken connection has brought stays. `written` is
   * told how many can be read. Returns the length. */
  async append(name: string, id: string, body: AsyncIterable<Uint8Array>, { range, written }: { range?: { start: number, end: number } | undefined, written?: (length: number) => void } = {}): Promise<number> {
    const upload = await this.#upload(name, id)
    if (upload.busy) throw refuse('BLOB_UPLOAD_INVALID', 'somebody is writing to this upload', { status: 409 })
    const { appender } = upload
    if (range && range.start !== appender.length) throw refuse('RANGE_INVALID', `the chunk begins at byte ${range.start}, and ${appender.length} bytes are there`, { headers: { Range: rangeOf(appender.length), Location: `/v2/${name}/blobs/uploads/${id}` } })
    upload.busy = true
    const end = range ? range.end + 1 : Infinity
    let length = appender.length
    let writing = Promise.resolve()
    let [buffer, other] = [this.#buffer(), this.#buffer()]
    let filled = 0
    /** Begins to write what the buffer has, while the other is filled. */
    const flush = async (): Promise<void> => {
      await writing
      writing = this.#write(id, appender, buffer.subarray(0, filled), written)
      writing.catch(() => {}) // it is seen at the next turn
      ;[buffer, other] = [other, buffer]
      filled = 0
    }
    try {
      for await (const data of body) {
        length += data.length
        if (length > Math.min(end, this.#maxBlob)) throw refuse('SIZE_INVALID', end < Infinity ? 'the chunk is longer than its range' : `the blob is larger than ${this.#maxBlob} bytes`, end < Infinity ? {} : { status: 413 })
        upload.hash.update(data)
        for (let at = 0; at < data.length;) {
          const taken = Math.min(BATCH - filled, data.length - at)
          buffer.set(data.subarray(at, at + taken), filled)
          filled += taken
          at += taken
          if (filled === BATCH) await flush()
        }
        this.#passing.pass(data.length)
      }
    } finally {
      try {
        if (filled) await flush()
        await writing
      } finally {
        upload.busy = false
        this.#buffers.push(buffer, other)
        this.#buffers.length = Math.min(this.#buffers.length, SPARE)
      }
    }
    return appender.length
  }

  /** A buffer for a while: those that come and go with each request are garbage that is seen late. */
  #buffer(): Buffer {
    return this.#buffers.pop() ?? Buffer.allocUnsafeSlow(BATCH)
  }

  async #write(id: string, appender: Appender, data: Buffer, written: ((length: number) => void) | undefined): Promise<void> {
    try {
      await appender.write(data)
    } catch (error) {
      this.#uploads.delete(id) // its hash is ahead of its file: who goes on has it made anew
      await appender.close()
      throw error
    }
    written?.(appender.length)
  }

  /** Ends an upload: what it has becomes a blob, if it is what the digest says. */
  async finish(name: string, id: string, digest: string): Promise<Stored> {
    const upload = await this.#upload(name, id)
    if (upload.busy) throw refuse('BLOB_UPLOAD_INVALID', 'somebody is writing to this upload', { status: 409 })
    upload.busy = true
    const size = upload.appender.length
    try {
      const got = await this.#digestOf(name, id, upload, digest.split(':')[0]!)
      if (got !== digest) {
        throw refuse('DIGEST_INVALID', 'provided digest did not match uploaded content', { detail: { digest, got } })
      }
      await upload.appender.close()
      this.#uploads.delete(id)
      using _held = await this.#lock.hold(digest)
      await this.#place(digest, (path) => this.storage.commit(layout.uploaded(name, id), path))
      await this.#link(layout.layer(name, digest), digest)
      await this.storage.remove(layout.upload(name, id))
      return { digest, size }
    } finally {
      upload.busy = false
    }
  }

  async #digestOf(name: string, id: string, upload: Upload, algorithm: string): Promise<string> {
    if (algorithm === 'sha256') return `sha256:${upload.hash.copy().digest('hex')}`
    const hash = createHash(algorithm)
    await this.#hashFile(name, id, upload, hash)
    return `${algorithm}:${hash.digest('hex')}`
  }

  async #hashFile(name: string, id: string, { appender: { length } }: Upload, hash: Hash): Promise<void> {
    if (length) for await (const chunk of this.storage.read(layout.uploaded(name, id), 0, length)) hash.update(chunk)
  }

  /** Makes a blob, unless it is here: then it stays for a while. */
  async #place(digest: string, make: (path: string) => Promise<void>): Promise<void> {
    const path = layout.blob(digest)
    if (await this.storage.stat(path)) await this.storage.touch(path)
    else await make(path)
  }

  /** Drops an upload. */
  async drop(name: string, id: string): Promise<void> {
    const upload = await this.#upload(name, id)
    this.#uploads.delete(id)
    await upload.appender.close()
    await this.storage.remove(layout.upload(name, id))
  }

  /** Drops the uploads that nobody has gone on with for long. */
  async dropOld(life = UPLOAD_LIFE): Promise<number> {
    let count = 0
    for await (const name of this.repositories())
      for (const id of await this.storage.list(layout.uploads(name))) {
        const status = await this.storage.stat(layout.uploaded(name, id)) ?? await this.storage.stat(`${layout.upload(name, id)}/startedat`)
        if (this.#uploads.get(id)?.busy || (status?.changed ?? 0) > Date.now() - life) continue
        await this.#uploads.get(id)?.appender.close()
        this.#uploads.delete(id)
        await this.storage.remove(layout.upload(name, id))
        count++
      }
    return count
  }

  /** Deletes a repository's hold on a blob. False where it has none. */
  async removeBlob(name: string, digest: string): Promise<boolean> {
    if (!await this.storage.stat(layout.layer(name, digest))) return false
    await this.storage.remove(layout.layer(name, digest))
    return true
  }

  /** The digest that a tag leads to, or undefined. */
  async resolve(name: string, tag: string): Promise<string | undefined> {
    return linkOf(await this.storage.get(layout.current(name, tag)))
  }

  /** A manifest by digest, or undefined. */
  async manifest(name: string, digest: string): Promise<StoredManifest | undefined> {
    if (!await this.storage.stat(layout.revision(name, digest))) return undefined
    const bytes = await this.storage.get(layout.blob(digest))
    return bytes && { digest, size: bytes.length, manifest: parseManifest(bytes.toString('utf8')) }
  }

  /** Stores a manifest under a tag, or by the digest alone, when all that it refers to is here. `sparse` is for one whose
   * blobs come when somebody wants them. */
  async putManifest(name: string, reference: { tag: string } | { digest: string }, bytes: Buffer, contentType: string, { sparse = false }: { sparse?: boolean } = {}): Promise<StoredManifest> {
    if (bytes.length > MAX_MANIFEST) throw refuse('MANIFEST_INVALID', `the manifest is larger than ${MAX_MANIFEST} bytes`, { status: 413 })
    const digest = digestOf(bytes, 'digest' in reference ? reference.digest.split(':')[0]! : 'sha256')
    if ('digest' in reference && reference.digest !== digest) throw refuse('DIGEST_INVALID', 'provided digest did not match uploaded content', { detail: { digest: reference.digest, got: digest } })
    let manifest: Manifest
    try {
      manifest = decodeManifest(bytes, contentType)
    } catch (error) {
      throw refuse('MANIFEST_INVALID', error instanceof Error ? error.message : String(error))
    }
    if (!sparse) await this.#checkReferences(name, manifest)
    using _held = await this.#lock.hold(digest)
    await this.#place(digest, (path) => this.storage.put(path, bytes))
    // the tag is last: until then nothing is seen
    await this.#link(layout.revision(name, digest), digest)
    if (manifest.subject) await this.#link(layout.referrer(name, manifest.subject.digest, digest), digest)
    if ('tag' in reference) {
      await this.#link(layout.tagged(name, reference.tag, digest), digest)
      await this.#link(layout.current(name, reference.tag), digest)
    }
    return { digest, size: bytes.length, manifest }
  }

  async #checkReferences(name: string, manifest: Manifest): Promise<void> {
    const missing: Descriptor[] = []
    for (const descriptor of referencesOf(manifest)) {
      if (isForeign(descriptor) && descriptor.urls?.length) continue
      const found = manifest.kind === 'index' ? await this.#revision(name, descriptor.digest) : await this.blob(name, descriptor.digest)
      if (!found) missing.push(descriptor)
      else if (found.size !== descriptor.size) throw refuse('MANIFEST_INVALID', `${descriptor.digest} has ${found.size} bytes, and not ${descriptor.size}`)
    }
    if (missing.length) throw refuse('MANIFEST_BLOB_UNKNOWN', 'manifest references a manifest or blob unknown to registry', { detail: missing.map(({ digest }) => ({ digest })) })
  }

  /** Deletes a tag. False where there is none. */
  async removeTag(name: string, tag: string): Promise<boolean> {
    if (!await this.storage.stat(layout.current(name, tag))) return false
    await this.storage.remove(layout.tag(name, tag))
    return true
  }

  /** Deletes a manifest, and the tags that lead to it. False where there is none. */
  async removeManifest(name: string, digest: string): Promise<boolean> {
    const found = await this.manifest(name, digest)
    if (!found) return false
    for (const tag of await this.tags(name)) if (await this.resolve(name, tag) === digest) await this.storage.remove(layout.tag(name, tag))
    if (found.manifest.subject) await this.storage.remove(layout.referrer(name, found.manifest.subject.digest, digest))
    await this.storage.remove(layout.revision(name, digest))
    return true
  }

  async tags(name: string): Promise<string[]> {
    return await this.storage.list(layout.tags(name))
  }

  async has(name: string): Promise<boolean> {
    return (await this.storage.list(layout.repository(name))).some((entry) => entry.startsWith('_'))
  }

  /** The manifests that are about another, newest last. */
  async referrers(name: string, subject: string): Promise<Descriptor[]> {
    const found: Descriptor[] = []
    const root = layout.referrers(name, subject)
    for (const algorithm of await this.storage.list(root))
      for (const hex of await this.storage.list(`${root}/${algorithm}`)) {
        const stored = await this.manifest(name, `${algorithm}:${hex}`)
        if (!stored) continue
        const { manifest, digest, size } = stored
        const artifactType = manifest.artifactType || (manifest.kind === 'image' && manifest.config.mediaType !== types.ociEmpty ? manifest.config.mediaType : undefined)
        found.push({ mediaType: manifest.mediaType, digest, size, ...(artifactType && { artifactType }), ...(manifest.annotations && { annotations: manifest.annotations }) })
      }
    return found
  }

  /** The names of all repositories, sorted as a tree is walked. */
  async* repositories(under = ''): AsyncGenerator<string> {
    const names = await this.storage.list(under ? layout.repository(under) : layout.repositories)
    if (under && names.some((name) => name === '_manifests' || name === '_layers' || name === '_uploads')) yield under
    for (const name of names) if (!name.startsWith('_')) yield* this.repositories(under ? `${under}/${name}` : name)
  }

  async close(): Promise<void> {
    for (const { appender } of this.#uploads.values()) await appender.close()
    await this.storage.close()
  }
}

/** `0-N` of what is there. */
export const rangeOf = (length: number): string => `0-${Math.max(0, length - 1)}`

/** The digest in a link; one that a crash has emptied is none. */
function linkOf(data: Buffer | undefined): string | undefined {
  const text = data?.toString('latin1').trim()
  return text && /^\w+:[0-9a-f]+$/.test(text) ? text : undefined
}
