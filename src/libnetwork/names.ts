import type { Names } from './dns/server.ts'
import type { Networks } from './controller.ts'
import { userDefined } from './network.ts'
import type { Endpoint, Sandbox } from './sandbox.ts'

/** The names under which a sandbox is known in a network, its own name first. */
export function namesOf(sandbox: Pick<Sandbox, 'id' | 'name'>, endpoint: Pick<Endpoint, 'settings'>): string[] {
  return [...new Set([sandbox.name, ...endpoint.settings.aliases, sandbox.id.slice(0, 12)])]
}

const bare = (address: string | undefined): string[] => (address ? [address.split('/')[0]!] : [])

/** What a sandbox's name server knows: who else is in its user-defined networks, by name, alias, short id, and its links.
 * `servers` are those for the rest, which a sandbox without a way out does not get. */
export function namesFor(networks: Networks, sandbox: Sandbox, servers: () => readonly string[]): Names {
  const neighbours = () => sandbox.endpoints.flatMap((own) => (userDefined({ name: own.networkName }) ? networks.endpointsOf(own.network).map((found) => ({ own, ...found })) : []))
  return {
    lookup(name) {
      const plain = name.replace(/\.$/, '')
      const matching = neighbours().filter(({ own, sandbox: other, endpoint }) => {
        const known = namesOf(other, endpoint).map((one) => one.toLowerCase())
        const links = own.settings.links.map((link) => link.split(':')).filter(([target = '', alias = target]) => alias.toLowerCase() === plain && known.includes(target.toLowerCase()))
        // a network's name may follow: `db.backend`
        return links.length > 0 || known.some((one) => plain === one || plain === `${one}.${endpoint.networkName.toLowerCase()}`)
      })
      if (matching.length === 0) return undefined
      return { ipv4: matching.flatMap(({ endpoint }) => bare(endpoint.ipv4)), ipv6: matching.flatMap(({ endpoint }) => bare(endpoint.ipv6)) }
    },
    reverse(address) {
      const found = neighbours().find(({ endpoint }) => bare(endpoint.ipv4)[0] === address || bare(endpoint.ipv6)[0] === address)
      return found && `${found.sandbox.name}.${found.endpoint.networkName}`
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
