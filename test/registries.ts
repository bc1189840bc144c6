import { spawn, spawnSync, type ChildProcess } from 'node:child_process'
import { createHash } from 'node:crypto'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { Agent, createServer, request, type IncomingHttpHeaders, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { gzipSync, zstdCompressSync } from 'node:zlib'
import type { AddressInfo } from 'node:net'
import { writeAll } from '../src/lib/streams.ts'
import { freePort } from './daemon.ts'

const root = new URL('..', import.meta.url).pathname

export const sha256 = (data: string | Uint8Array): string => 'sha256:' + createHash('sha256').update(data).digest('hex')

/** An answer of a registry. */
export interface Reply { status: number, headers: IncomingHttpHeaders, body: Buffer }

const agent = new Agent({ keepAlive: false })

/** Sends a request to a registry at a port of 127.0.0.1. */
export function ask(port: number, method: string, path: string, options: { headers?: Record<string, string | number>, body?: Buffer | string } = {}): Promise<Reply> {
  return new Promise((resolve, reject) => {
    const body = options.body === undefined ? undefined : Buffer.from(options.body)
    const sent = request({ host: '127.0.0.1', port, method, path, agent, headers: { ...(body && { 'Content-Length': body.length }), ...options.headers } }, (response) => {
      const chunks: Buffer[] = []
      response.on('data', (chunk: Buffer) => chunks.push(chunk))
      response.on('error', (error) => reject(new Error(`${method} ${path}: ${error.message}`, { cause: error })))
      response.on('end', () => resolve({ status: response.statusCode!, headers: response.headers, body: Buffer.concat(chunks) }))
    })
    sent.on('error', (error) => reject(new Error(`${method} ${path}: ${error.message}`, { cause: error })))
    sent.end(body)
  })
}

/** A registry server of a test's own: berth's, or Debian's docker-registry. */
export class TestRegistry {
  readonly directory = mkdtempSync(join(tmpdir(), 'berth-registry-'))
  readonly port: number
  readonly kind: 'berth' | 'docker'
  readonly #flags: readonly string[]
  #process: ChildProcess | undefined
  said = ''

  private constructor(kind: 'berth' | 'docker', port: number, flags: readonly string[]) {
    this.kind = kind
    this.port = port
    this.#flags = flags
  }

  static async start(kind: 'berth' | 'docker', flags: readonly string[] = []): Promise<TestRegistry> {
    const registry = new TestRegistry(kind, await freePort(), flags)
    await registry.start()
    return registry
  }

  /** `127.0.0.1:PORT`. */
  get name(): string {
    return `127.0.0.1:${this.port}`
  }

  get pid(): number {
    return this.#process!.pid!
  }

  /** Starts it, again after a stop with what it had; `data` is another's directory. */
  async start(data = join(this.directory, 'data')): Promise<void> {
    if (this.kind === 'docker') {
      const config = join(this.directory, 'config.yml')
      writeFileSync(config, JSON.stringify({ version: 0.1, storage: { filesystem: { rootdirectory: data }, delete: { enabled: true } }, http: { addr: this.name }, log: { level: 'error', accesslog: { disabled: true } } }))
      this.#process = spawn('docker-registry', ['serve', config], { stdio: ['ignore', 'ignore', 'ignore'] })
    } else {
      this.#process = spawn(process.env['BERTH'] ?? join(root, 'bin/berth'), ['registry', 'serve', '--addr', this.name, '--root', data, ...this.#flags], { stdio: ['ignore', 'pipe', 'pipe'] })
      for (const stream of [this.#process.stdout, this.#process.stderr]) stream!.on('data', (chunk: Buffer) => (this.said += chunk.toString()))
    }
    const tls = this.#flags.includes('--tls-cert')
    for (let tries = 0; tries < 1000; tries++) {
      await new Promise((resolve) => setTimeout(resolve, 20))
      if (this.#process.exitCode !== null) throw new Error(`the registry has ended: ${this.said}`)
      if (tls ? this.said.includes('Listening') : await ask(this.port, 'GET', '/v2/').then(() => true, () => false)) return
    }
    throw new Error('the registry does not answer')
  }

  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
    const child = this.#process
    if (!child || child.exitCode !== null || child.signalCode !== null) return
    const ended = new Promise((resolve) => child.once('exit', resolve))
    child.kill(signal)
    await ended
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop()
    rmSync(this.directory, { recursive: true, force: true })
  }
}

export interface MadeLayer { mediaType: string, data: Buffer, diffId: string }
export interface MadeImage { manifest: string, mediaType: string, config: string, layers: MadeLayer[], digest: string, id: string }

/** A tar archive of files by name. */
export function tarOf(files: Readonly<Record<string, string | Buffer>>): Buffer {
  const directory = mkdtempSync(join(tmpdir(), 'berth-tar-'))
  try {
    for (const [name, content] of Object.entries(files)) writeFileSync(join(directory, name), content)
    return spawnSync('tar', ['c', '--sort=name', '--mtime=@0', '-C', directory, ...Object.keys(files)], { maxBuffer: 1 << 30 }).stdout
  } finally {
    rmSync(directory, { recursive: true })
  }
}

const OCI = 'application/vnd.oci.image'
const DOCKER = 'application/vnd.docker'

export function layerOf(tar: Buffer, how: 'gzip' | 'zstd' | 'plain' = 'gzip', kind: 'oci' | 'docker' = 'oci'): MadeLayer {
  const data = how === 'gzip' ? gzipSync(tar, { level: 1 }) : how === 'zstd' ? zstdCompressSync(tar) : tar
  const mediaType = kind === 'docker' ? `${DOCKER}.image.rootfs.diff.tar.gzip` : `${OCI}.layer.v1.tar${how === 'plain' ? '' : `+${how}`}`
  return { mediaType, data, diffId: sha256(tar) }
}

/** An image of layers; `change` alters the manifest before it is what it is. */
export function imageOf(layers: MadeLayer[], { kind = 'oci', config: more = {}, change = (manifest) => manifest, architecture = 'amd64' }: { kind?: 'oci' | 'docker', config?: object, change?: (manifest: any) => object, architecture?: string } = {}): MadeImage {
  const config = JSON.stringify({ architecture, os: 'linux', created: '2026-01-01T00:00:00Z', config: { Cmd: ['/true'] }, rootfs: { type: 'layers', diff_ids: layers.map(({ diffId }) => diffId) }, ...more })
  const mediaType = kind === 'oci' ? `${OCI}.manifest.v1+json` : `${DOCKER}.distribution.manifest.v2+json`
  const manifest = JSON.stringify(change({
    schemaVersion: 2, mediaType, config: { mediaType: kind === 'oci' ? `${OCI}.config.v1+json` : `${DOCKER}.container.image.v1+json`, digest: sha256(config), size: Buffer.byteLength(config) },
    layers: layers.map((layer) => ({ mediaType: layer.mediaType, digest: sha256(layer.data), size: layer.data.length })),
  }))
  return { manifest, mediaType, config, layers, digest: sha256(manifest), id: sha256(config) }
}

export async function putBlob(port: number, repository: string, data: Buffer, headers: Record<string, string> = {}): Promise<void> {
  const begun = await ask(port, 'POST', `/v2/${repository}/blobs/uploads/`, { headers: { ...headers, 'Content-Length': 0 } })
  const url = new URL(String(begun.headers.location), `http://127.0.0.1:${port}`)
  url.searchParams.set('digest', sha256(data))
  const ended = await ask(port, 'PUT', url.pathname + url.search, { headers, body: data })
  if (ended.status !== 201) throw new Error(`${ended.status} ${ended.body.toString()}`)
}

/** Puts an image, or an index of images, where it can be pulled from. */
export async function putImage(port: number, repository: string, tag: string, image: MadeImage): Promise<void> {
  for (const data of [Buffer.from(image.config), ...image.layers.map((layer) => layer.data)]) await putBlob(port, repository, data)
  const put = await ask(port, 'PUT', `/v2/${repository}/manifests/${tag}`, { headers: { 'Content-Type': image.mediaType }, body: image.manifest })
  if (put.status !== 201) throw new Error(`${put.status} ${put.body.toString()}`)
}

/** What a proxy does to one request instead of passing it on as it is. */
export interface Fault {
  /** An answer of its own. */
  status?: number
  headers?: Record<string, string>
  body?: string
  /** How many bytes of the answer pass before the connection breaks. */
  cut?: number
  /** How many bytes of the request's body pass before it breaks. */
  cutRequest?: number
  /** Turns a bit of the answer's body. */
  corrupt?: boolean
  /** Bytes a second that pass. */
  rate?: number
}

/** A proxy in front of a registry at which things go wrong. */
export class Faults {
  /** Every request that came: method, path, range. */
  readonly seen: { method: string, url: string, range: string | undefined, closed: Promise<void> }[] = []
  /** Says what goes wrong; `count` is how often this method and path have come before. */
  rule: (method: string, url: string, count: number) => Fault | undefined = () => undefined
  /** Bytes of answers' bodies that have passed. */
  passed = 0
  readonly #server: Server
  readonly #to: number

  constructor(to: number) {
    this.#to = to
    this.#server = createServer((request, response) => this.#pass(request, response))
  }

  async listen(): Promise<this> {
    await new Promise<void>((resolve) => this.#server.listen(0, '127.0.0.1', resolve))
    return this
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port
  }

  get name(): string {
    return `127.0.0.1:${this.port}`
  }

  /** How often blobs, or one of them, were asked for. */
  gets(what = '/blobs/'): number {
    return this.seen.filter(({ method, url }) => method === 'GET' && url.includes(what)).length
  }

  #pass(incoming: IncomingMessage, response: ServerResponse): void {
    const [method, url] = [incoming.method!, incoming.url!]
    const count = this.seen.filter((earlier) => earlier.method === method && earlier.url === url).length
    this.seen.push({ method, url, range: incoming.headers.range, closed: new Promise((resolve) => response.once('close', resolve)) })
    const fault = this.rule(method, url, count) ?? {}
    if (fault.status) {
      response.writeHead(fault.status, { 'Content-Type': 'application/json', ...fault.headers })
      response.end(fault.body ?? '')
      incoming.resume()
      return
    }
    const outgoing = request({ host: '127.0.0.1', port: this.#to, method, path: url, headers: { ...incoming.headers, host: `127.0.0.1:${this.#to}` } }, (answer) => void this.#answer(answer, response, fault))
    outgoing.on('error', () => response.destroy())
    incoming.on('error', () => outgoing.destroy())
    response.once('close', () => outgoing.destroy())
    if (fault.cutRequest === undefined) return void incoming.pipe(outgoing)
    let left = fault.cutRequest
    incoming.on('data', (chunk: Buffer) => {
      outgoing.write(chunk.subarray(0, Math.max(0, left)))
      left -= chunk.length
      if (left > 0) return
      incoming.destroy()
      setTimeout(() => outgoing.destroy(), 50)
    })
  }

  async #answer(answer: IncomingMessage, response: ServerResponse, { cut, corrupt, rate }: Fault): Promise<void> {
    response.writeHead(answer.statusCode!, answer.headers)
    let left = cut ?? Infinity
    if (left === 0) response.flushHeaders()
    try {
      for await (const piece of answer) {
        let chunk = piece as Buffer
        if (corrupt) chunk = Buffer.from(chunk.map((byte, at) => (at === chunk.length >> 1 ? byte ^ 1 : byte)))
        chunk = chunk.subarray(0, left)
        left -= chunk.length
        this.passed += chunk.length
        await writeAll(response, chunk)
        if (rate) await new Promise((resolve) => setTimeout(resolve, chunk.length / rate * 1000))
        if (response.destroyed) break
        if (left > 0) continue
        await new Promise((resolve) => setTimeout(resolve, 20)) // what has passed should arrive
        response.destroy()
        break
      }
    } catch {
      response.destroy() // the other end has gone
    }
    response.end()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections()
    await new Promise((resolve) => this.#server.close(resolve))
  }
}
