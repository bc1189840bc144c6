import { randomBytes } from 'node:crypto'
import { conflict, forbidden, messageOf, unavailable } from '../../lib/errors.ts'
import type { NetworkRecord } from '../network.ts'
import type { Change, Etcd } from './etcd.ts'
import { withoutPrefix } from '../../netlink/address.ts'

/** A place in a network that another host's sandbox has. */
export interface Peer {
  id: string
  network: string
  /** The other engine, and the address by which its host is reached. */
  host: string
  address: string
  /** What that host's keys of encrypted tunnels are made of. */
  nonce: string
  sandbox: string
  names: string[]
  mac: string
  ipv4?: string | undefined
  ipv6?: string | undefined
}

/** Who is told of what other hosts do. */
export interface SharedListener {
  network(id: string, record: NetworkRecord | undefined): Promise<void>
  peer(peer: Peer, there: boolean): Promise<void>
  /** The endpoints of this host that live. */
  own(): ReadonlySet<string>
}

const RETRY = 1000
const SECRET = 'secrets/tunnels'

/** What hosts share of networks: in a store, as keys `networks/ID`, `names/NAME`, `subnets/SUBNET`, `vnis/VNI`,
 * `addresses/NETWORK/ADDRESS` and `endpoints/NETWORK/ENDPOINT`. A key is taken by whoever makes it first. */
export class Shared {
  readonly #store: Etcd
  readonly #host: string
  readonly #address: string
  readonly #nonce: () => string
  readonly #warn: (message: string) => void
  readonly #known = new Map<string, string>()
  readonly #stop = new AbortController()
  #listener: SharedListener | undefined
  #following: Promise<void> | undefined
  #work: Promise<void> = Promise.resolve()

  /** `host` names this engine, `address` is that of its host. */
  constructor(options: { store: Etcd, host: string, address: string, nonce: () => string, warn: (message: string) => void }) {
    this.#store = options.store
    this.#host = options.host
    this.#address = options.address
    this.#nonce = options.nonce
    this.#warn = options.warn
  }

  /** Follows the store until it is closed. Resolves once what is there is known, or the store is seen not to answer. */
  async follow(listener: SharedListener): Promise<void> {
    this.#listener = listener
    const { promise, resolve } = Promise.withResolvers<void>()
    this.#following = this.#loop(resolve)
    await promise
  }

