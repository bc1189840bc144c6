import { isIP } from 'node:net'
import { conflict, invalid } from '../lib/errors.ts'
import { randomId } from '../lib/ids.ts'
import { addressBytes, contains, macText, withoutPrefix } from '../netlink/address.ts'
import type { Pool } from './ipam.ts'
import type { NetworkRecord } from './network.ts'
import type { Endpoint } from './sandbox.ts'

/** A network with what gives out its addresses. */
export interface Addressed { record: NetworkRecord, pools: Pool[] }

/** An endpoint's addresses, with prefix. */
export const addressesOf = ({ ipv4, ipv6 }: Pick<Endpoint, 'ipv4' | 'ipv6'>): string[] => [ipv4, ipv6].filter((address) => address !== undefined)

/** The pool that an address is of. */
export function poolOf({ pools }: Addressed, address: string): Pool | undefined {
  return pools.find(({ subnet }) => contains(subnet, withoutPrefix(address)))
}

/** An address of a family for an endpoint, if its network has that family. `claim` says whether nobody on another host
 * has it. */
export async function allocate(network: Addressed, family: 4 | 6, asked: string | undefined, claim: (address: string) => Promise<boolean>): Promise<string[]> {
  const { record } = network
  if (asked) {
    if (isIP(asked) !== family) throw invalid(`invalid IPv${family} address: ${asked}`)
    const pool = poolOf(network, asked)
    if (!pool) throw invalid(`no configured subnet contains IP address ${asked}`)
    const address = await pool.reserve(asked)
    if (await claim(address)) return [address]
    throw conflict('Address already in use (on another host)')
  }
  const pools = network.pools.filter(({ subnet }) => subnet.family === family)
  for (const pool of pools) {
    for (let address = await pool.allocate(); address; address = await pool.allocate()) {
      try {
        if (await claim(address)) return [address]
      } catch (error) {
        await pool.release(address)
        throw error
      }
      // another host's: it stays taken here until that host gives it back
    }
  }
  if (pools.length === 0) return []
  throw conflict(`no available IPv${family} addresses on this network's address pools: ${record.name} (${record.id})`)
}

/** The hardware address that Docker gives: it is the same for the same IPv4 address. */
export function macFor(ipv4: string | undefined): string {
  const bytes = ipv4 ? addressBytes(withoutPrefix(ipv4)) : Buffer.from(randomId().slice(0, 8), 'hex')
  return macText([0x02, 0x42, ...bytes])
}
