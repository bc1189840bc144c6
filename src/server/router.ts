import createRouter, { type HTTPMethod } from 'find-my-way'
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { BerthError, invalid, isKind, messageOf, type ErrorKind } from '../lib/errors.ts'
import { API_VERSION, BERTH_VERSION, checkVersion, versionNumber } from '../api/version.ts'

/** One endpoint: method, URL and handler. Paths are without the version: `/containers/:name/json`; a `*` at the end is
 * for names with slashes. */
export interface Route {
  method: 'GET' | 'POST' | 'PUT' | 'DELETE' | 'HEAD'
  path: string
  handler: (call: Call) => Promise<void> | void
}

/** A request on its way to an answer. */
export class Call {
  readonly request: IncomingMessage
  readonly response: ServerResponse
  readonly params: Record<string, string>
  readonly query: URLSearchParams
  /** 1024 for API version 1.24. */
  readonly version: number
  /** Aborts when the client hangs up before the answer is complete. */
  readonly signal: AbortSignal
  /** For `Upgrade:` requests, what came after the head. */
  readonly upgrade: { head: Buffer } | undefined
  #hijacked = false
  readonly #gone: () => void

  constructor(from: { request: IncomingMessage, response: ServerResponse, params: Record<string, string>, query: URLSearchParams, version: number, upgrade?: { head: Buffer } | undefined }) {
    this.request = from.request
    this.response = from.response
    this.params = from.params
    this.query = from.query
    this.version = from.version
    this.upgrade = from.upgrade
    const abort = new AbortController()
    this.signal = abort.signal
    this.#gone = () => {
      if (!this.response.writableFinished) abort.abort(new BerthError('cancelled', 'the client hung up'))
    }
    this.response.once('close', this.#gone)
  }

  /** A parameter that is a flag, as Docker reads it: absent, empty, `0`, `no`, `false` and `none` are false. */
  flag(name: string, otherwise = false): boolean {
    const value = this.query.get(name)
    return value === null ? otherwise : !['', '0', 'no', 'false', 'none'].includes(value.toLowerCase().trim())
  }

  /** A parameter that is a whole number, or undefined. */
  number(name: string): number | undefined {
    const value = this.query.get(name)
    if (value === null || value === '') return undefined
    if (!/^-?\d+$/.test(value)) throw invalid(`strconv.Atoi: parsing ${JSON.stringify(value)}: invalid syntax`)
    return Number(value)
  }

  /** Parameter `filters`: from a map of lists, or, as old clients send, a map of maps. */
  filters(known: readonly string[]): Map<string, string[]> {
    const text = this.query.get('filters')
    const filters = new Map<string, string[]>()
    if (!text) return filters
    let parsed: unknown
    try {
      parsed = JSON.parse(text)
    } catch (error) {
      throw invalid('invalid filter', error)
    }
    if (typeof parsed !== 'object' || parsed === null || Array.isArray(parsed)) throw invalid('invalid filter')
    for (const [name, value] of Object.entries(parsed)) {
      if (!known.includes(name)) throw invalid(`invalid filter '${name}'`)
      const values = Array.isArray(value) ? value : typeof value === 'object' && value !== null ? Object.entries(value).filter(([, on]) => on).map(([key]) => key) : undefined
      if (!values || !values.every((item) => typeof item === 'string')) throw invalid(`invalid filter '${name}'`)
      filters.set(name, values)
    }
    return filters
  }

  /** The body as JSON; undefined where there is none. At most `limit` bytes are read. */
  async json(limit = 4 << 20): Promise<unknown> {
    const chunks: Buffer[] = []
    let length = 0
    for await (const chunk of this.request) {
      length += (chunk as Buffer).length
      if (length > limit) throw invalid(`request body too large: more than ${limit} bytes`)
      chunks.push(chunk as Buffer)
    }
    if (length === 0) return undefined
    const type = this.request.headers['content-type']
    if (type && !/^application\/json\b/i.test(type)) throw invalid(`unsupported Content-Type header (${type}): must be 'application/json'`)
    try {
      return JSON.parse(Buffer.concat(chunks).toString('utf8'))
    } catch (error) {
      throw invalid(`invalid JSON: ${messageOf(error)}`, error)
    }
  }

  /** Answers with a value as JSON. */
  send(status: number, value: unknown): void {
    const text = JSON.stringify(value) + '\n'
    this.response.writeHead(status, { 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(text) })
    this.response.end(text)
  }

  /** Answers without a body. */
  empty(status = 204): void {
    this.response.writeHead(status)
    this.response.end()
  }

