import { gzip } from '../archive/gzip.ts'
import type { Blob } from '../layer/blobs.ts'
import type { Layer } from '../layer/store.ts'
import { types } from '../manifest/manifest.ts'
import type { DistributionDeps } from './deps.ts'

/** Compresses a layer's archive, as registries have it, and keeps that with the layer: its digest is the same when it is
 * pushed again. */
export async function compressLayer({ images: { layers }, blobLock }: Pick<DistributionDeps, 'images' | 'blobLock'>, layer: Layer, signal: AbortSignal): Promise<Blob> {
  using _maker = await blobLock.hold(layer.chainId)
  const made = layers.get(layer.chainId).blob
  if (made) return made
  const { blobs } = layers
  await using ingest = await blobs.make()
  try {
    for await (const chunk of gzip(layers.archive(layer.chainId))) {
      signal.throwIfAborted()
      await ingest.append(chunk)
    }
    const blob = { mediaType: types.dockerLayer, digest: ingest.digest(), size: ingest.length }
    blobs.commit(ingest, blob.digest)
    layers.keepBlob(layer.chainId, blob)
    return blob
  } catch (error) {
    blobs.drop(ingest)
    throw error
  }
}
