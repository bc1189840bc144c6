import { statusText } from '../container/inspect.ts'
import type { ContainerStore } from '../container/store.ts'
import type { ImageStore } from '../image/store.ts'
import type { LayerStore } from '../layer/store.ts'

/** The API's SystemDataUsageResponse: how much disk space images and containers use. */
export async function diskUsage({ containers, images, layers }: { containers: ContainerStore, images: ImageStore, layers: LayerStore }): Promise<object> {
  const all = containers.list()
  const chains = images.list().map((image) => ({ image, chain: images.chain(image) }))
  const users = new Map<string, number>()
  for (const { chain } of chains) for (const { chainId } of chain) users.set(chainId, (users.get(chainId) ?? 0) + 1)
  const sum = (list: readonly { size: number }[]): number => list.reduce((total, { size }) => total + size, 0)
  const names = images.names()
  return {
    LayersSize: sum(layers.list()),
    Images: chains.map(({ image, chain }) => {
      const { tags = [], digests = [] } = names.get(image.id) ?? {}
      return {
        Id: image.id, ParentId: image.parent ?? '', RepoTags: tags, RepoDigests: digests, Created: seconds(image.config.created), Size: sum(chain), SharedSize: sum(chain.filter(({ chainId }) => users.get(chainId)! > 1)),
        Labels: image.config.config?.Labels ?? null, Containers: all.filter(({ record }) => record.image === image.id).length,
      }
    }),
    Containers: await Promise.all(all.map(async ({ record }) => ({
      Id: record.id, Names: [`/${record.name}`], Image: record.config.Image, ImageID: record.image, Command: [record.path, ...record.args].join(' '), Created: seconds(record.created), Ports: [], Labels: record.config.Labels,
      State: record.state.status, Status: statusText(record), SizeRw: await layers.writableSize(record.id), SizeRootFs: sum(layers.chain(record.topLayer)), HostConfig: { NetworkMode: record.host.NetworkMode }, NetworkSettings: { Networks: {} }, Mounts: [],
    }))),
    Volumes: [], BuildCache: [],
  }
}

const seconds = (time: string | undefined): number => (time ? Math.floor(Date.parse(time) / 1000) : 0)
