import { isIP } from 'node:net'
import { codeOf, conflict, forbidden, invalid, isKind, messageOf, notFound, system, unavailable, unsupported } from '../lib/errors.ts'
import { randomId } from '../lib/ids.ts'
import type { Plugin } from '../lib/plugin.ts'
import { KeyedLock } from '../lib/lock.ts'
import type { GraphDB } from '../graphdb/graphdb.ts'
import { addInterfaces, impairInterface } from '../libcontainer/network.ts'
import { macBytes, parseSubnet, withoutPrefix, type Subnet } from '../netlink/address.ts'
import type { Impairment } from '../netlink/qdisc.ts'
import type { EndpointConfig, NetworkDriver, PortBinding } from '../networkdriver/driver.ts'
import { VNI_OPTION } from '../networkdriver/overlay.ts'
import { runSteps, type Zygote } from '../sys/zygote.ts'
import { addressesOf, allocate, macFor, poolOf, type Addressed } from './addresses.ts'
import { changeRoutes, removeInterface } from './change.ts'
import { AddressPool, checkPool, type AddressSpace, type PoolConfig } from './ipam.ts'
import { namesOf } from './endpointnames.ts'
import { configOf, predefined, type NetworkRecord } from './network.ts'
import { choosePools } from './pools.ts'
import { RemotePool, releasePools, requestPools } from './remotepool.ts'
import { gatewaysOf, interfaceOf, publisherOf, type Endpoint, type EndpointSettings, type Sandbox } from './sandbox.ts'
import { nameTaken, type Peer, type Shared } from './shared/shared.ts'

const NAMES = '/networks'

/** What a client asks for. */
export interface NetworkRequest {
  name: string
  driver: string
  internal: boolean
  attachable: boolean
  ipv4: boolean
  ipv6: boolean
  ipamDriver: string
  ipamOptions: Record<string, string>
  pools: { subnet?: string, range?: string, gateway?: string, auxiliary?: Record<string, string> }[]
  options: Record<string, string>
  labels: Record<string, string>
  /** Make nothing, but keep what networks that are made from it have. */
  configOnly?: boolean
  configFrom?: string
}

export interface NetworksDeps {
  graph: GraphDB
  driver: (name: string) => NetworkDriver
  plugin: (name: string) => Plugin
  zygote: Zygote
  /** Where FIFOs are meanwhile. */
  directory: string
  spaces: readonly AddressSpace[]
  /** What is shared with other hosts; undefined where nothing is. */
  shared: Shared | undefined
  warn: (message: string, error?: unknown) => void
  /** Called at named places of the work, so that a test can kill the engine there. */
  failpoint: (name: string) => void
}

/** The networks that there are, and the sandboxes in them (libnetwork's controller). */
export class Networks {
  readonly #deps: NetworksDeps
  readonly #networks = new Map<string, Addressed>()
  readonly #sandboxes = new Map<string, Sandbox>()
  /** One change of the list of networks at a time. */
  readonly #lock = new KeyedLock()

  constructor(deps: NetworksDeps) {
    this.#deps = deps
  }

  /** Makes the networks that are kept, and those that there always are. `bridge` is what the default network gets;
   * undefined for none. */
  async open(bridge: Partial<NetworkRequest> | undefined): Promise<void> {
    const kept = this.#deps.graph.list<NetworkRecord>('network').map(({ body }) => body)
    for (const record of kept) {
      if (record.name === 'bridge' && !bridge) {
        this.#forget(record)
        continue
      }
      if (record.name === 'bridge') this.#adapt(record, bridge!, kept)
      this.#know(record)
      if (record.scope === 'global' || record.configOnly) continue // made where somebody is in it, or never
      try {
        await this.#add(record, true)
      } catch (error) {
        this.#deps.warn(`network ${record.name} can't be made`, error)
      }
    }
    for (const [name, driver] of [['none', 'null'], ['host', 'host'], ...(bridge ? [['bridge', 'bridge']] : [])] as const) {
      if (this.find(name!)) continue
      const making = this.create({ name: name!, driver: driver!, internal: false, attachable: false, ipv4: true, ipv6: false, ipamDriver: 'default', ipamOptions: {}, pools: [], options: {}, labels: {}, ...(name === 'bridge' && bridge) }, true)
      await making.catch((error: unknown) => {
        throw name === 'bridge' ? system(`the default network can not be made: ${messageOf(error)}. --bridge none does without`, error) : error
      })
    }
  }

