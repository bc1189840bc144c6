import { lookup } from 'node:dns/promises'
import type { Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { messageOf, system } from '../lib/errors.ts'
import { parseSize } from '../lib/units.ts'
import { DatagramSocket } from '../sys/unixgram.ts'
import type { Options } from './options.ts'

/** A way to a log server. */
export interface Connection {
  /** Resolves when the message is on its way; rejects when the connection is of no use any more. */
  write(message: Buffer): Promise<void>
  close(): void
}

export interface ShipOptions {
  connect: () => Promise<Connection>
  options: Options
  /** Tries of one message, after which it is lost, and milliseconds between them. */
  tries?: number
  wait?: number
  warn: (message: string, error: unknown) => void
}

const LIMIT = 1 << 20
const LAST = 5000
const QUIET = 60_000

/** Messages on their way to a log server, in order and in bounded memory: when too much waits, the container waits too or,
 * with `mode=non-blocking`, messages are lost. */
export class Shipper {
  readonly #connect: () => Promise<Connection>
  readonly #tries: number
  readonly #wait: number
  readonly #warn: ShipOptions['warn']
  readonly #blocking: boolean
  readonly #limit: number
  #queue: Buffer[] = []
  #bytes = 0
  #working = false
  #closed = false
  #connection: Connection | undefined
  #waiting: (() => void)[] = []
  #lastWarning = -QUIET

  constructor({ connect, options, tries = 10, wait = 1000, warn }: ShipOptions) {
    this.#connect = connect
    this.#tries = tries
    this.#wait = wait
    this.#warn = warn
    this.#blocking = options['mode'] !== 'non-blocking'
    this.#limit = options['max-buffer-size'] ? parseSize(options['max-buffer-size']) : LIMIT
  }

  /** Connects. Rejects where there is nobody. */
  async open(): Promise<void> {
    this.#connection = await this.#connect()
  }

  send(message: Buffer): boolean {
    if (this.#bytes + message.length > this.#limit && !this.#blocking) {
      this.#complain('log messages are lost: the log server is too slow', undefined)
      return true
    }
    this.#queue.push(message)
    this.#bytes += message.length
    if (!this.#working) void this.#work()
    return this.#bytes < this.#limit
  }

  drained(then: () => void): void {
    if (this.#bytes < this.#limit) then()
    else this.#waiting.push(then)
  }

  async #work(): Promise<void> {
    this.#working = true
    for (let message = this.#queue.shift(); message; message = this.#queue.shift()) {
      await this.#deliver(message)
      this.#bytes -= message.length
      if (this.#bytes < this.#limit / 2) for (const then of this.#waiting.splice(0)) then()
    }
    this.#working = false
    if (this.#closed) this.#end()
  }

  async #deliver(message: Buffer): Promise<void> {
    for (let attempt = 1; ; attempt++) {
      try {
        this.#connection ??= await this.#connect()
        return await this.#connection.write(message)
      } catch (error) {
        this.#connection?.close()
        this.#connection = undefined
        if (attempt >= this.#tries || this.#closed) return this.#complain('a log message is lost', error)
      }
      await sleep(this.#wait, undefined, { ref: false })
    }
  }

  #complain(what: string, error: unknown): void {
    if (performance.now() - this.#lastWarning < QUIET) return
    this.#lastWarning = performance.now()
    this.#warn(what, error)
  }

  #end(): void {
    this.#connection?.close()
    this.#connection = undefined
    for (const then of this.#waiting.splice(0)) then()
  }

  /** Sends what is left, for a while, and hangs up. */
  close(): void {
    this.#closed = true
    if (!this.#working) return this.#end()
    setTimeout(() => {
      this.#queue = []
      this.#connection?.close()
    }, LAST).unref()
  }
}

function failed(what: string, error: unknown): Error {
  return system(`dial ${what}: ${messageOf(error).replace(/^connect ECONNREFUSED.*/, 'connect: connection refused').replace(/^(connect )?ENOENT.*/, 'connect: no such file or directory')}`, error)
}

/** A stream: TCP, TLS or a UNIX socket. `answer` reads what the server says to each message. */
export async function streamTo(open: () => Promise<Socket> | Socket, what: string, answer?: (socket: Socket) => Promise<void>): Promise<Connection> {
  const socket = await open()
  await new Promise<void>((resolve, reject) => {
    socket.once(what.startsWith('tls') ? 'secureConnect' : 'connect', resolve)
    socket.once('error', (error) => reject(failed(what, error)))
  })
  socket.on('error', () => socket.destroy())
  if (!answer) socket.resume() // what it says does not matter; that it hangs up does
  return {
    async write(message) {
      if (socket.destroyed || socket.readableEnded) throw system(`${what} has hung up`)
      await new Promise<void>((resolve, reject) => socket.write(message, (error) => (error ? reject(error) : resolve())))
      await answer?.(socket)
    },
    close: () => socket.destroySoon(),
  }
}

/** Datagrams of UDP. Nobody says whether they arrive. */
export async function datagramsTo(host: string, port: number): Promise<Connection> {
  const { createSocket } = await import('node:dgram')
  const { address, family } = await lookup(host).catch((error: unknown) => {
    throw failed(`udp: lookup ${host}`, error)
  })
  const socket = createSocket(family === 6 ? 'udp6' : 'udp4')
  socket.on('error', () => {})
  socket.unref()
  return {
    write: (message) => new Promise((resolve) => socket.send(message, port, address, () => resolve())), // a port that nobody listens on is no error
    close: () => socket.close(),
  }
}

const FULL_WAIT = 10

/** Datagrams to a path. */
export async function unixDatagramsTo(path: string): Promise<Connection> {
  const socket = new DatagramSocket(path)
  return {
    async write(message) {
      while (!socket.send(message)) await sleep(FULL_WAIT)
    },
    close: () => socket[Symbol.dispose](),
  }
}
