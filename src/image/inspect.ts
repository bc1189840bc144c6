import { ZERO_TIME, type Image } from './image.ts'
import { platformOf } from './platform.ts'
import type { ImageStore } from './store.ts'

/** The API's ImageInspect. */
export function inspectImage(images: ImageStore, image: Image): { Size: number, [field: string]: unknown } {
  const { config } = image
  const { tags, digests } = images.namesOf(image.id)
  const { os, architecture, variant } = platformOf(config)
  const top = image.topLayer ? images.layers.get(image.topLayer) : undefined
  const run = { User: '', Env: null, Cmd: null, Entrypoint: null, WorkingDir: '', Labels: null, OnBuild: null, Volumes: null, ...config.config }
  return {
    Id: image.id, RepoTags: tags, RepoDigests: digests, Parent: image.parent ?? '', Comment: config.comment ?? '', Created: config.created ?? ZERO_TIME,
    DockerVersion: config.docker_version ?? '', Author: config.author ?? '',
    Config: run, ContainerConfig: run, // the second is not the API's any more, but compose 1 asks the newest API for it
    Architecture: architecture, ...(variant && { Variant: variant }), Os: os, Size: images.size(image),
    GraphDriver: { Name: images.layers.driver.name, Data: top ? images.layers.driver.data(top.driverId) : {} },
    RootFS: { Type: 'layers', Layers: config.rootfs.diff_ids }, Metadata: { LastTagTime: image.lastTagged ?? ZERO_TIME },
  }
}

/** The API's list of HistoryResponseItem, newest first. */
export function historyOf(images: ImageStore, image: Image): object[] {
  const layers = images.chain(image)
  let at = 0
  const items = (image.config.history ?? []).map((entry) => ({
    Id: '<missing>', Created: entry.created ? Math.floor(Date.parse(entry.created) / 1000) : 0, CreatedBy: entry.created_by ?? '', Tags: null as string[] | null,
    Size: entry.empty_layer ? 0 : (layers[at++]?.size ?? 0), Comment: entry.comment ?? '',
  }))
  while (at < layers.length) items.push({ Id: '<missing>', Created: 0, CreatedBy: '', Tags: null, Size: layers[at++]!.size, Comment: '' })
  items.reverse()
  if (items[0]) {
    items[0].Id = image.id
    const { tags } = images.namesOf(image.id)
    items[0].Tags = tags.length ? tags : null
  }
  return items
}
