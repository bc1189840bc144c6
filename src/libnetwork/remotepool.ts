import { conflict } from '../lib/errors.ts'
import type { Plugin } from '../lib/plugin.ts'
import { parseSubnet, withoutPrefix, type Subnet } from '../netlink/address.ts'
import type { PoolConfig } from './ipam.ts'

const OF = 'IpamDriver'
const GATEWAY = { RequestAddressType: 'com.docker.network.gateway' }

/** The addresses of a subnet that a plugin gives out (Docker's IPAM driver protocol). */
export class RemotePool {
  readonly subnet: Subnet
  readonly #plugin: Plugin
  readonly #id: string

  constructor(plugin: Plugin, config: PoolConfig) {
    this.subnet = parseSubnet(config.subnet)
    this.#plugin = plugin
    this.#id = config.id ?? ''
  }

  async allocate(): Promise<string | undefined> {
    const { Address } = await this.#plugin.call<{ Address?: string }>(OF, 'RequestAddress', { PoolID: this.#id, Address: '', Options: {} })
    return Address
  }

  async reserve(address: string): Promise<string> {
    const { Address } = await this.#plugin.call<{ Address?: string }>(OF, 'RequestAddress', { PoolID: this.#id, Address: address, Options: {} })
    if (!Address) throw conflict('Address already in use')
    return Address
  }

  /** The plugin knows what it gave out. */
  take(): void {}

  async release(address: string): Promise<void> {
    await this.#plugin.call(OF, 'ReleaseAddress', { PoolID: this.#id, Address: withoutPrefix(address) })
  }
}

export interface PoolRequest { subnet?: string | undefined, range?: string | undefined, gateway?: string | undefined, auxiliary?: Record<string, string> | undefined }

/** Has a plugin choose, or take, a network's subnets, with a gateway for each. Nothing is left of a failure. */
export async function requestPools(plugin: Plugin, asked: readonly PoolRequest[], options: Record<string, string>, families: { ipv4: boolean, ipv6: boolean }): Promise<PoolConfig[]> {
  const { LocalDefaultAddressSpace = '' } = await plugin.call<{ LocalDefaultAddressSpace?: string }>(OF, 'GetDefaultAddressSpaces')
  const isIPv6 = ({ subnet = '' }: PoolRequest): boolean => subnet.includes(':')
  const wanted = [...asked, ...(families.ipv4 && !asked.some((pool) => !isIPv6(pool)) ? [{ v6: false }] : []), ...(families.ipv6 && !asked.some(isIPv6) ? [{ v6: true }] : [])] as (PoolRequest & { v6?: boolean })[]
  const pools: PoolConfig[] = []
  try {
    for (const pool of wanted) {
      const { subnet = '', range, gateway, auxiliary = {}, v6 = isIPv6(pool) } = pool
      const { PoolID = '', Pool = '', Data } = await plugin.call<{ PoolID?: string, Pool?: string, Data?: Record<string, string> | null }>(OF, 'RequestPool', { AddressSpace: LocalDefaultAddressSpace, Pool: subnet, SubPool: range ?? '', Options: options, V6: v6 })
      const config: PoolConfig = { subnet: Pool, ...(range && { range }), auxiliary, id: PoolID }
      pools.push(config)
      const given = Data?.['com.docker.network.gateway'] ?? (await plugin.call<{ Address?: string }>(OF, 'RequestAddress', { PoolID, Address: gateway ?? '', Options: GATEWAY })).Address
      if (given) config.gateway = withoutPrefix(given)
    }
    return pools
  } catch (error) {
    await releasePools(plugin, pools)
    throw error
  }
}

export async function releasePools(plugin: Plugin, pools: readonly PoolConfig[]): Promise<void> {
  for (const { id, gateway } of pools) {
    if (gateway) await plugin.call(OF, 'ReleaseAddress', { PoolID: id, Address: gateway })
    await plugin.call(OF, 'ReleasePool', { PoolID: id })
  }
}
