import type { Plugin } from '../lib/plugin.ts'
import { isKind } from '../lib/errors.ts'
import type { VolumeConfig, VolumeDriver } from './driver.ts'

const OF = 'VolumeDriver'

interface Found { Name: string, Mountpoint?: string, Status?: Record<string, unknown> }

/** Volumes that a plugin keeps (Docker documentation, "Volume plugins"). It counts its mounts itself, also while no engine
 * runs. */
export async function remoteVolumeDriver(plugin: Plugin): Promise<VolumeDriver> {
  const call = <T extends object>(method: string, body: object = {}): Promise<T> => plugin.call<T>(OF, method, body)
  const get = async ({ name }: VolumeConfig): Promise<Found> => (await call<{ Volume?: Found }>('Get', { Name: name })).Volume ?? { Name: name }
  const path = async ({ name }: VolumeConfig): Promise<string> => (await call<{ Mountpoint?: string }>('Path', { Name: name })).Mountpoint ?? ''
  // old plugins do not know the question
  const { Capabilities } = await call<{ Capabilities?: { Scope?: string } }>('Capabilities').catch((error: unknown): { Capabilities?: { Scope?: string } } => {
    if (isKind(error, 'system')) return {}
    throw error
  })
  return {
    name: plugin.name, scope: Capabilities?.Scope === 'global' ? 'global' : 'local',
    async create({ name, options }) {
      await call('Create', { Name: name, Opts: options })
    },
    async remove({ name }) {
      await call('Remove', { Name: name })
    },
    mount: async ({ name }, id) => (await call<{ Mountpoint?: string }>('Mount', { Name: name, ID: id })).Mountpoint ?? '',
    async unmount({ name }, id) {
      await call('Unmount', { Name: name, ID: id })
    },
    path,
    resume: path,
    status: async (volume) => (await get(volume)).Status ?? {},
    list: async () => ((await call<{ Volumes?: Found[] | null }>('List')).Volumes ?? []).map(({ Name }) => Name),
  }
}
