import { flagOf } from '../image/list.ts'
import { invalid } from '../lib/errors.ts'
import { splitDomain } from '../reference/reference.ts'
import type { SearchResult } from '../registry/registries.ts'
import type { Credentials } from '../registry/tokens.ts'
import type { DistributionDeps } from './deps.ts'
import { hushed } from './pull.ts'

export const searchFilters = ['is-automated', 'is-official', 'stars']

const DEFAULT_LIMIT = 25
const MAX_LIMIT = 100

export interface SearchOptions { limit: number | undefined, filters: Map<string, string[]>, credentials: Credentials, signal: AbortSignal }

/** Searches an index for a term, which may begin with its host: `HOST/TERM`. */
export async function searchImages(deps: DistributionDeps, term: string, { limit = DEFAULT_LIMIT, filters, credentials, signal }: SearchOptions): Promise<SearchResult[]> {
  if (limit !== 0 && (limit < 1 || limit > MAX_LIMIT)) throw invalid(`limit ${limit} is outside the range of [1, ${MAX_LIMIT}]`)
  if (/^https?:\/\//.test(term)) throw invalid(`invalid repository name (${term}): must not have a scheme`)
  const [official, automated] = [flagOf(filters, 'is-official'), flagOf(filters, 'is-automated')]
  const stars = Math.max(0, ...(filters.get('stars') ?? []).map((text) => {
    if (!/^\d+$/.test(text)) throw invalid(`invalid filter 'stars=${text}'`)
    return Number(text)
  }))
  const { domain, rest } = splitDomain(term)
  const found = await deps.registries.search(domain, domain === 'docker.io' ? rest.replace(/^library\//, '') : rest, limit || DEFAULT_LIMIT, credentials, signal).catch((error: unknown) => {
    throw hushed(error)
  })
  return found.filter((result) => (official === undefined || result.is_official === official) && (automated === undefined || result.is_automated === automated) && result.star_count >= stars)
}
