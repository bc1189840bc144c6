import { createHash, hkdfSync } from 'node:crypto'
import { codeOf, unsupported } from '../lib/errors.ts'
import { deleteAssociation, deletePolicy, newAssociation, newPolicy, type Direction } from '../netlink/xfrm.ts'
import { NetlinkSocket } from '../sys/netlink.ts'

const VXLAN_PORT = 4789

/** The other end of an encrypted tunnel: its host, and what that has made up for its keys of now. */
export interface Sealed { address: string, nonce: string }

interface Link { nonce: string, networks: Set<string>, spis: { in: number, out: number } }

/** Encrypts what tunnels send between this host and others: ESP in transport mode (RFC 4303), with keys for each direction
 * that are made of a secret which all hosts share, and of a nonce of either host. A nonce serves as long as this host's
 * associations do, so that no key is used again from the beginning. */
export class TunnelEncryption implements Disposable {
  readonly #socket = new NetlinkSocket('xfrm')
  readonly #own: Sealed
  readonly #secret: Uint8Array
  readonly #links = new Map<string, Link>()

  constructor(own: Sealed, secret: Uint8Array) {
    this.#own = own
    this.#secret = secret
  }

  /** Throws `unsupported` where the kernel has no ESP. */
  static check(): void {
    using socket = new NetlinkSocket('xfrm')
    const way: Direction = { from: '127.0.0.1', to: '127.0.0.2' }
    try {
      socket.request('try ESP', newAssociation(way, 0xbe47, Buffer.alloc(20)))
      socket.request('try ESP', deleteAssociation(way, 0xbe47))
    } catch (error) {
      throw unsupported('encrypted overlay networks need ESP and AES-GCM, which this kernel has not (CONFIG_INET_ESP, CONFIG_CRYPTO_GCM)', error)
    }
  }

  /** Encrypts what goes to and comes from a host, for a network among others. */
  seal(peer: Sealed, network: string): void {
    const known = this.#links.get(peer.address)
    if (known?.nonce === peer.nonce) return void known.networks.add(network)
    if (known) this.#remove(peer.address, known)
    const [out, back] = this.#ways(peer.address)
    const keys = { out: this.#keyOf(this.#own, peer), in: this.#keyOf(peer, this.#own) }
    this.#send('encrypt what is sent', newAssociation(out, keys.out.spi, keys.out.key), 'EEXIST')
    this.#send('decrypt what comes', newAssociation(back, keys.in.spi, keys.in.key), 'EEXIST')
    this.#send('demand encryption', newPolicy('out', out, VXLAN_PORT), 'EEXIST')
    this.#send('demand encryption', newPolicy('in', back, VXLAN_PORT), 'EEXIST')
    this.#links.set(peer.address, { nonce: peer.nonce, networks: new Set([...known?.networks ?? [], network]), spis: { in: keys.in.spi, out: keys.out.spi } })
  }

  /** A network no longer needs it between here and a host. */
  unseal(address: string, network: string): void {
    const link = this.#links.get(address)
    if (!link?.networks.delete(network) || link.networks.size) return
    const [out, back] = this.#ways(address)
    // the associations stay: made again with the same keys they would count from the beginning
    this.#send('end encryption', deletePolicy('out', out, VXLAN_PORT), 'ENOENT')
    this.#send('end encryption', deletePolicy('in', back, VXLAN_PORT), 'ENOENT')
  }

  [Symbol.dispose](): void {
    for (const [address, link] of this.#links) this.#remove(address, link)
    this.#socket[Symbol.dispose]()
  }

  #ways(address: string): [out: Direction, back: Direction] {
    return [{ from: this.#own.address, to: address }, { from: address, to: this.#own.address }]
  }

  #remove(address: string, { spis }: Link): void {
    const [out, back] = this.#ways(address)
    this.#send('end encryption', deletePolicy('out', out, VXLAN_PORT), 'ENOENT')
    this.#send('end encryption', deletePolicy('in', back, VXLAN_PORT), 'ENOENT')
    this.#send('end encryption', deleteAssociation(out, spis.out), 'ESRCH')
    this.#send('end encryption', deleteAssociation(back, spis.in), 'ESRCH')
  }

  #keyOf(from: Sealed, to: Sealed): { spi: number, key: Uint8Array } {
    const way = `berth vxlan ${from.address} ${from.nonce} ${to.address} ${to.nonce}`
    const spi = createHash('sha256').update(way).digest().readUInt32BE(0)
    return { spi: spi < 256 ? spi + 256 : spi, key: new Uint8Array(hkdfSync('sha256', this.#secret, '', way, 20)) } // to 255 is reserved (RFC 4303)
  }

  #send(doing: string, request: Buffer, tolerated: string): void {
    try {
      this.#socket.request(doing, request)
    } catch (error) {
      if (codeOf(error) !== tolerated) throw error
    }
  }
}
