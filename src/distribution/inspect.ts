import { platformOf } from '../image/platform.ts'
import { parseImageConfig } from '../image/store.ts'
import type { Reference } from '../reference/reference.ts'
import type { Credentials } from '../registry/tokens.ts'
import type { DistributionDeps } from './deps.ts'
import { explain, fetchConfig, fromAny } from './pull.ts'

/** The API's DistributionInspect: what a name leads to in its registry, and the platforms that there are of it. */
export async function inspectRemote(deps: DistributionDeps, reference: Reference, credentials: Credentials, signal: AbortSignal): Promise<object> {
  const repositories = await deps.registries.toPull(reference, credentials)
  try {
    const { manifest, digest, size } = await fromAny(repositories, signal, (repository) => repository.manifest(reference.digest ?? reference.tag!, signal))
    const platforms = manifest.kind === 'index'
      ? manifest.manifests.flatMap(({ platform }) => platform ?? [])
      : [platformOf(parseImageConfig(await fetchConfig(manifest.config, repositories, signal)))]
    return { Descriptor: { mediaType: manifest.mediaType, digest, size }, Platforms: platforms }
  } catch (error) {
    throw explain(error, reference)
  }
}
