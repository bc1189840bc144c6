import { createSocket, type Socket as DatagramSocket } from 'node:dgram'
import { connect, createServer, isIP, type Server, type Socket } from 'node:net'
import { RCODE, TYPE, addressOfPointer, encodeResponse, parseQuery, truncate, type Answer, type Question } from './message.ts'

const TIMEOUT = 4000
const IDLE = 10_000
const MAX_WAITING = 1024

/** What a name server asks. */
export interface Names {
  /** The addresses of a name that is known here, by family; undefined for a name that is not. */
  lookup(name: string): { ipv4: string[], ipv6: string[] } | undefined
  /** The name of an address that is known here. */
  reverse(address: string): string | undefined
  /** The servers that know the rest; none where nothing may leave. */
  servers(): readonly string[]
}

/** Answers the queries of one sandbox on sockets that are in its namespace, and lets other servers answer the rest. */
export class NameServer implements Disposable {
  readonly #names: Names
  readonly #udp: DatagramSocket
  readonly #tcp: Server
  readonly #connections = new Set<Socket>()
  #waiting = 0

  /** Listens where it is told: on the descriptors of a UDP socket and of a listening TCP socket, or at an address. */
  constructor(at: { udp: number, tcp: number } | { address: string, port: number }, names: Names, failed: (error: Error) => void = () => {}) {
    this.#names = names
    this.#udp = createSocket('address' in at && isIP(at.address) === 6 ? 'udp6' : 'udp4')
    this.#udp.on('message', (query, from) => {
      void this.#answer(query, 'udp').then((response) => {
        if (response) this.#udp.send(response, from.port, from.address)
      })
    })
    this.#udp.on('error', failed) // after the beginning, an answer that could not be sent: whoever asked will ask again
    this.#tcp = createServer((connection) => this.#serve(connection))
    this.#tcp.on('error', failed)
    this.#udp.bind('address' in at ? { ...at, exclusive: true } : { fd: at.udp })
    this.#tcp.listen('address' in at ? { host: at.address, port: at.port, exclusive: true } : { fd: at.tcp })
    for (const socket of [this.#udp, this.#tcp]) socket.unref()
  }

  [Symbol.dispose](): void {
    this.#udp.close()
    this.#tcp.close()
    for (const connection of this.#connections) connection.destroy()
  }

  #serve(connection: Socket): void {
    this.#connections.add(connection)
    let rest: Buffer = Buffer.alloc(0)
    connection.setTimeout(IDLE, () => connection.destroy())
    connection.on('error', () => connection.destroy())
    connection.on('close', () => this.#connections.delete(connection))
    connection.on('data', (chunk: Buffer) => {
      rest = Buffer.concat([rest, chunk])
      while (rest.length >= 2 && rest.length >= 2 + rest.readUInt16BE(0)) {
        const query = rest.subarray(2, 2 + rest.readUInt16BE(0))
        rest = rest.subarray(2 + query.length)
        void this.#answer(query, 'tcp').then((response) => {
          if (response && connection.writable) connection.write(frame(response))
        })
      }
    })
  }

  /** Never rejects. Undefined for what gets no answer. */
  async #answer(query: Buffer, transport: 'udp' | 'tcp'): Promise<Buffer | undefined> {
    const question = parseQuery(query)
    if (!question) return undefined
    const own = this.#own(question)
    if (own) return fit(encodeResponse(query, question, RCODE.ok, own), question, transport)
    const servers = this.#names.servers()
    if (servers.length === 0) return encodeResponse(query, question, RCODE.failure, [])
    if (this.#waiting >= MAX_WAITING) return encodeResponse(query, question, RCODE.refused, [])
    this.#waiting++
    try {
      for (const server of servers) {
        const response = await (transport === 'udp' ? askByUdp : askByTcp)(server, query).catch(() => undefined) // the next one may answer
        if (response) return response
      }
      return encodeResponse(query, question, RCODE.failure, [])
    } finally {
      this.#waiting--
    }
  }

  #own({ name, type }: Question): Answer[] | undefined {
    if (type === TYPE.PTR) {
      const address = addressOfPointer(name)
      const pointer = address === undefined ? undefined : this.#names.reverse(address)
      return pointer === undefined ? undefined : [{ pointer }]
    }
    const found = this.#names.lookup(name.toLowerCase())
    if (!found) return undefined
    // a name that is known here is not asked for elsewhere, also where it has no address of this family
    const addresses = type === TYPE.A ? found.ipv4 : type === TYPE.AAAA ? found.ipv6 : type === TYPE.ANY ? [...found.ipv4, ...found.ipv6] : []
    return shuffled(addresses).map((address) => ({ address }))
  }
}

const frame = (message: Buffer): Buffer => {
  const length = Buffer.alloc(2)
  length.writeUInt16BE(message.length)
  return Buffer.concat([length, message])
}

const fit = (response: Buffer, question: Question, transport: 'udp' | 'tcp'): Buffer => (transport === 'udp' && response.length > 512 ? truncate(response, question) : response)

/** Several addresses come in turn. */
function shuffled<T>(list: readonly T[]): T[] {
  const start = Math.floor(Math.random() * list.length)
  return [...list.slice(start), ...list.slice(0, start)]
}

function askByUdp(server: string, query: Buffer): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const socket = createSocket(isIP(server) === 6 ? 'udp6' : 'udp4')
    const end = (work: () => void): void => {
      clearTimeout(timer)
      socket.close()
      work()
    }
    const timer = setTimeout(() => end(() => reject(new Error(`no answer from ${server}`))), TIMEOUT)
    socket.on('error', (error) => end(() => reject(error)))
    socket.on('message', (response) => {
      if (response.length >= 2 && response.readUInt16BE(0) === query.readUInt16BE(0)) end(() => resolve(response))
    })
    socket.on('connect', () => socket.send(query))
    socket.connect(53, server) // connected, it takes answers from nobody else
  })
}

function askByTcp(server: string, query: Buffer): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const connection = connect({ host: server, port: 53, timeout: TIMEOUT })
    let answer: Buffer = Buffer.alloc(0)
    connection.on('connect', () => connection.write(frame(query)))
    connection.on('data', (chunk: Buffer) => {
      answer = Buffer.concat([answer, chunk])
      if (answer.length < 2 || answer.length < 2 + answer.readUInt16BE(0)) return
      connection.destroy()
      resolve(answer.subarray(2, 2 + answer.readUInt16BE(0)))
    })
    connection.on('timeout', () => connection.destroy(new Error(`no answer from ${server}`)))
    connection.on('error', reject)
    connection.on('close', () => reject(new Error(`${server} has hung up`)))
  })
}
