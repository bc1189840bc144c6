import { isIP } from 'node:net'
import { forbidden, invalid } from '../lib/errors.ts'
import { overlap, parseSubnet, withoutPrefix, type Subnet } from '../netlink/address.ts'
import type { NetworkRequest } from './controller.ts'
import { hostSubnets } from './host.ts'
import { checkPool, freeSubnet, type AddressSpace, type PoolConfig } from './ipam.ts'
import type { NetworkRecord } from './network.ts'

/** The subnets of a new network: what was asked for, checked against those of others, and what is free for the rest. `id`
 * is the network's; `more` are taken as well. */
export function choosePools(request: Pick<NetworkRequest, 'name' | 'ipv4' | 'ipv6' | 'pools'>, id: string, { records, spaces, more }: { records: readonly NetworkRecord[], spaces: readonly AddressSpace[], more: readonly Subnet[] }): PoolConfig[] {
  const others = records.filter(({ configOnly }) => !configOnly).flatMap((record) => record.pools.map((pool) => ({ name: record.name, subnet: parseSubnet(pool.subnet) })))
  const pools: PoolConfig[] = []
  for (const asked of request.pools) {
    if (asked.subnet === undefined || asked.subnet === '') {
      if (asked.range || asked.gateway) throw invalid('user specified IP address is supported only when connecting to networks with user configured subnets')
      continue
    }
    const pool = checkPool({ ...asked, subnet: asked.subnet })
    const subnet = parseSubnet(pool.subnet)
    const other = others.find((one) => overlap(one.subnet, subnet))
    if (other) throw forbidden(`invalid pool request: Pool overlaps with other one on this address space (network ${other.name})`)
    if (subnet.family === 6 && !request.ipv6) throw invalid(`IPv6 is not enabled, and ${pool.subnet} is a subnet of IPv6`)
    pools.push(pool)
    others.push({ name: request.name, subnet })
  }
  const taken = [...others.map(({ subnet }) => subnet), ...hostSubnets(), ...more]
  const has = (family: number): boolean => pools.some((pool) => isIP(withoutPrefix(pool.subnet)) === family)
  if (request.ipv4 && !has(4)) pools.push(checkPool({ subnet: freeSubnet(spaces, 4, taken) }))
  // a unique local prefix (RFC 4193), made of the network's id, which is random
  if (request.ipv6 && !has(6)) pools.push(checkPool({ subnet: freeSubnet([...spaces, { base: `fd${id.slice(0, 2)}:${id.slice(2, 6)}:${id.slice(6, 10)}::/48`, size: 64 }], 6, taken) }))
  return pools
}