  /** Begins a streamed answer. Its head goes out at once. */
  stream(contentType: string, status = 200): ServerResponse {
    this.response.writeHead(status, { 'Content-Type': contentType })
    this.response.flushHeaders()
    return this.response
  }

  /** Takes the connection out of HTTP's hands. */
  takeSocket(): Duplex {
    this.#hijacked = true
    const { socket } = this.request
    this.response.detachSocket(socket)
    if (!this.upgrade) freeFromParser(socket)
    socket.setTimeout(0)
    socket.once('close', this.#gone)
    if (this.upgrade?.head.length) socket.unshift(this.upgrade.head)
    return socket
  }

  /** Takes the connection over for raw bytes in both directions, as Docker's attach does: 101 for a client that asked
   * for an upgrade, else a 200 without length. */
  hijack(contentType: string): Duplex {
    const socket = this.takeSocket()
    const head = this.upgrade ? 'HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n' : 'HTTP/1.1 200 OK\r\n'
    socket.write(`${head}Content-Type: ${contentType}\r\nApi-Version: ${API_VERSION}\r\nServer: ${serverName}\r\n\r\n`)
    return socket
  }

  get hijacked(): boolean {
    return this.#hijacked
  }
}

/** Ends the HTTP parser's reading of a connection, so that what follows the request arrives as data. */
function freeFromParser(socket: Socket): void {
  const parser = (socket as Socket & { parser?: { unconsume?(): void } }).parser
  parser?.unconsume?.()
  for (const event of ['data', 'end', 'close', 'drain', 'readable', 'resume', 'pause']) socket.removeAllListeners(event)
}

export const serverName = `berth/${BERTH_VERSION} (linux)`

const statuses: Record<ErrorKind, number> = {
  invalid: 400, unauthorized: 401, forbidden: 403, 'not-found': 404, 'not-modified': 304, conflict: 409, unsupported: 501, unavailable: 503, cancelled: 499, system: 500,
}

/** The HTTP status of an error: the only place that knows it. */
export function statusOf(error: unknown): number {
  return error instanceof BerthError ? statuses[error.kind] : 500
}

/** Finds the handler for a request and turns what it throws into `{"message": …}`. */
export class Router {
  readonly #routes = createRouter({ ignoreTrailingSlash: true, caseSensitive: true, maxParamLength: 4096 })
  readonly #log: (error: unknown, request: IncomingMessage) => void

  constructor(routes: readonly Route[], log: (error: unknown, request: IncomingMessage) => void) {
    this.#log = log
    for (const route of routes) this.#routes.on(route.method as HTTPMethod, route.path, () => {}, route)
  }

  /** Answers a request. Never rejects. */
  async handle(request: IncomingMessage, response: ServerResponse, upgrade?: { head: Buffer }): Promise<void> {
    response.setHeader('Api-Version', API_VERSION)
    response.setHeader('Server', serverName)
    response.setHeader('Ostype', 'linux')
    response.setHeader('Docker-Experimental', 'false')
    let call: Call | undefined
    try {
      const url = request.url ?? '/'
      const mark = url.indexOf('?')
      let path = mark < 0 ? url : url.slice(0, mark)
      const versioned = /^\/v(\d+\.\d+)(\/.*)$/.exec(path)
      let version = versionNumber(API_VERSION)
      if (versioned) {
        checkVersion(versioned[1]!)
        version = versionNumber(versioned[1]!)
        path = versioned[2]!
      }
      const found = this.#routes.find(request.method as HTTPMethod, path)
      const route = found?.store as Route | undefined
      if (!found || !route) throw new BerthError('not-found', 'page not found')
      const params = Object.fromEntries(Object.entries(found.params).map(([name, value]) => [name, value ?? '']))
      call = new Call({ request, response, params, query: new URLSearchParams(mark < 0 ? '' : url.slice(mark + 1)), version, upgrade })
      await route.handler(call)
    } catch (error) {
      this.#fail(error, request, response, call)
    }
  }

  #fail(error: unknown, request: IncomingMessage, response: ServerResponse, call: Call | undefined): void {
    const status = statusOf(error)
    if (!isKind(error) && !call?.signal.aborted) this.#log(error, request) // what breaks because the client hung up is nobody's bug
    const message = messageOf(error)
    if (call?.hijacked) {
      request.socket.destroy()
    } else if (response.headersSent) {
      response.destroy()
    } else if (status === 304) {
      response.writeHead(304)
      response.end()
    } else {
      const text = JSON.stringify({ message }) + '\n'
      response.writeHead(status, { 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(text) })
      response.end(text)
      request.resume()
    }
  }
}