  /** The default network is what the daemon is told now; where it is told no subnet, it keeps the one that it has. */
  #adapt(record: NetworkRecord, { options = {}, ipv6 = false, pools = [] }: Partial<NetworkRequest>, all: readonly NetworkRecord[]): void {
    const own = record.pools.filter(({ subnet }) => ipv6 || !subnet.includes(':'))
    const records = all.filter((other) => other !== record)
    record.pools = choosePools({ name: record.name, ipv4: true, ipv6, pools: pools.length ? pools : own }, record.id, { records, spaces: this.#deps.spaces, more: [] })
    record.options = options
    record.ipv6 = ipv6
    this.#keep(record)
  }

  /** Sweeps what a crash left, and begins to follow what other hosts do, once the sandboxes of this one are restored. */
  async follow(): Promise<void> {
    for (const name of this.#drivers()) await this.#deps.driver(name).sweep?.()
    await this.#deps.shared?.follow({
      network: async (id, record) => {
        using _held = await this.#lock.hold(NAMES) // what this host does itself is told too
        const known = this.#networks.get(id)?.record
        if (record && !known) {
          this.#know(record)
          this.#keep(record)
        } else if (!record && known && this.endpointsOf(id).length === 0) {
          this.#forget(known)
          await this.#deps.driver(known.driver).remove(configOf(known))
        }
      },
      peer: (peer, there) => Promise.resolve(this.#follow(peer, there)),
      own: () => new Set([...this.#sandboxes.values()].flatMap(({ endpoints }) => endpoints.map(({ id }) => id))),
    })
  }

  #follow(peer: Peer, there: boolean): void {
    const network = this.#networks.get(peer.network)
    if (!network) return
    for (const address of addressesOf(peer)) void poolOf(network, address)?.[there ? 'take' : 'release'](address)
    this.#deps.driver(network.record.driver).peer?.(configOf(network.record), { address: peer.address, nonce: peer.nonce, mac: peer.mac, addresses: addressesOf(peer).map((address) => withoutPrefix(address)) }, there)
  }

  /** The places in a network that other hosts' sandboxes have. */
  peersOf(network: string): Peer[] {
    return this.#networks.get(network)?.record.scope === 'global' ? this.#deps.shared?.peers(network) ?? [] : []
  }

  #sharedFor(record: NetworkRecord): Shared | undefined {
    if (record.scope !== 'global') return undefined
    if (!this.#deps.shared) throw unavailable(`datastore for scope "global" is not initialized: network ${record.name} needs --cluster-store and --cluster-advertise`)
    return this.#deps.shared
  }

  /** Keeps a network in the graph. A name that another has already leads to that. */
  #keep(record: NetworkRecord): void {
    this.#deps.graph.transaction(() => {
      this.#deps.graph.put('network', record.id, record)
      if (this.#deps.graph.target(NAMES, record.name) === undefined) this.#deps.graph.link(NAMES, record.name, record.id)
    })
  }

