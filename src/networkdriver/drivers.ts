import { unavailable } from '../lib/errors.ts'
import type { Plugin } from '../lib/plugin.ts'
import { bridgeDriver, type BridgeOptions } from './bridge/bridge.ts'
import type { NetworkDriver } from './driver.ts'
import { layeredDriver } from './layered.ts'
import { emptyDriver } from './null.ts'
import { remoteDriver } from './remote.ts'
import { overlayDriver } from './overlay.ts'

export const networkDriverNames = ['bridge', 'host', 'ipvlan', 'macvlan', 'null', 'overlay'] as const

/** The drivers of networks, each made when it is first asked for. */
export function networkDrivers(options: { bridge: BridgeOptions, /** This host's address among others, where there are any. */ address: string | undefined, plugin: (name: string) => Plugin }): (name: string) => NetworkDriver {
  const made = new Map<string, NetworkDriver>()
  const make = (name: string): NetworkDriver => {
    if (name === 'bridge') return bridgeDriver(options.bridge)
    if (name === 'macvlan' || name === 'ipvlan') return layeredDriver(name, options.bridge)
    if (name === 'overlay') {
      if (options.address === undefined) throw unavailable('datastore for scope "global" is not initialized: overlay networks need --cluster-store and --cluster-advertise')
      return overlayDriver(driver('bridge'), { ...options.bridge, address: options.address })
    }
    if (name === 'host' || name === 'null') return emptyDriver(name)
    return remoteDriver(options.plugin(name))
  }
  const driver = (name: string): NetworkDriver => {
    const known = made.get(name) ?? make(name)
    made.set(name, known)
    return known
  }
  return driver
}
