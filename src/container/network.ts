import { isIP } from 'node:net'
import { conflict, forbidden, invalid, isKind } from '../lib/errors.ts'
import type { NetworkPlan } from '../libcontainer/network.ts'
import type { LiveProcess } from '../execdriver/driver.ts'
import { NameServer } from '../libnetwork/dns/server.ts'
import { openResolver, takeResolver } from '../libnetwork/dns/sockets.ts'
import { hostResolvConf } from '../libnetwork/host.ts'
import { namesFor } from '../libnetwork/names.ts'
import { userDefined, type NetworkRecord } from '../libnetwork/network.ts'
import { noSettings, planOf, type Endpoint, type EndpointSettings, type Sandbox } from '../libnetwork/sandbox.ts'
import type { PortBinding } from '../networkdriver/driver.ts'
import { macBytes } from '../netlink/address.ts'
import type { Impairment } from '../netlink/qdisc.ts'
import type { ContainerConfig, EndpointBody, HostConfig } from './body.ts'
import type { Container } from './container.ts'
import type { ContainerDeps } from './deps.ts'
import { asksNameServer, writeNameFiles } from './namefiles.ts'
import { portRequestsOf } from './ports.ts'
import type { ContainerRecord } from './record.ts'

/** A network that a container is to be in whenever it runs. */
export interface Membership { id: string, name: string, settings: EndpointSettings }

/** Reads an endpoint's settings from the API's EndpointSettings. */
export function settingsOf(body: EndpointBody | null | undefined): EndpointSettings {
  if (!body) return noSettings()
  const { IPv4Address, IPv6Address } = body.IPAMConfig ?? {}
  if (IPv4Address && isIP(IPv4Address) !== 4) throw invalid(`invalid IPv4 address: ${IPv4Address}`)
  if (IPv6Address && isIP(IPv6Address) !== 6) throw invalid(`invalid IPv6 address: ${IPv6Address}`)
  const linkLocal = body.IPAMConfig?.LinkLocalIPs ?? []
  for (const address of linkLocal) if (!isIP(address)) throw invalid(`invalid link-local IP address: ${address}`)
  if (body.MacAddress) macBytes(body.MacAddress)
  return {
    aliases: [...new Set(body.Aliases ?? [])], links: body.Links ?? [], options: body.DriverOpts ?? {}, priority: body.GwPriority, ...(body.MacAddress && { mac: body.MacAddress }),
    ...(IPv4Address && { ipv4: IPv4Address }), ...(IPv6Address && { ipv6: IPv6Address }), ...(linkLocal.length && { linkLocal }),
  }
}

/** True for a mode that leaves a container a network namespace of its own, with interfaces. */
export const hasNetworks = (mode: string): boolean => mode !== 'none' && mode !== 'host' && !mode.startsWith('container:')