  list(): NetworkRecord[] {
    return [...this.#networks.values()].map(({ record }) => record)
  }

  /** The network with this name. */
  find(name: string): NetworkRecord | undefined {
    return this.#networks.get(this.#deps.graph.target(NAMES, name) ?? '')?.record
  }

  /** The network that a person means by a name, an id, or the beginning of one. */
  resolve(text: string): NetworkRecord {
    const exact = this.#networks.get(text)?.record ?? this.find(text)
    if (exact) return exact
    const found = text ? [...this.#networks.values()].filter(({ record }) => record.id.startsWith(text)) : []
    if (found.length > 1) throw invalid(`network ${text} is ambiguous (${found.length} matches found on ID prefix)`)
    if (!found[0]) throw notFound(`network ${text} not found`)
    return found[0].record
  }

  /** Makes a network. Nothing is left of a failure. */
  async create(request: NetworkRequest, own = false): Promise<NetworkRecord> {
    const { name } = request
    using _held = await this.#lock.hold(NAMES)
    if (!own && predefined.has(name)) throw forbidden(`operation is not permitted on predefined ${name} network`)
    if (!/^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/.test(name)) throw invalid(name.trim() === '' ? 'invalid network name: name is empty' : `invalid network name: ${JSON.stringify(name)}: only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed`)
    if (this.find(name)) throw conflict(`network with name ${name} already exists`)
    if (request.configFrom) request = this.#madeFrom(request, request.configFrom)
    if (request.configOnly) return this.#keepConfig(request)
    const driver = this.#deps.driver(request.driver)
    await driver.activate?.()
    const ipam = request.ipamDriver === 'default' ? undefined : this.#deps.plugin(request.ipamDriver)
    const record: NetworkRecord = {
      id: randomId(), name, created: new Date().toISOString(), driver: driver.name, scope: driver.scope, ipv4: request.ipv4, ipv6: request.ipv6, internal: request.internal, attachable: request.attachable,
      ipamDriver: request.ipamDriver, ipamOptions: request.ipamOptions, pools: [], options: request.options, labels: request.labels, ...(request.configFrom && { configFrom: request.configFrom }),
    }
    const shared = this.#sharedFor(record)
    if (ipam) record.pools = await requestPools(ipam, request.pools, request.ipamOptions, request)
    else if (driver.name !== 'host' && driver.name !== 'null') record.pools = this.#choosePools(request, record.id)
    if (shared) await this.#claim(shared, request, record)
    try {
      await this.#add(record)
      this.#know(record)
      this.#deps.failpoint('network.made')
      this.#keep(record)
    } catch (error) {
      this.#networks.delete(record.id)
      await driver.remove(configOf(record)).catch((failure: unknown) => this.#deps.warn(`what was made of network ${name} could not be removed`, failure))
      if (ipam) await releasePools(ipam, record.pools)
      await shared?.removeNetwork(record, record.options[VNI_OPTION] ?? '')
      throw error
    }
    return record
  }

  #choosePools(request: NetworkRequest, id: string, more: readonly Subnet[] = []): PoolConfig[] {
    return choosePools(request, id, { records: this.list(), spaces: this.#deps.spaces, more })
  }

  /** Takes a network's name, subnets and number among all hosts. */
  async #claim(shared: Shared, request: NetworkRequest, record: NetworkRecord): Promise<void> {
    const taken: Subnet[] = []
    for (let number = Number(request.options[VNI_OPTION] ?? 4097); ; ) {
      record.options = { ...record.options, [VNI_OPTION]: String(number) }
      const claimed = await shared.claimNetwork(record, String(number))
      if (claimed === 'done') return
      if (claimed === 'name') throw nameTaken(record.name)
      if (claimed === 'number' && request.options[VNI_OPTION] !== undefined) throw conflict(`${VNI_OPTION} ${number} is taken by another network`)
      if (claimed === 'number') number++
      else if (request.pools.some(({ subnet }) => subnet)) throw forbidden('invalid pool request: Pool overlaps with other one on this address space (of another host)')
      else {
        taken.push(...record.pools.map(({ subnet }) => parseSubnet(subnet)))
        record.pools = this.#choosePools(request, record.id, taken)
      }
    }
  }

  /** A request with all that a network which is only kept for that has. */
  #madeFrom(request: NetworkRequest, from: string): NetworkRequest {
    const config = this.find(from)
    if (!config) throw notFound(`configuration network ${JSON.stringify(from)} not found`)
    if (!config.configOnly) throw forbidden(`${JSON.stringify(from)} is not a configuration network`)
    if (request.pools.length || Object.keys(request.options).length || request.ipv6 || request.internal) throw forbidden('user cannot specify network settings together with a configuration network')
    return { ...request, internal: config.internal, ipv4: config.ipv4, ipv6: config.ipv6, ipamDriver: config.ipamDriver, ipamOptions: config.ipamOptions, options: { ...config.options }, labels: { ...config.labels, ...request.labels }, pools: config.pools }
  }

  #keepConfig(request: NetworkRequest): NetworkRecord {
    const { configFrom: _from, configOnly: _only, ...rest } = request
    const record: NetworkRecord = { ...rest, driver: 'null', id: randomId(), created: new Date().toISOString(), scope: 'local', configOnly: true, pools: request.pools.filter(({ subnet }) => subnet).map((pool) => checkPool({ ...pool, subnet: pool.subnet! }, false)) }
    this.#networks.set(record.id, { record, pools: [] })
    this.#keep(record)
    return record
  }

  async #add(record: NetworkRecord, again = false): Promise<void> {
    const driver = this.#deps.driver(record.driver)
    const config = configOf(record)
    driver.check(config)
    await driver.create(config, { again })
  }

