import { isKind } from '../lib/errors.ts'
import { referencesOf, type Manifest } from '../manifest/manifest.ts'
import { layout } from './layout.ts'
import { GRACE, type RegistryStore } from './store.ts'

export interface Collected { blobs: number, bytes: number, manifests: number }

/** Deletes the blobs that no manifest refers to, and, if asked to, the manifests that no tag leads to. Whatever somebody
 * pushes meanwhile stays: what has been written or asked for within the grace is not touched. */
export async function collectGarbage(store: RegistryStore, { untagged = false, grace = GRACE, dryRun = false }: { untagged?: boolean, grace?: number, dryRun?: boolean } = {}): Promise<Collected> {
  const before = Date.now() - grace
  const collected: Collected = { blobs: 0, bytes: 0, manifests: 0 }
  const marked = new Set<string>()
  const names: string[] = []
  for await (const name of store.repositories()) {
    names.push(name)
    const revisions = await revisionsOf(store, name)
    if (untagged) collected.manifests += await dropUntagged(store, name, revisions, before, dryRun)
    for (const [digest, references] of revisions) for (const wanted of [digest, ...references]) marked.add(wanted)
  }
  const gone = new Set<string>()
  for await (const digest of blobs(store)) {
    if (marked.has(digest)) continue
    const size = dryRun ? (await store.storage.stat(layout.blob(digest)))?.size : await store.collect(digest, before)
    if (size === undefined) continue
    gone.add(digest)
    collected.blobs++
    collected.bytes += size
  }
  if (!dryRun) for (const name of names) await dropLinks(store, name, gone)
  return collected
}

async function* blobs({ storage }: RegistryStore): AsyncGenerator<string> {
  for (const algorithm of await storage.list(layout.blobs))
    for (const prefix of await storage.list(`${layout.blobs}/${algorithm}`))
      for (const hex of await storage.list(`${layout.blobs}/${algorithm}/${prefix}`)) yield `${algorithm}:${hex}`
}

/** A repository's manifests, and what each refers to. */
async function revisionsOf(store: RegistryStore, name: string): Promise<Map<string, string[]>> {
  const revisions = new Map<string, string[]>()
  for (const algorithm of await store.storage.list(layout.revisions(name)))
    for (const hex of await store.storage.list(`${layout.revisions(name)}/${algorithm}`)) {
      const digest = `${algorithm}:${hex}`
      const manifest = await readable(store, name, digest)
      revisions.set(digest, manifest ? referencesOf(manifest).map((descriptor) => descriptor.digest) : [])
    }
  return revisions
}

/** A manifest that can be read. One that can't, which another registry may have left, refers to nothing that is known. */
async function readable(store: RegistryStore, name: string, digest: string): Promise<Manifest | undefined> {
  try {
    return (await store.manifest(name, digest))?.manifest
  } catch (error) {
    if (!isKind(error, 'unsupported') && !isKind(error, 'invalid')) throw error
    return undefined
  }
}

async function dropUntagged(store: RegistryStore, name: string, revisions: Map<string, string[]>, before: number, dryRun: boolean): Promise<number> {
  const wanted = new Set<string>()
  const want = (digest: string): void => {
    if (wanted.has(digest)) return
    wanted.add(digest)
    for (const reference of revisions.get(digest) ?? []) want(reference)
  }
  for (const tag of await store.tags(name)) {
    const digest = await store.resolve(name, tag)
    if (digest) want(digest)
  }
  // what is about a wanted manifest is wanted with it
  for (let size = -1; size !== wanted.size;) {
    size = wanted.size
    for (const [digest] of revisions) {
      const subject = wanted.has(digest) ? undefined : (await readable(store, name, digest))?.subject?.digest
      if (subject && wanted.has(subject)) want(digest)
    }
  }
  let count = 0
  for (const digest of [...revisions.keys()]) {
    if (wanted.has(digest) || ((await store.storage.stat(layout.revision(name, digest)))?.changed ?? 0) > before) continue
    if (!dryRun) await store.removeManifest(name, digest)
    revisions.delete(digest)
    count++
  }
  return count
}

/** Takes away the links to blobs that are gone. */
async function dropLinks(store: RegistryStore, name: string, gone: ReadonlySet<string>): Promise<void> {
  for (const algorithm of await store.storage.list(layout.layers(name)))
    for (const hex of await store.storage.list(`${layout.layers(name)}/${algorithm}`))
      if (gone.has(`${algorithm}:${hex}`)) await store.removeBlob(name, `${algorithm}:${hex}`)
}
