import { unavailable } from '../lib/errors.ts'
import type { Plugin } from '../lib/plugin.ts'
import { bridgeDriver, type BridgeOptions } from './bridge/bridge.ts'
import type { NetworkDriver } from './driver.ts'
import { layeredDriver } from './layered.ts'
import { emptyDriver } from './null.ts'
import { remoteDriver } from './remote.ts'
import { overlayDriver, type TunnelKeys } from './overlay.ts'

export const networkDriverNames = ['bridge', 'host', 'ipvlan', 'macvlan', 'null', 'overlay'] as const

/** The drivers of networks, each made when it is first asked for. */
export function networkDrivers(options: { bridge: BridgeOptions, /** This host among others, where there are any. */ cluster: { address: string, keys: TunnelKeys } | undefined, plugin: (name: string) => Plugin }): (name: string) => NetworkDriver {
  const made = new Map<string, NetworkDriver>()
  const make = (name: string): NetworkDriver => {
    if (name === 'bridge') return bridgeDriver(options.bridge)
    if (name === 'macvlan' || name === 'ipvlan') return layeredDriver(name, options.bridge)
    if (name === 'overlay') {
      if (!options.cluster) throw unavailable('datastore for scope "global" is not initialized: overlay networks need --cluster-store and --cluster-advertise')
      return overlayDriver(driver('bridge'), { ...options.bridge, ...options.cluster })
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
