import type { NetworkConfig } from '../networkdriver/driver.ts'
import type { PoolConfig } from './ipam.ts'

/** What is kept of a network in the graph. */
export interface NetworkRecord {
  id: string
  name: string
  created: string
  driver: string
  scope: 'local' | 'global'
  ipv4: boolean
  ipv6: boolean
  internal: boolean
  attachable: boolean
  /** `default`, or a plugin. */
  ipamDriver: string
  ipamOptions: Record<string, string>
  pools: PoolConfig[]
  options: Record<string, string>
  labels: Record<string, string>
  /** Only what others are made of, and by whom this was: names of networks. */
  configOnly?: boolean
  configFrom?: string
}

/** The networks that there always are. */
export const predefined: ReadonlySet<string> = new Set(['bridge', 'host', 'none'])

/** True for a network that somebody made, where containers find each other by name. */
export const userDefined = ({ name }: Pick<NetworkRecord, 'name'>): boolean => !predefined.has(name)

const isIPv6 = ({ subnet }: PoolConfig): boolean => subnet.includes(':')

/** A network as its driver sees it. */
export function configOf({ id, name, internal, options, pools }: NetworkRecord): NetworkConfig {
  const seen = pools.map((pool) => ({ ipv6: isIPv6(pool), pool: { subnet: pool.subnet, ...(pool.gateway && { gateway: pool.gateway }) } }))
  return { id, name, internal, options, ipv4: seen.filter(({ ipv6 }) => !ipv6).map(({ pool }) => pool), ipv6: seen.filter(({ ipv6 }) => ipv6).map(({ pool }) => pool) }
}
