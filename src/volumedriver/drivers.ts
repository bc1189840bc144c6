import type { Plugin } from '../lib/plugin.ts'
import type { VolumeDriver } from './driver.ts'
import { localDriver, type LocalOptions } from './local.ts'
import { remoteVolumeDriver } from './remote.ts'

export const volumeDriverNames = ['local'] as const

/** The drivers of volumes, each made when it is first asked for. */
export function volumeDrivers(options: { local: LocalOptions, plugin: (name: string) => Plugin }): (name: string) => Promise<VolumeDriver> {
  const made = new Map<string, Promise<VolumeDriver>>()
  made.set('local', Promise.resolve(localDriver(options.local)))
  return (name) => {
    let driver = made.get(name)
    if (!driver) {
      // in a promise, since a plugin that is not there is said by a throw
      driver = Promise.resolve().then(() => remoteVolumeDriver(options.plugin(name)))
      made.set(name, driver)
      driver.catch(() => made.delete(name)) // it may be there the next time
    }
    return driver
  }
}
