import type { ArchiveFile } from '../archive/archive.ts'
import { invalid, isKind } from '../lib/errors.ts'
import { randomName } from '../lib/ids.ts'
import { chainIdOf, type Layer } from '../layer/store.ts'
import type { Descriptor } from '../manifest/manifest.ts'
import type { Repository } from '../registry/repository.ts'
import type { DistributionDeps, LayerProgress } from './deps.ts'
import { fetchBlob } from './fetch.ts'

/** An image's layers, from the lowest up, and where they are. */
export interface Plan { layers: readonly PlannedLayer[], from: readonly Repository[] }

export interface PlannedLayer { descriptor: Descriptor, diffId: string, chainId: string }

export function planOf(descriptors: readonly Descriptor[], diffIds: readonly string[], from: readonly Repository[]): Plan {
  let chainId: string | undefined
  return { from, layers: descriptors.map((descriptor, at) => {
    chainId = chainIdOf(chainId, diffIds[at]!)
    return { descriptor, diffId: diffIds[at]!, chainId }
  }) }
}

type Watch = (progress: LayerProgress) => void

/** Gets a layer here, with those below it, and keeps it for `holder`. Whoever else wants it at the same time shares the
 * work. */
export async function layerArrives(deps: DistributionDeps, plan: Plan, at: number, holder: string, watch: Watch, signal: AbortSignal): Promise<void> {
  const { layers } = deps.images
  const { chainId } = plan.layers[at]!
  if (layers.has(chainId)) return layers.hold(chainId, holder)
  const take = (layer: Layer): void => layers.hold(layer.chainId, holder)
  await deps.arriving.join(chainId, { watch, take }, signal, async (report, whole, give) => {
    const own = `/hold/layer-${randomName()}`
    try {
      const layer = await fetchLayer(deps, plan, at, own, report, whole)
      give(layer)
      return layer
    } finally {
      await layers.release(own)
    }
  })
}

/** Unpacks the layer while its bytes still arrive. */
async function fetchLayer(deps: DistributionDeps, plan: Plan, at: number, holder: string, report: Watch, signal: AbortSignal): Promise<Layer> {
  const { images: { layers } } = deps
  const { blobs } = layers
  const { descriptor, diffId, chainId } = plan.layers[at]!
  const { mediaType, digest, size } = descriptor
  const below = at === 0 ? undefined : plan.layers[at - 1]!
  const stop = new AbortController()
  const either = AbortSignal.any([signal, stop.signal])
  const parent = below && layerArrives(deps, plan, at - 1, holder, () => {}, either)
  parent?.catch((error: unknown) => stop.abort(error)) // without it this one is in vain
  if (deps.downloads.full) report({ status: 'Waiting' })
  // all layers of a pull ask for their locks in one go, from the lowest up: two pulls can't each wait for the other's
  using _writer = await deps.blobLock.hold(digest)
  either.throwIfAborted()
  if (layers.has(chainId)) return layers.get(chainId) // by another way meanwhile
  layers.holdBlob(digest, holder)
  const unpack = async (file: ArchiveFile, taken?: () => number): Promise<Layer> => {
    await parent
    const timer = taken && setInterval(() => {
      if (arrived) report({ status: 'Extracting', current: Math.min(taken(), size), total: size })
    }, INTERVAL)
    try {
      return await layers.register(file, below?.chainId, holder, { diffId, blob: { mediaType, digest, size }, signal: either })
    } finally {
      clearInterval(timer)
    }
  }
  let arrived = false
  if (blobs.has(digest)) {
    if (blobs.size(digest) !== size) throw invalid(`${digest} has ${blobs.size(digest)} bytes, and not ${size} as the manifest says`)
    report({ status: 'Download complete' })
    const layer = await unpack(blobs.file(digest))
    report({ status: 'Pull complete' })
    return layer
  }
  await using ingest = await blobs.begin(digest)
  const progress = throttled(report)
  const download = deps.downloads.with(either, async () => {
    await fetchBlob(descriptor, plan.from, ingest, {
      signal: either, attempts: deps.attempts, received: (bytes) => progress({ status: 'Downloading', current: bytes, total: size }),
      waiting: (milliseconds) => report({ status: retrying(milliseconds) }),
    })
    report({ status: 'Verifying Checksum' })
    blobs.commit(ingest, digest)
    report({ status: 'Download complete' })
    arrived = true
    ingest.end('complete')
  }).catch((error: unknown) => {
    ingest.end('failed')
    if (ingest.length === 0) blobs.drop(ingest)
    throw error
  })
  const first = ingest.file
  const early = unpack(first, () => ingest.taken).catch((error: unknown) => {
    if (isKind(error, 'system') && !either.aborted && first.growth!.open) stop.abort(error) // the disk is full, say
    throw error
  })
  const [downloaded, unpacked] = await Promise.allSettled([download, early])
  signal.throwIfAborted()
  if (downloaded.status === 'rejected') throw downloaded.reason
  if (unpacked.status === 'rejected' && ingest.file.growth === first.growth) throw unpacked.reason
  // what was unpacked early may have been what an earlier try had spoilt, and was fetched again
  const layer = unpacked.status === 'fulfilled' ? unpacked.value : await unpack(blobs.file(digest))
  report({ status: 'Pull complete' })
  return layer
}

/** What is shown before the next try. */
export function retrying(milliseconds: number): string {
  const seconds = Math.ceil(milliseconds / 1000)
  return `Retrying in ${seconds} second${seconds === 1 ? '' : 's'}`
}

const INTERVAL = 100

/** Passes on a progress that moves at most ten times a second. */
export function throttled(report: Watch): Watch {
  let last = 0
  return (progress) => {
    const now = performance.now()
    if (now - last < INTERVAL && progress.current !== progress.total) return
    last = now
    report(progress)
  }
}