  async #loop(known: () => void): Promise<void> {
    let told = false
    const { signal } = this.#stop
    while (!signal.aborted) {
      try {
        await this.#store.transact({ absent: [SECRET], put: [{ key: SECRET, value: randomBytes(32).toString('hex') }] })
        const { pairs, revision } = await this.#store.list()
        const keys = new Set(pairs.map(({ key }) => key))
        for (const key of [...this.#known.keys()]) if (!keys.has(key)) this.#take({ key, value: undefined })
        for (const pair of pairs) this.#take(pair)
        await this.#work
        await this.#removeStale()
        told = false
        known()
        await this.#store.watch(revision + 1n, (change) => this.#take(change), signal)
      } catch (error) {
        known()
        if (signal.aborted) return
        if (!told) this.#warn(`${messageOf(error)}; networks of several hosts stay as they are meanwhile`)
        told = true
        await new Promise<void>((resolve) => {
          const timer = setTimeout(resolve, RETRY)
          signal.addEventListener('abort', () => resolve(clearTimeout(timer)), { once: true })
        })
      }
    }
  }

  /** Notes a change, and tells of it after those before. */
  #take({ key, value }: Change): void {
    const before = this.#known.get(key)
    if (before === value) return
    if (value === undefined) this.#known.delete(key)
    else this.#known.set(key, value)
    const [kind, id = ''] = key.split('/')
    if (kind !== 'networks' && kind !== 'endpoints') return
    this.#work = this.#work.then(async () => {
      try {
        if (kind === 'networks') return await this.#listener?.network(id, value === undefined ? undefined : JSON.parse(value) as NetworkRecord)
        const peer = JSON.parse(value ?? before!) as Peer
        if (peer.host !== this.#host) await this.#listener?.peer(peer, value !== undefined)
      } catch (error) {
        this.#warn(`what another host did to ${key} could not be followed: ${messageOf(error)}`)
      }
    })
  }

  /** Takes away what this host had before it ended, or could not take away while the store was away. */
  async #removeStale(): Promise<void> {
    const own = this.#listener?.own() ?? new Set()
    for (const [key, value] of this.#known) {
      const [kind] = key.split('/')
      if (kind !== 'endpoints' && kind !== 'addresses') continue
      const { host, id } = JSON.parse(value) as { host: string, id: string }
      if (host === this.#host && !own.has(id)) await this.#store.transact({ absent: [], put: [], remove: [key] })
    }
  }

  /** What keys of encrypted tunnels are made of, which the first of all hosts has made up. */
  secret(): Uint8Array {
    const text = this.#known.get(SECRET)
    if (!text) throw unavailable('the secret of encrypted tunnels is not known: the cluster store does not answer')
    return Buffer.from(text, 'hex')
  }

  /** The other hosts' places in a network. */
  peers(network: string): Peer[] {
    return [...this.#known].filter(([key]) => key.startsWith(`endpoints/${network}/`)).map(([, value]) => JSON.parse(value) as Peer).filter(({ host }) => host !== this.#host)
  }

  /** The number of a network's tunnels that nobody has. */
  async claimNetwork(record: NetworkRecord, number: string): Promise<'done' | 'name' | 'subnet' | 'number'> {
    const subnets = record.pools.map(({ subnet }) => `subnets/${subnet.replace('/', '_')}`)
    const keys = { name: [`names/${record.name}`], subnet: subnets, number: [`vnis/${number}`] }
    const all = [...keys.name, ...keys.subnet, ...keys.number]
    if (await this.#store.transact({ absent: all, put: [{ key: `networks/${record.id}`, value: JSON.stringify(record) }, ...all.map((key) => ({ key, value: record.id }))] })) return 'done'
    const there = new Set((await this.#store.list()).pairs.map(({ key }) => key))
    return (['name', 'subnet', 'number'] as const).find((what) => keys[what].some((key) => there.has(key))) ?? 'name'
  }

  async removeNetwork(record: NetworkRecord, number: string): Promise<void> {
    const { pairs } = await this.#store.list()
    const peers = pairs.filter(({ key }) => key.startsWith(`endpoints/${record.id}/`)).map(({ value }) => JSON.parse(value) as Peer)
    if (peers.length) throw forbidden(`error while removing network: network ${record.name} has active endpoints on other hosts (${peers.map(({ names, address }) => `${names[0]} on ${address}`).join(', ')})`)
    await this.#store.transact({ absent: [], put: [], remove: [`networks/${record.id}`, `names/${record.name}`, ...record.pools.map(({ subnet }) => `subnets/${subnet.replace('/', '_')}`), `vnis/${number}`] })
  }

  /** Takes an address for an endpoint. False where another has it. */
  async claimAddress(network: string, address: string, endpoint: string): Promise<boolean> {
    const key = `addresses/${network}/${withoutPrefix(address)}`
    return await this.#store.transact({ absent: [key], put: [{ key, value: JSON.stringify({ host: this.#host, id: endpoint }) }] })
  }

  /** Tells the others of an endpoint of this host's. */
  async announce(peer: Omit<Peer, 'host' | 'address' | 'nonce'>): Promise<void> {
    await this.#store.transact({ absent: [], put: [{ key: `endpoints/${peer.network}/${peer.id}`, value: JSON.stringify({ ...peer, host: this.#host, address: this.#address, nonce: this.#nonce() } satisfies Peer) }] })
  }

  /** Gives an endpoint and its addresses back; while the store is away, later. */
  async withdraw(network: string, endpoint: string, addresses: readonly string[]): Promise<void> {
    try {
      await this.#store.transact({ absent: [], put: [], remove: [`endpoints/${network}/${endpoint}`, ...addresses.map((address) => `addresses/${network}/${withoutPrefix(address)}`)] })
    } catch (error) {
      this.#warn(`${messageOf(error)}: an endpoint is given back once it does`)
    }
  }

  async close(): Promise<void> {
    this.#stop.abort(unavailable('the engine stops'))
    await this.#following
  }
}

/** The error of a name that is taken. */
export const nameTaken = (name: string): Error => conflict(`network with name ${name} already exists`)
