import { listContainers, type ListDeps } from '../container/inspect.ts'
import { summaryOf } from '../image/list.ts'
import { wire } from '../volume/service.ts'
import type { Volumes } from '../volume/volumes.ts'

/** The API's SystemDataUsageResponse: how much disk space images and containers use. */
export async function diskUsage(deps: ListDeps & { volumes: Volumes }): Promise<object> {
  const { containers, images, layers } = deps
  const chains = images.list().map((image) => ({ image, chain: images.chain(image) }))
  const users = new Map<string, number>()
  for (const { chain } of chains) for (const { chainId } of chain) users.set(chainId, (users.get(chainId) ?? 0) + 1)
  const sum = (list: readonly { size: number }[]): number => list.reduce((total, { size }) => total + size, 0)
  const names = images.names()
  const blobs = new Map(layers.list().flatMap(({ blob }) => (blob ? [[blob.digest, blob] as const] : []))) // kept beside what they unpack to
  return {
    LayersSize: sum(layers.list()) + sum([...blobs.values()]),
    Images: chains.map(({ image, chain }) => ({
      ...summaryOf(images, image, names.get(image.id) ?? {}), SharedSize: sum(chain.filter(({ chainId }) => users.get(chainId)! > 1)), Containers: containers.ofImage(image.id).length,
    })),
    Containers: await listContainers(deps, { all: true, size: true, filters: new Map() }),
    Volumes: await Promise.all((await deps.volumes.list()).map((record) => wire(deps.volumes, record, { usage: true }))), BuildCache: [],
  }
}