  #know(record: NetworkRecord): void {
    const { ipamDriver = 'default' } = record
    this.#networks.set(record.id, { record, pools: record.pools.map((pool) => (ipamDriver === 'default' ? new AddressPool(pool) : new RemotePool(this.#deps.plugin(ipamDriver), pool))) })
  }

  /** Removes a network that nobody is in. */
  async remove(record: NetworkRecord): Promise<void> {
    using _held = await this.#lock.hold(NAMES)
    if (predefined.has(record.name)) throw forbidden(`${record.name} is a pre-defined network and cannot be removed`)
    const madeOf = this.list().find(({ configFrom }) => configFrom === record.name)
    if (madeOf) throw forbidden(`configuration network ${JSON.stringify(record.name)} is in use by network ${madeOf.name}`)
    const inside = this.endpointsOf(record.id)
    if (inside.length) throw forbidden(`error while removing network: network ${record.name} has active endpoints (${inside.map(({ sandbox, endpoint }) => `name:${JSON.stringify(sandbox.name)} id:${JSON.stringify(endpoint.id.slice(0, 12))}`).join(', ')})`)
    if (!this.#networks.has(record.id)) throw notFound(`network ${record.name} not found`)
    await this.#sharedFor(record)?.removeNetwork(record, record.options[VNI_OPTION] ?? '')
    await this.#deps.driver(record.driver).remove(configOf(record))
    this.#deps.failpoint('network.removed')
    this.#forget(record)
    if (record.ipamDriver !== 'default') await releasePools(this.#deps.plugin(record.ipamDriver), record.pools)
  }

  #forget(record: NetworkRecord): void {
    this.#deps.graph.remove('network', record.id)
    this.#networks.delete(record.id)
  }

  /** Who is in a network. */
  endpointsOf(network: string): { sandbox: Sandbox, endpoint: Endpoint }[] {
    return [...this.#sandboxes.values()].flatMap((sandbox) => sandbox.endpoints.filter((endpoint) => endpoint.network === network).map((endpoint) => ({ sandbox, endpoint })))
  }

  sandbox(id: string): Sandbox | undefined {
    return this.#sandboxes.get(id)
  }

  /** Joins a new sandbox to networks, each with what is asked for there, and publishes its ports. Nothing is left of a
   * failure. */
  async enter(owner: { id: string, name: string }, wanted: readonly { network: NetworkRecord, settings: EndpointSettings }[], requests: Sandbox['requests']): Promise<Sandbox> {
    const sandbox: Sandbox = { ...owner, endpoints: [], requests }
    this.#sandboxes.set(sandbox.id, sandbox)
    try {
      for (const { network, settings } of wanted) await this.#join(sandbox, network, settings)
      await this.#publish(sandbox)
      return sandbox
    } catch (error) {
      await this.leave(sandbox)
      throw error
    }
  }

  /** Takes up a sandbox that lives, after the engine was away. */
  async restore(sandbox: Sandbox): Promise<void> {
    this.#sandboxes.set(sandbox.id, sandbox)
    for (const endpoint of sandbox.endpoints) {
      const network = this.#networks.get(endpoint.network)
      if (!network) continue
      for (const address of addressesOf(endpoint)) poolOf(network, address)?.take(address)
      const driver = this.#deps.driver(network.record.driver)
      if (network.record.scope === 'global') await driver.create(configOf(network.record))
      await driver.join(configOf(network.record), endpoint, { again: true })
      const requests = endpoint.ports.map(({ protocol, host, port, to }) => ({ protocol, hosts: [host], from: port, last: port, to }))
      if (requests.length) await driver.publish?.(configOf(network.record), endpoint, requests)
    }
  }

  /** Ends a sandbox's places in all networks: its namespace is gone, or about to go. */
  async leave(sandbox: Sandbox): Promise<void> {
    if (this.#sandboxes.get(sandbox.id) === sandbox) this.#sandboxes.delete(sandbox.id)
    for (const endpoint of sandbox.endpoints.splice(0)) await this.#release(endpoint)
  }

  async #release(endpoint: Endpoint): Promise<void> {
    const network = this.#networks.get(endpoint.network)
    if (!network) return
    await this.#deps.driver(network.record.driver).leave(configOf(network.record), endpoint)
    for (const address of addressesOf(endpoint)) await poolOf(network, address)?.release(address)
    if (network.record.scope === 'global') await this.#deps.shared?.withdraw(endpoint.network, endpoint.id, addressesOf(endpoint))
  }

  async #join(sandbox: Sandbox, { id }: NetworkRecord, settings: EndpointSettings): Promise<Endpoint> {
    const network = this.#networks.get(id)
    if (!network) throw notFound(`network ${id} not found`)
    const { record } = network
    if (record.configOnly) throw forbidden(`cannot attach to a configuration-only network: ${record.name}`)
    if (sandbox.endpoints.some((endpoint) => endpoint.network === id)) throw forbidden(`endpoint with name ${sandbox.name} already exists in network ${record.name}`)
    if (settings.mac) macBytes(settings.mac)
    const endpointId = randomId()
    const shared = this.#sharedFor(record)
    const driver = this.#deps.driver(record.driver)
    const addresses: string[] = []
    try {
      for (const family of [4, 6] as const) addresses.push(...await allocate(network, family, family === 4 ? settings.ipv4 : settings.ipv6, async (address) => shared === undefined || await shared.claimAddress(id, address, endpointId)))
      const [ipv4, ipv6] = [4, 6].map((family) => addresses.find((address) => isIP(withoutPrefix(address)) === family))
      const config: EndpointConfig = { id: endpointId, owner: sandbox.name, mac: settings.mac ?? macFor(ipv4), ipv4, ipv6, options: settings.options }
      if (shared) {
        await driver.create(configOf(record))
        for (const peer of shared.peers(id)) this.#follow(peer, true)
        await shared.announce({ id: endpointId, network: id, sandbox: sandbox.id, names: namesOf(sandbox, { settings }), mac: config.mac, ipv4, ipv6 })
      }
      const { prefix, ...joined } = await driver.join(configOf(record), config)
      const taken = new Set(sandbox.endpoints.map((endpoint) => Number(endpoint.interface.replace(/\D/g, ''))))
      let number = 0
      while (taken.has(number)) number++
      const endpoint: Endpoint = { ...config, ...joined, network: id, networkName: record.name, settings, interface: `${prefix}${number}`, ports: [] }
      sandbox.endpoints.push(endpoint)
      return endpoint
    } catch (error) {
      for (const address of addresses) await poolOf(network, address)?.release(address)
      await shared?.withdraw(id, endpointId, addresses)
      throw error
    }
  }

  /** Publishes a sandbox's ports by the endpoint that reaches other networks, and by no other. */
  async #publish(sandbox: Sandbox): Promise<void> {
    const publisher = publisherOf(sandbox)
    for (const endpoint of sandbox.endpoints) {
      const { record } = this.#networks.get(endpoint.network)!
      const driver = this.#deps.driver(record.driver)
      if (endpoint !== publisher && endpoint.ports.length) {
        await driver.withdraw?.(configOf(record), endpoint, endpoint.ports)
        endpoint.ports = []
      }
    }
    if (!publisher || publisher.ports.length || sandbox.requests.length === 0) return
    const { record } = this.#networks.get(publisher.network)!
    try {
      publisher.ports = await this.#deps.driver(record.driver).publish?.(configOf(record), publisher, sandbox.requests) ?? []
    } catch (error) {
      if (isKind(error, 'conflict')) throw conflict(`failed to set up container networking: driver failed programming external connectivity on endpoint ${sandbox.name} (${publisher.id}): ${error.message}`, error)
      throw error
    }
  }

  /** Joins a running sandbox, whose process is `pid`, to a further network. `joined` is called before its namespace is
   * changed: what is not kept then is forgotten by a crash. */
  async connect(sandbox: Sandbox, pid: number, network: NetworkRecord, settings: EndpointSettings, joined: () => void): Promise<Endpoint> {
    const endpoint = await this.#join(sandbox, network, settings)
    try {
      joined()
      this.#deps.failpoint('connect.joined')
      await runSteps(this.#deps.zygote, this.#deps.directory, `can't connect to network ${network.name}`, (p) => {
        const pidfd = p.register()
        p.sys('pre', 'pidfd_open', [pid, 0], { out: pidfd, doing: "find the container's process" })
        addInterfaces(p, 'pre', { pid, pidfd }, { interfaces: [interfaceOf(sandbox, endpoint)], resolver: false })
      })
      this.#deps.failpoint('connect.linked')
      await this.#publish(sandbox)
      return endpoint
    } catch (error) {
      sandbox.endpoints.splice(sandbox.endpoints.indexOf(endpoint), 1)
      await this.#release(endpoint)
      throw error
    }
  }

  /** Takes a running sandbox out of a network. */
  async disconnect(sandbox: Sandbox, pid: number, network: NetworkRecord): Promise<void> {
    const endpoint = endpointIn(sandbox, network)
    await removeInterface(this.#deps, pid, endpoint.interface)
    sandbox.endpoints.splice(sandbox.endpoints.indexOf(endpoint), 1)
    this.#deps.failpoint('disconnect.unlinked')
    await this.#release(endpoint)
    const { ipv4, ipv6 } = gatewaysOf(sandbox)
    const routes = [ipv4 && { interface: ipv4.interface, gateway: ipv4.gateway4! }, ipv6 && { interface: ipv6.interface, gateway: ipv6.gateway6! }].filter((route) => route !== undefined)
    if (routes.length) await changeRoutes(this.#deps, pid, routes)
    await this.#publish(sandbox)
  }

  /** Changes what is done to the packets of a running sandbox in a network; undefined for nothing. */
  async impair(sandbox: Sandbox, pid: number, network: NetworkRecord, impairment: Impairment | undefined): Promise<void> {
    const endpoint = endpointIn(sandbox, network)
    if (!impairment && !endpoint.settings.impairment) return
    try {
      await runSteps(this.#deps.zygote, this.#deps.directory, `can't impair network ${network.name}`, (p) => {
        const pidfd = p.register()
        p.sys('pre', 'pidfd_open', [pid, 0], { out: pidfd, doing: "find the container's process" })
        impairInterface(p, 'pre', pidfd, { name: endpoint.interface, link: endpoint.link }, impairment)
      })
    } catch (error) {
      if (codeOf((error as Error).cause) === 'ENOENT') throw unsupported('this kernel has no netem, which delays and loses packets (CONFIG_NET_SCH_NETEM); a rate alone needs none', error)
      throw error
    }
    endpoint.settings.impairment = impairment
  }

  /** Publishes further ports of a running sandbox, and withdraws others; all or none of the new ones. */
  async changePorts(sandbox: Sandbox, add: Sandbox['requests'], remove: (binding: PortBinding) => boolean, requests: Sandbox['requests']): Promise<void> {
    const publisher = publisherOf(sandbox)
    if (!publisher) throw forbidden(`container ${sandbox.name} is in no network that publishes ports`)
    const { record } = this.#networks.get(publisher.network)!
    const driver = this.#deps.driver(record.driver)
    if (!driver.publish) throw unsupported(`networks of driver ${record.driver} publish no ports`)
    const gone = publisher.ports.filter(remove)
    // what goes away goes first: it may come back in another way
    await driver.withdraw?.(configOf(record), publisher, gone)
    publisher.ports = publisher.ports.filter((binding) => !gone.includes(binding))
    try {
      publisher.ports.push(...await driver.publish(configOf(record), publisher, add))
      sandbox.requests = requests
    } catch (error) {
      publisher.ports.push(...await driver.publish(configOf(record), publisher, gone.map(({ protocol, host, port, to }) => ({ protocol, hosts: [host], from: port, last: port, to }))))
      throw error
    }
  }

  /** The names of the drivers of all networks that this host can have. */
  #drivers(): Set<string> {
    return new Set(this.list().filter(({ scope }) => scope === 'local' || this.#deps.shared).map(({ driver }) => driver))
  }

  /** Gives back what the drivers have, when the engine stops; false where a sandbox lives, which needs it. */
  async close(): Promise<boolean> {
    await this.#deps.shared?.close()
    if (this.#sandboxes.size) return false
    for (const name of this.#drivers()) await this.#deps.driver(name).close?.()
    return true
  }
}

function endpointIn(sandbox: Sandbox, network: NetworkRecord): Endpoint {
  const endpoint = sandbox.endpoints.find((one) => one.network === network.id)
  if (!endpoint) throw forbidden(`container ${sandbox.id} is not connected to network ${network.name}`)
  return endpoint
}
