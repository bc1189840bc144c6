import type { Server } from 'node:http'
import { invalid, messageOf, system } from '../lib/errors.ts'
import { http } from '../lib/http.ts'

/** Has a server listen at `[HOST]:PORT`. Returns the port. */
export async function listenAt(server: Server, address: string): Promise<number> {
  const [, bracketed, plain, port] = /^(?:\[([^\]]*)\]|([^:]*)):(\d+)$/.exec(address) ?? []
  if (port === undefined) throw invalid(`invalid address ${JSON.stringify(address)}: it is [HOST]:PORT`)
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  server.once('error', (error) => reject(system(`can't listen on ${address}: ${messageOf(error)}`, error)))
  server.listen({ port: Number(port), host: bracketed ?? (plain || '0.0.0.0') }, resolve)
  await promise
  return (server.address() as { port: number }).port
}

/** A server that answers `/metrics`, for Prometheus, with what `text` says. */
export function metricsServer(text: () => Promise<string>): Server {
  return http.createServer((request, response) => {
    const found = request.url?.split('?')[0] === '/metrics'
    const answer = found ? text() : Promise.resolve('page not found\n')
    answer.then((body) => {
      response.writeHead(found ? 200 : 404, { 'Content-Type': 'text/plain; version=0.0.4; charset=utf-8' })
      response.end(body)
    }, (error: unknown) => response.writeHead(500).end(messageOf(error)))
  })
}
