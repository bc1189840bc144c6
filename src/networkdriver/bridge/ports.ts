import { readFileSync } from 'node:fs'
import { isIP } from 'node:net'
import { conflict, isKind, system } from '../../lib/errors.ts'
import type { EndpointConfig, PortBinding, PortRequest, Protocol } from '../driver.ts'
import { holdPort, type Holder, type Target } from './holders.ts'

interface Taken { host: string, port: number, protocol: Protocol, to: number, owner: string, endpoint: string, holder: Holder | undefined }

const keyOf = (protocol: Protocol, port: number): string => `${protocol} ${port}`

/** Who has which port of the host. */
export class PortTable {
  readonly #byPort = new Map<string, Taken[]>()
  readonly #byEndpoint = new Map<string, Taken[]>()
  readonly #hold: boolean
  #last = 0

  /** With `hold` a port has a socket too, so that other processes can't take it. */
  constructor(options: { hold: boolean }) {
    this.#hold = options.hold
  }

  /** Takes a port of some addresses for an endpoint: that of the request, the first free one of its range, or any.
   * `targetOf` says where it leads. `conflict` names the holder. */
  async take(endpoint: EndpointConfig, { protocol, hosts, from, last, to }: PortRequest, targetOf: (host: string) => Target): Promise<PortBinding[]> {
    let failure: unknown
    for (const port of from ? range(from, last) : this.#ephemeral()) {
      const bindings = hosts.map((host): PortBinding => ({ protocol, host, port, to }))
      try {
        for (const binding of bindings) await this.#takeOne(endpoint, binding, targetOf(binding.host))
        return bindings
      } catch (error) {
        if (!isKind(error, 'conflict')) throw error
        failure = error
        await this.giveBack(endpoint.id, bindings)
      }
    }
    throw failure ?? system('all ports are allocated')
  }

  async #takeOne(endpoint: EndpointConfig, { protocol, host, port, to }: PortBinding, target: Target): Promise<void> {
    const other = this.#holderOf(protocol, host, port)
    if (other) throw conflict(`Bind for ${host}:${port} failed: port is already allocated (by container ${other.owner})`)
    const taken: Taken = { host, port, protocol, to, owner: endpoint.owner, endpoint: endpoint.id, holder: undefined }
    this.#add(taken)
    try {
      if (this.#hold) taken.holder = await holdPort(protocol, host, port, target)
    } catch (error) {
      this.#delete(taken)
      throw error
    }
  }

  /** Gives an endpoint's ports back: those of the bindings, or all. Returns what they were. */
  async giveBack(endpoint: string, bindings?: readonly PortBinding[]): Promise<PortBinding[]> {
    const own = this.#byEndpoint.get(endpoint) ?? []
    const gone = bindings ? own.filter(({ protocol, host, port }) => bindings.some((binding) => binding.protocol === protocol && binding.host === host && binding.port === port)) : [...own]
    for (const taken of gone) {
      await taken.holder?.close()
      this.#delete(taken)
    }
    return gone.map(({ protocol, host, port, to }) => ({ protocol, host, port, to }))
  }

  #add(taken: Taken): void {
    for (const [map, key] of [[this.#byPort, keyOf(taken.protocol, taken.port)], [this.#byEndpoint, taken.endpoint]] as const) map.set(key, [...map.get(key) ?? [], taken])
  }

  #delete(taken: Taken): void {
    for (const [map, key] of [[this.#byPort, keyOf(taken.protocol, taken.port)], [this.#byEndpoint, taken.endpoint]] as const) {
      const left = (map.get(key) ?? []).filter((other) => other !== taken)
      if (left.length) map.set(key, left)
      else map.delete(key)
    }
  }

  /** Who has a port of an address, or of all addresses. */
  #holderOf(protocol: Protocol, host: string, port: number): Taken | undefined {
    const any = isIP(host) === 6 ? '::' : '0.0.0.0'
    return this.#byPort.get(keyOf(protocol, port))?.find((taken) => taken.host === host || taken.host === any || host === any && isIP(taken.host) === isIP(host))
  }

  /** The ports for those who ask for any, beginning after the last that was given. */
  * #ephemeral(): Generator<number> {
    const [first = 32_768, last = 60_999] = readFileSync('/proc/sys/net/ipv4/ip_local_port_range', 'utf8').trim().split(/\s+/).map(Number)
    for (let tries = first; tries <= last; tries++) {
      this.#last = this.#last < first || this.#last >= last ? first : this.#last + 1
      yield this.#last
    }
  }
}

function* range(from: number, to: number): Generator<number> {
  for (let port = from; port <= to; port++) yield port
}
