import { readFileSync } from 'node:fs'
import type { Server } from 'node:http'
import { http } from '../lib/http.ts'
import { invalid } from '../lib/errors.ts'
import { CERTIFICATES } from '../registry/hosts.ts'
import { Registries } from '../registry/registries.ts'
import { listenAt, metricsServer } from '../server/metrics.ts'
import { Access, readRules, type Authenticator } from './access.ts'
import { bearer, type TokenOptions } from './bearer.ts'
import { collectGarbage, type Collected } from './gc.ts'
import { htpasswd } from './htpasswd.ts'
import { RateLimit, parseRate } from './limits.ts'
import { openMetrics } from './metrics.ts'
import { PullThrough } from './proxy.ts'
import { registryHandler } from './server.ts'
import { RegistryStore } from './store.ts'
import { openStorage } from './storage/drivers.ts'

/** What a registry server is told. Empty texts are for what it is not to have. */
export interface ServeOptions {
  /** `[HOST]:PORT`. */
  address: string
  storage: string
  root: string
  tls: { certificate: string, key: string, clientCa: string }
  htpasswd: string
  realm: string
  token: TokenOptions
  rights: string
  proxy: { url: string, username: string, password: string }
  pullLimit: string
  rateLimit: string
  /** Bytes; 0 for no limit. */
  maxBlob: number
  deletes: boolean
  metrics: string
  /** Milliseconds between collections; 0 for none but those that are asked for. */
  gcInterval: number
  gcUntagged: boolean
  userAgent: string
  warn: (message: string, error?: unknown) => void
}

export interface Serving {
  /** Where it listens: `http://127.0.0.1:5000`. */
  url: string
  collect(): Promise<Collected>
  close(): Promise<void>
}

const DAY = 24 * 3600_000
const IDLE = 60_000

/** Serves a registry until it is closed. */
export async function serveRegistry(options: ServeOptions): Promise<Serving> {
  const authenticator = await authenticatorOf(options)
  const access = new Access({ authenticator, ...(options.rights && { rules: readRules(options.rights) }) })
  const [pulls, requests] = [options.pullLimit, options.rateLimit].map((text) => (text ? new RateLimit(parseRate(text)) : undefined))
  if (options.proxy.url && !/^https?:\/\//.test(options.proxy.url)) throw invalid(`invalid URL of a registry: ${JSON.stringify(options.proxy.url)}`)
  const metrics = options.metrics ? await openMetrics() : undefined
  const store = new RegistryStore(openStorage(options.storage, options.root), options.maxBlob ? { maxBlob: options.maxBlob } : {})
  const registries = new Registries({ mirrors: new Map(), insecure: [], certificates: CERTIFICATES, proxy: {}, userAgent: options.userAgent, idle: IDLE })
  const { url, username, password } = options.proxy
  const proxy = url ? new PullThrough({ store, registries, url, credentials: username ? { username, password } : {}, warn: options.warn }) : undefined
  const handler = registryHandler({ store, access, pulls, requests, metrics, proxy, deletes: options.deletes, warn: options.warn })
  const { certificate, key, clientCa } = options.tls
  const limits = { requestTimeout: 0, keepAliveTimeout: IDLE, headersTimeout: IDLE }
  const server = certificate
    ? (await import('node:https')).createServer({ ...limits, cert: readFileSync(certificate), key: readFileSync(key), ...(clientCa && { ca: readFileSync(clientCa), requestCert: true, rejectUnauthorized: true }) }, handler)
    : http.createServer(limits, handler)
  // a client that tries TLS first must see that this is HTTP
  server.on('clientError', (_error, socket) => void socket.end('HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n'))
  server.on('connection', (socket) => socket.setTimeout(IDLE * 5, () => socket.destroy()))
  const servers: Server[] = []
  let collecting: Promise<Collected> | undefined
  const collect = (): Promise<Collected> => collecting ??= collectGarbage(store, { untagged: options.gcUntagged }).then((collected) => {
    metrics?.collected(collected.bytes)
    return collected
  }).finally(() => {
    collecting = undefined
  })
  const quietly = (work: Promise<unknown>): void => void work.catch((error: unknown) => options.warn('cleaning up failed', error))
  const timers = [setInterval(() => quietly(store.dropOld()), DAY), ...(options.gcInterval ? [setInterval(() => quietly(collect()), options.gcInterval)] : [])]
  for (const timer of timers) timer.unref()
  const close = async (): Promise<void> => {
    timers.forEach(clearInterval)
    for (const one of servers) {
      one.closeAllConnections()
      await new Promise((resolve) => one.close(resolve))
    }
    await collecting?.catch(() => undefined) // said where it was begun
    await registries.close()
    await store.close()
  }
  try {
    quietly(store.dropOld())
    servers.push(server)
    const port = await listenAt(server, options.address)
    if (metrics) {
      const own = metricsServer(() => metrics.text())
      servers.push(own)
      await listenAt(own, options.metrics)
    }
    return { url: `${certificate ? 'https' : 'http'}://${options.address.replace(/^:/, '0.0.0.0:').replace(/:0$/, `:${port}`)}`, collect, close }
  } catch (error) {
    await close()
    throw error
  }
}

async function authenticatorOf({ htpasswd: file, realm, token }: ServeOptions): Promise<Authenticator | undefined> {
  if (!token.realm) return file ? htpasswd(file, realm) : undefined
  if (file) throw invalid('there is either a file of passwords or a server of tokens')
  for (const [name, value] of Object.entries(token)) if (!value) throw invalid(`tokens need all of realm, service, issuer and roots: ${name} is missing`)
  return await bearer(token)
}
