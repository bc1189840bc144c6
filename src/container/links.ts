import { userDefined } from '../libnetwork/network.ts'
import type { Container } from './container.ts'
import type { ContainerDeps } from './deps.ts'
import { parsePort } from './ports.ts'
import type { ContainerRecord } from './record.ts'

/** A link of the default network: another container, its address there, and the name by which it is known. */
export interface Link { container: Container, alias: string, address: string }

/** A container's links to others on the default network that run; on networks with names the name server has them. */
export function linksOf(deps: Pick<ContainerDeps, 'containers'>, { host }: ContainerRecord): Link[] {
  return (host.Links ?? []).flatMap((link) => {
    const [target = '', name = target] = link.replace(/^\//, '').split(':')
    const container = deps.containers.list().find(({ record }) => record.name === target) ?? deps.containers.find(target)
    const address = container?.record.endpoints.find(({ networkName }) => !userDefined({ name: networkName }))?.ipv4?.split('/')[0]
    return container && address ? [{ container, alias: name.replace(/^.*\//, ''), address }] : []
  })
}

/** The variables by which Docker tells a container of its links: `DB_PORT_5432_TCP_ADDR` and the like. */
export function linkEnvironment(deps: Pick<ContainerDeps, 'containers'>, record: ContainerRecord): string[] {
  return linksOf(deps, record).flatMap(({ container: { record: other }, alias, address }) => {
    const name = alias.toUpperCase().replaceAll('-', '_')
    const ports = Object.keys(other.config.ExposedPorts).map(parsePort).toSorted((a, b) => a.port - b.port || (a.protocol < b.protocol ? -1 : 1))
    return [
      ...ports.slice(0, 1).map(({ port, protocol }) => `${name}_PORT=${protocol}://${address}:${port}`),
      ...ports.flatMap(({ port, protocol }) => {
        const prefix = `${name}_PORT_${port}_${protocol.toUpperCase()}`
        return [`${prefix}=${protocol}://${address}:${port}`, `${prefix}_ADDR=${address}`, `${prefix}_PORT=${port}`, `${prefix}_PROTO=${protocol}`]
      }),
      `${name}_NAME=/${record.name}/${alias}`,
      ...other.config.Env.filter((entry) => !/^(HOME|PATH)=/.test(entry)).map((entry) => `${name}_ENV_${entry}`),
    ]
  })
}
