import type { Names } from './dns/server.ts'
import type { Networks } from './controller.ts'
import { userDefined } from './network.ts'
import type { Sandbox } from './sandbox.ts'
import { namesOf } from './endpointnames.ts'
import { withoutPrefix } from '../netlink/address.ts'

const bare = (address: string | undefined): string[] => (address ? [withoutPrefix(address)] : [])

/** What a sandbox's name server knows: who else is in its user-defined networks, by name, alias, short id, and its links.
 * `servers` are those for the rest, which a sandbox without a way out does not get. */
export function namesFor(networks: Networks, sandbox: Sandbox, servers: () => readonly string[]): Names {
  const neighbours = () => sandbox.endpoints.flatMap((own) => (userDefined({ name: own.networkName }) ? [
    ...networks.endpointsOf(own.network).map(({ sandbox: other, endpoint }) => ({ own, name: other.name, names: namesOf(other, endpoint), ipv4: endpoint.ipv4, ipv6: endpoint.ipv6 })),
    ...networks.peersOf(own.network).map(({ names, ipv4, ipv6 }) => ({ own, name: names[0] ?? '', names, ipv4, ipv6 })),
  ] : []))
  return {
    lookup(name) {
      const plain = name.replace(/\.$/, '')
      const matching = neighbours().filter(({ own, names }) => {
        const known = names.map((one) => one.toLowerCase())
        const links = own.settings.links.map((link) => link.split(':')).filter(([target = '', alias = target]) => alias.toLowerCase() === plain && known.includes(target.toLowerCase()))
        // a network's name may follow: `db.backend`
        return links.length > 0 || known.some((one) => plain === one || plain === `${one}.${own.networkName.toLowerCase()}`)
      })
      if (matching.length === 0) return undefined
      return { ipv4: matching.flatMap(({ ipv4 }) => bare(ipv4)), ipv6: matching.flatMap(({ ipv6 }) => bare(ipv6)) }
    },
    reverse(address) {
      const found = neighbours().find(({ ipv4, ipv6 }) => bare(ipv4)[0] === address || bare(ipv6)[0] === address)
      return found && `${found.name}.${found.own.networkName}`
    },
    servers: () => (sandbox.endpoints.some(({ gateway4, gateway6 }) => gateway4 || gateway6) ? servers() : []),
  }
}

/** What the host's name server knows: every container, as NAME.berth and NAME.NETWORK.berth. It asks nobody else. */
export function namesForHost(networks: Networks): Names {
  const everybody = () => networks.list().flatMap(({ id }) => networks.endpointsOf(id))
  return {
    lookup(name) {
      const matching = everybody().filter(({ sandbox, endpoint }) => namesOf(sandbox, endpoint).some((one) => [`${one}.berth`, `${one}.${endpoint.networkName}.berth`].includes(name.replace(/\.$/, ''))))
      return matching.length ? { ipv4: matching.flatMap(({ endpoint }) => bare(endpoint.ipv4)), ipv6: matching.flatMap(({ endpoint }) => bare(endpoint.ipv6)) } : undefined
    },
    reverse(address) {
      const found = everybody().find(({ endpoint }) => bare(endpoint.ipv4)[0] === address || bare(endpoint.ipv6)[0] === address)
      return found && `${found.sandbox.name}.${found.endpoint.networkName}.berth`
    },
    servers: () => [],
  }
}
