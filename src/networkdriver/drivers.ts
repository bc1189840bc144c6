import { notFound } from '../lib/errors.ts'
import { bridgeDriver, type BridgeOptions } from './bridge/bridge.ts'
import type { NetworkDriver } from './driver.ts'
import { layeredDriver } from './layered.ts'
import { emptyDriver } from './null.ts'

export const networkDriverNames = ['bridge', 'host', 'ipvlan', 'macvlan', 'null'] as const

/** The drivers of networks, each made when it is first asked for. */
export function networkDrivers(options: { bridge: BridgeOptions }): (name: string) => NetworkDriver {
  const made = new Map<string, NetworkDriver>()
  const make = (name: string): NetworkDriver => {
    if (name === 'bridge') return bridgeDriver(options.bridge)
    if (name === 'macvlan' || name === 'ipvlan') return layeredDriver(name, options.bridge)
    if (name === 'host' || name === 'null') return emptyDriver(name)
    throw notFound(`plugin ${JSON.stringify(name)} not found`)
  }
  return (name) => {
    const driver = made.get(name) ?? make(name)
    made.set(name, driver)
    return driver
  }
}
