import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import { chmodSync, chownSync, existsSync, mkdirSync, readFileSync } from 'node:fs'
import { connect } from 'node:net'
import { dirname } from 'node:path'
import type { Duplex } from 'node:stream'
import { http } from '../lib/http.ts'
import { codeOf, conflict, invalid, messageOf, system } from '../lib/errors.ts'
import { unlinkIfThere } from '../lib/files.ts'
import type { Router } from './router.ts'

export interface TlsOptions { certificate: string, key: string, ca?: string, verify: boolean }

/** Where a server listens: `unix:///path`, `tcp://host:port`, `fd://N`. */
export interface Listener { address: string, close(): Promise<void> }

/** A request may last for days, its head may not. */
const limits = { keepAliveTimeout: 0, requestTimeout: 0, headersTimeout: 60_000, maxHeaderSize: 64 << 10 }

/** Listens at an address and serves the router. */
export async function listen(address: string, router: Router, options: { tls?: TlsOptions, group?: number } = {}): Promise<Listener> {
  const separator = address.indexOf('://')
  const scheme = separator < 0 ? '' : address.slice(0, separator)
  const rest = address.slice(separator + 3)
  const serve = (request: IncomingMessage, response: ServerResponse): void => void router.handle(request, response)
  const tls = scheme === 'tcp' ? options.tls : undefined
  const server: Server = tls
    ? (await import('node:https')).createServer({
      ...limits, allowHalfOpen: true, // as without TLS: a client that ends its input still wants the output
      cert: readFileSync(tls.certificate), key: readFileSync(tls.key),
      ...(tls.ca && { ca: readFileSync(tls.ca) }), requestCert: tls.verify, rejectUnauthorized: tls.verify,
    }, serve)
    : http.createServer(limits, serve)
  server.on('upgrade', (request: IncomingMessage, socket: Duplex, head: Buffer) => {
    socket.on('error', () => socket.destroy()) // a client that goes is no error of ours
    const response = new http.ServerResponse(request)
    response.assignSocket(request.socket)
    response.shouldKeepAlive = false // the parser is gone: no second request can follow
    response.once('finish', () => socket.end())
    void router.handle(request, response, { head })
  })
  server.on('clientError', (error, socket) => refuse(socket, codeOf(error) === 'HPE_HEADER_OVERFLOW' ? '431 Request Header Fields Too Large' : '400 Bad Request'))
  await bind(server, scheme, rest, address, options.group)
  return {
    address,
    async close() {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}

const LINGER = 1000

/** Answers what is no request, and hangs up a little later: a client that is still sending would not see the answer. */
function refuse(socket: Duplex, status: string): void {
  if (!socket.writable) return
  socket.removeAllListeners('data') // the parser's
  socket.resume()
  socket.end(`HTTP/1.1 ${status}\r\nConnection: close\r\n\r\n`)
  setTimeout(() => socket.destroy(), LINGER).unref()
}

async function bind(server: Server, scheme: string, rest: string, address: string, group: number | undefined): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  server.once('error', (error) => reject(system(`can't listen on ${address}: ${messageOf(error)}`, error)))
  server.once('listening', resolve)
  if (scheme === 'unix') {
    const path = rest || '/var/run/docker.sock'
    await clearSocket(path)
    mkdirSync(dirname(path), { recursive: true, mode: 0o755 })
    server.listen(path)
    await promise
    chmodSync(path, 0o660)
    chownSync(path, 0, group ?? 0)
  } else if (scheme === 'tcp') {
    const match = /^(?:\[([0-9a-fA-F:]+)\]|([^:/]*))(?::(\d+))?\/?$/.exec(rest)
    if (!match) throw invalid(`invalid address ${JSON.stringify(address)}`)
    server.listen({ host: match[1] ?? (match[2] || '0.0.0.0'), port: Number(match[3] ?? 2375) })
    await promise
  } else if (scheme === 'fd') {
    server.listen({ fd: rest === '' || rest === '*' ? 3 : Number(rest) })
    await promise
  } else throw invalid(`unable to configure the listener: invalid address ${JSON.stringify(address)}: use unix://, tcp:// or fd://`)
}

/** Removes a socket that nobody listens on. One that answers belongs to another daemon. */
async function clearSocket(path: string): Promise<void> {
  if (!existsSync(path)) return
  const answered = await new Promise<boolean>((resolve) => {
    const socket = connect(path, () => {
      socket.destroy()
      resolve(true)
    })
    socket.on('error', () => resolve(false))
  })
  if (answered) throw conflict(`can't create unix socket ${path}: another process listens on it`)
  unlinkIfThere(path)
}
