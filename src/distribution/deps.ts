import type { Events } from '../engine/events.ts'
import type { Engine } from '../engine/engine.ts'
import type { ImageStore } from '../image/store.ts'
import type { KeyedLock } from '../lib/lock.ts'
import type { Limit } from '../lib/limit.ts'
import type { Layer } from '../layer/store.ts'
import type { Registries } from '../registry/registries.ts'
import type { Transfers } from './transfers.ts'

/** How far a layer is; sizes in bytes. */
export interface LayerProgress { status: string, current?: number, total?: number }

/** What images come and go by. */
export interface DistributionDeps {
  images: ImageStore
  registries: Registries
  engine: Engine
  events: Events
  /** Layers on their way here, by chain ID. */
  arriving: Transfers<Layer, LayerProgress>
  /** One writer a blob. */
  blobLock: KeyedLock
  downloads: Limit
  uploads: Limit
  attempts: number
  /** True where layers that registries must not have are pushed to a domain all the same. */
  pushesForeign: (domain: string) => Promise<boolean>
}