/** The networks that a new container is to be in, checked. */
export function membershipsOf(deps: ContainerDeps, config: ContainerConfig, host: HostConfig, asked: Readonly<Record<string, EndpointBody | null | undefined>>, warnings: string[]): Membership[] {
  const mode = host.NetworkMode
  const published = Object.values(host.PortBindings).some((list) => list.length > 0) || host.PublishAllPorts
  if (!hasNetworks(mode)) {
    if (mode.startsWith('container:')) {
      if (published) throw invalid('conflicting options: port publishing and the container type network mode')
      if (config.Hostname) throw invalid('conflicting options: hostname and the network mode')
      if (host.Dns.length) throw invalid('conflicting options: dns and the network mode')
      if (host.ExtraHosts?.length) throw invalid('conflicting options: custom host-to-IP mapping and the network mode')
      if (host.Links?.length) throw invalid('conflicting options: container type network can\'t be used with links. This would result in undefined behavior')
    }
    if (mode === 'host' && published) warnings.push('Published ports are discarded when using host network mode')
    if (config.MacAddress && mode !== 'none') throw invalid('conflicting options: mac-address and the network mode')
    if (Object.values(asked).some((body) => body?.IPAMConfig?.IPv4Address || body?.IPAMConfig?.IPv6Address)) throw invalid('user specified IP address is supported on user defined networks only')
    const others = Object.keys(asked).filter((name) => name !== mode && name !== 'default')
    if (others.length) throw invalid(`Container cannot be connected to network endpoints: ${[mode, ...others].join(', ')}`)
    if (host.Links?.length && mode === 'host') throw invalid('conflicting options: host type networking can\'t be used with links. This would result in undefined behavior')
    return []
  }
  const first = named(() => networkOfMode(deps, mode))
  const memberships = new Map<string, Membership>()
  const add = (network: NetworkRecord, settings: EndpointSettings): void => {
    checkSettings(network, settings)
    memberships.set(network.id, { id: network.id, name: network.name, settings })
  }
  add(first, noSettings())
  for (const [name, body] of Object.entries(asked)) {
    const network = name === 'default' ? first : named(() => deps.networks.resolve(name))
    if (!network.configOnly && (network.driver === 'host' || network.driver === 'null')) throw invalid(`container cannot be connected to ${network.name} and other networks`)
    add(network, settingsOf(body))
  }
  const main = memberships.get(first.id)!
  if (config.MacAddress) {
    macBytes(config.MacAddress)
    main.settings.mac ??= config.MacAddress
  }
  for (const link of host.Links ?? []) {
    const [target = '', alias = target] = link.replace(/^\//, '').split(':')
    const other = named(() => deps.containers.resolve(target), `could not get container for ${target}: `)
    if (userDefined(first)) main.settings.links.push(`${other.record.name}:${alias.replace(/^.*\//, '')}`)
  }
  portRequestsOf(deps, config, host)
  return [...memberships.values()]
}

/** What a container names and there is not is bad input: to clients that create one, 404 means the image. */
export function named<T>(resolve: () => T, before = ''): T {
  try {
    return resolve()
  } catch (error) {
    throw isKind(error, 'not-found') ? invalid(before + error.message, error) : error
  }
}

/** The network that a mode names; `default` is the bridge. */
function networkOfMode(deps: ContainerDeps, mode: string): NetworkRecord {
  return deps.networks.resolve(mode === 'default' ? 'bridge' : mode)
}

export function checkSettings(network: NetworkRecord, settings: EndpointSettings): void {
  if (network.configOnly) throw forbidden(`cannot attach to a configuration-only network: ${network.name}`)
  if (userDefined(network)) return
  if (settings.ipv4 || settings.ipv6) throw invalid('user specified IP address is supported on user defined networks only')
  if (settings.aliases.length) throw invalid('network-scoped alias is supported only for containers in user defined networks')
}

/** Joins a container that is about to start to its networks, and writes its files of names. Undefined where it has no
 * interfaces of its own. */
export async function enterNetworks(deps: ContainerDeps, container: Container): Promise<NetworkPlan | undefined> {
  const { record } = container
  if (!hasNetworks(record.host.NetworkMode)) return undefined
  const wanted = record.networks.map((membership) => {
    const network = deps.networks.list().find(({ id }) => id === membership.id) ?? deps.networks.resolve(membership.name)
    membership.id = network.id // of one that was made again
    return { network, settings: membership.settings }
  })
  const sandbox = await deps.networks.enter({ id: record.id, name: record.name }, wanted, portRequestsOf(deps, record.config, record.host))
  record.endpoints = sandbox.endpoints
  writeNameFiles(deps, record)
  return planOf(sandbox, { resolver: asksNameServer(deps, record) })
}

/** Answers a running container's questions for names. */
export function serveNames(deps: ContainerDeps, container: Container, live: Pick<LiveProcess, 'pid' | 'monitorPid'>): void {
  const sandbox = deps.networks.sandbox(container.id)
  if (!sandbox || !asksNameServer(deps, container.record) || container.nameServer) return
  const servers = (): string[] => serversOf(deps, container.record)
  container.nameServer = new NameServer(takeResolver(live.monitorPid) ?? openResolver(live.pid), namesFor(deps.networks, sandbox, servers))
}

/** Those that the container's name server asks: its own, or the host's. */
function serversOf(deps: ContainerDeps, { host }: ContainerRecord): string[] {
  return host.Dns.length ? host.Dns : deps.dns.servers.length ? [...deps.dns.servers] : hostResolvConf().servers
}

/** Tells of a container's place in networks; without endpoints, of `host` or `none`. */
export function networkEvents(deps: ContainerDeps, action: 'connect' | 'disconnect', record: ContainerRecord, endpoints: readonly Pick<Endpoint, 'network' | 'networkName'>[]): void {
  const bare = ['host', 'none'].includes(record.host.NetworkMode) ? deps.networks.find(record.host.NetworkMode) : undefined
  if (bare) endpoints = [{ network: bare.id, networkName: bare.name }]
  for (const { network, networkName } of endpoints) deps.events.emit('network', action, network, { container: record.id, name: networkName, type: deps.networks.find(networkName)?.driver ?? '' })
}

/** Takes a container that has ended, or could not start, out of its networks. Returns what it had there. */
export async function leaveNetworks(deps: ContainerDeps, container: Container): Promise<Endpoint[]> {
  container.nameServer?.[Symbol.dispose]()
  container.nameServer = undefined
  const sandbox = deps.networks.sandbox(container.id)
  container.record.endpoints = []
  if (!sandbox) return []
  const gone = [...sandbox.endpoints]
  await deps.networks.leave(sandbox)
  return gone
}

/** Takes up the networks of a container that lived on without the engine. */
export async function restoreNetworks(deps: ContainerDeps, container: Container, live: Pick<LiveProcess, 'pid' | 'monitorPid'>): Promise<void> {
  const { record } = container
  if (record.endpoints.length === 0) return
  const sandbox: Sandbox = { id: record.id, name: record.name, endpoints: record.endpoints, requests: portRequestsOf(deps, record.config, record.host) }
  await deps.networks.restore(sandbox)
  // what a connect or disconnect that was cut off had, or had left
  for (const { network } of sandbox.endpoints.filter(({ network: id }) => !record.networks.some((membership) => membership.id === id))) {
    const known = deps.networks.list().find(({ id }) => id === network)
    if (known) await deps.networks.disconnect(sandbox, live.pid, known)
  }
  serveNames(deps, container, live)
}

/** Puts a container into a further network, at once where it runs. */
export async function connectContainer(deps: ContainerDeps, container: Container, network: NetworkRecord, settings: EndpointSettings): Promise<void> {
  using _held = await deps.lock.hold(container.id)
  const { record } = container
  if (record.host.NetworkMode === 'host') throw forbidden('container cannot be disconnected from host network or connected to host network')
  if (network.driver === 'host' || network.driver === 'null') throw forbidden(network.driver === 'host' ? 'container cannot be disconnected from host network or connected to host network' : 'container cannot be connected to multiple networks with one of the networks in private (none) mode')
  if (record.host.NetworkMode.startsWith('container:')) throw forbidden('container sharing network namespace with another container or host cannot be connected to any other network')
  if (record.host.NetworkMode === 'none') throw forbidden('container cannot be connected to multiple networks with one of the networks in private (none) mode')
  if (record.networks.some(({ id }) => id === network.id)) throw forbidden(`endpoint with name ${record.name} already exists in network ${network.name}`)
  checkSettings(network, settings)
  if (container.process) {
    const sandbox = deps.networks.sandbox(container.id)
    if (!sandbox) throw conflict(`container ${container.id} has no network namespace of its own`)
    const endpoint = await deps.networks.connect(sandbox, container.process.pid, network, settings, () => deps.containers.save(container))
    record.networks.push({ id: network.id, name: network.name, settings })
    writeNameFiles(deps, record)
    serveNames(deps, container, container.process)
    networkEvents(deps, 'connect', record, [endpoint])
  } else record.networks.push({ id: network.id, name: network.name, settings })
  deps.containers.save(container)
}

/** Takes a container out of a network, at once where it runs. With `force` one that is not in it is no error. */
export async function disconnectContainer(deps: ContainerDeps, container: Container, network: NetworkRecord, force: boolean): Promise<void> {
  using _held = await deps.lock.hold(container.id)
  const { record } = container
  if (record.host.NetworkMode === 'host' || network.driver === 'host') throw forbidden('container cannot be disconnected from host network or connected to host network')
  const at = record.networks.findIndex(({ id }) => id === network.id)
  if (at < 0) {
    if (force) return
    throw forbidden(`container ${container.id} is not connected to network ${network.name}`)
  }
  const [membership] = record.networks.splice(at, 1)
  deps.containers.save(container) // from here on it is out, also for an engine that comes back
  deps.failpoint('disconnect.begin')
  const sandbox = deps.networks.sandbox(container.id)
  const endpoint = sandbox?.endpoints.find((one) => one.network === network.id)
  if (sandbox && endpoint && container.process) {
    try {
      await deps.networks.disconnect(sandbox, container.process.pid, network)
    } catch (error) {
      if (sandbox.endpoints.includes(endpoint)) record.networks.splice(at, 0, membership!)
      throw error
    }
    networkEvents(deps, 'disconnect', record, [endpoint])
  }
  if (container.process) writeNameFiles(deps, record)
  deps.containers.save(container)
}

/** Changes what is done to a container's packets in a network, now and whenever it runs; undefined for nothing. */
export async function impairContainer(deps: ContainerDeps, container: Container, network: NetworkRecord, impairment: Impairment | undefined): Promise<void> {
  using _held = await deps.lock.hold(container.id)
  const membership = container.record.networks.find(({ id }) => id === network.id)
  if (!membership) throw forbidden(`container ${container.id} is not connected to network ${network.name}`)
  const sandbox = deps.networks.sandbox(container.id)
  if (sandbox && container.process) await deps.networks.impair(sandbox, container.process.pid, network, impairment)
  membership.settings.impairment = impairment
  deps.containers.save(container)
}

/** Publishes further ports of a container and withdraws others, now and whenever it runs. A binding to be withdrawn
 * names as much of address and port as it likes. The caller holds the lock. */
export async function changePorts(deps: ContainerDeps, container: Container, add: HostConfig['PortBindings'], remove: HostConfig['PortBindings']): Promise<void> {
  const { record } = container
  if (!hasNetworks(record.host.NetworkMode)) throw invalid(`container ${record.name} has no network of its own that could publish ports`)
  const names = (wanted: { HostIp: string, HostPort: string }, host: string, port: string): boolean => (!wanted.HostIp || wanted.HostIp === host) && (!wanted.HostPort || wanted.HostPort === port)
  const next: HostConfig['PortBindings'] = Object.fromEntries(Object.entries(record.host.PortBindings).map(([port, bindings]) => [port, [...bindings]]))
  for (const [port, wanted] of Object.entries(remove)) {
    if (!next[port]) throw invalid(`container ${record.name} does not publish port ${port}`)
    next[port] = wanted.length ? next[port].filter(({ HostIp, HostPort }) => !wanted.some((one) => names(one, HostIp, HostPort))) : []
    if (next[port].length === 0) delete next[port]
  }
  for (const [port, bindings] of Object.entries(add)) next[port] = [...next[port] ?? [], ...bindings.length ? bindings : [{ HostIp: '', HostPort: '' }]]
  const requests = portRequestsOf(deps, record.config, { ...record.host, PortBindings: next })
  const sandbox = deps.networks.sandbox(container.id)
  if (sandbox) {
    const goes = ({ protocol, host, port, to }: PortBinding): boolean => {
      const wanted = remove[`${to}/${protocol}`]
      return wanted !== undefined && (wanted.length === 0 || wanted.some((one) => names(one, host, String(port))))
    }
    await deps.networks.changePorts(sandbox, portRequestsOf(deps, record.config, { ...record.host, PublishAllPorts: false, PortBindings: add }), goes, requests)
  }
  record.host.PortBindings = next
  for (const port of Object.keys(add)) record.config.ExposedPorts[port] ??= {}
}
