import type { RegistryStore } from './store.ts'

const LIMIT = 25
const MAX_LIMIT = 100
const DESCRIPTION = 'org.opencontainers.image.description'

interface Result { name: string, description: string, star_count: number, is_official: boolean, is_automated: boolean }

/** The search of Docker's registry API V1: repositories with a term in their names, and what their newest manifest says of
 * them. */
export async function searchRepositories(store: RegistryStore, query: URLSearchParams, visible: (name: string) => boolean): Promise<object> {
  const term = (query.get('q') ?? '').toLowerCase()
  const size = Math.min(MAX_LIMIT, Math.max(1, Number(query.get('n')) || LIMIT))
  const at = Math.max(1, Number(query.get('page')) || 1)
  const names: string[] = []
  for await (const name of store.repositories()) if (name.includes(term) && visible(name)) names.push(name)
  const shown = names.sort((a, b) => a.length - b.length || (a < b ? -1 : 1)).slice((at - 1) * size, at * size)
  const results = await Promise.all(shown.map(async (name): Promise<Result> => ({ name, description: await describe(store, name), star_count: 0, is_official: name.startsWith('library/'), is_automated: false })))
  return { query: query.get('q') ?? '', num_results: names.length, num_pages: Math.ceil(names.length / size), page: at, page_size: size, results }
}

async function describe(store: RegistryStore, name: string): Promise<string> {
  const tag = await store.resolve(name, 'latest') ? 'latest' : (await store.tags(name)).at(-1)
  const digest = tag === undefined ? undefined : await store.resolve(name, tag)
  const manifest = digest === undefined ? undefined : (await store.manifest(name, digest))?.manifest
  if (!manifest) return ''
  const annotated = manifest.annotations?.[DESCRIPTION]
  if (annotated !== undefined || manifest.kind === 'index') return annotated ?? ''
  const chunks: Buffer[] = []
  const config = await store.blob(name, manifest.config.digest)
  if (!config || config.size > 1 << 20) return ''
  for await (const chunk of store.read(config.digest, 0, config.size)) chunks.push(chunk as Buffer)
  try {
    return (JSON.parse(Buffer.concat(chunks).toString('utf8')) as { config?: { Labels?: Record<string, string> } }).config?.Labels?.[DESCRIPTION] ?? ''
  } catch {
    return '' // an artifact's configuration may be anything
  }
}
