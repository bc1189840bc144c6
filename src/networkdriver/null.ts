import { invalid, unsupported } from '../lib/errors.ts'
import type { NetworkDriver } from './driver.ts'

/** The drivers of the two networks that there are without being made: `host`, the host's own namespace, and `null`, one
 * without interfaces. Nobody has an endpoint in them. */
export function emptyDriver(name: 'host' | 'null'): NetworkDriver {
  return {
    name,
    scope: 'local',
    check(network) {
      if (network.name !== (name === 'host' ? 'host' : 'none')) throw invalid(`only one instance of ${JSON.stringify(name)} network is allowed`)
    },
    create: () => Promise.resolve(),
    remove: () => Promise.resolve(),
    join: (network) => Promise.reject(unsupported(`network ${network.name} has no endpoints`)),
    leave: () => Promise.resolve(),
  }
}
