import { request, type IncomingMessage } from 'node:http'
import { invalid, unavailable } from '../../lib/errors.ts'

/** A key and its value in the store. */
export interface Pair { key: string, value: string }
/** A change of a key; without a value it is gone. */
export interface Change { key: string, value: string | undefined }
/** What a transaction demands: keys that must not be there yet. */
export interface Transaction { absent: readonly string[], put: readonly Pair[], remove?: readonly string[] }

const TIMEOUT = 5000
const encode = (text: string): string => Buffer.from(text).toString('base64')
const decode = (text: string | undefined): string => Buffer.from(text ?? '', 'base64').toString()

/** The end of the range of all keys with a prefix (etcd API, "Key ranges"). */
function rangeEnd(prefix: string): string {
  const bytes = Buffer.from(prefix)
  bytes[bytes.length - 1]! += 1
  return bytes.toString('base64')
}

interface KeyValue { key: string, value?: string }

/** A client of etcd's version 3, by the JSON that it speaks beside gRPC (etcd documentation, "gRPC gateway"). */
export class Etcd {
  readonly #hosts: { host: string, port: number }[]
  readonly prefix: string
  #at = 0

  /** `etcd://HOST:PORT[,HOST:PORT…][/PREFIX]`. */
  constructor(url: string) {
    const [, hosts = '', path = ''] = /^etcd:\/\/([^/]+)(\/.*)?$/.exec(url) ?? []
    this.#hosts = hosts.split(',').map((text) => {
      const [, host = '', port = '2379'] = /^(.+?)(?::(\d+))?$/.exec(text) ?? []
      return { host: host.replace(/^\[(.*)\]$/, '$1'), port: Number(port) }
    })
    if (!hosts || this.#hosts.some(({ host }) => !host)) throw invalid(`invalid cluster store ${JSON.stringify(url)}: etcd://HOST:PORT[/PREFIX] is wanted`)
    this.prefix = `${path.replace(/\/+$/, '')}/berth/`
  }

  /** Sends to one server after the other, beginning with that which answered last. */
  async #call<T>(path: string, body: object): Promise<T> {
    let failure: unknown
    for (let tries = 0; tries < this.#hosts.length; tries++) {
      try {
        const response = await this.#send(path, body, AbortSignal.timeout(TIMEOUT))
        const chunks: Buffer[] = []
        for await (const chunk of response) chunks.push(chunk as Buffer)
        const answer = JSON.parse(Buffer.concat(chunks).toString()) as T & { error?: string }
        if (response.statusCode !== 200) throw unavailable(`the cluster store refused: ${answer.error ?? response.statusCode}`)
        return answer
      } catch (error) {
        failure = error
        this.#at = (this.#at + 1) % this.#hosts.length
      }
    }
    const { host, port } = this.#hosts[0]!
    throw unavailable(`the cluster store etcd://${host}:${port} does not answer`, failure)
  }

  #send(path: string, body: object, signal: AbortSignal): Promise<IncomingMessage> {
    const data = JSON.stringify(body)
    return new Promise((resolve, reject) => {
      const sent = request({ ...this.#hosts[this.#at]!, path: `/v3/${path}`, method: 'POST', headers: { 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(data) }, signal }, resolve)
      sent.on('error', reject)
      sent.end(data)
    })
  }

  /** All keys of the prefix, and the revision that they are of. */
  async list(): Promise<{ pairs: Pair[], revision: bigint }> {
    const { kvs = [], header } = await this.#call<{ kvs?: KeyValue[], header: { revision: string } }>('kv/range', { key: encode(this.prefix), range_end: rangeEnd(this.prefix) })
    return { pairs: kvs.map(({ key, value }) => ({ key: decode(key).slice(this.prefix.length), value: decode(value) })), revision: BigInt(header.revision) }
  }

  /** Makes a change as a whole, if what must be absent is. */
  async transact({ absent, put, remove = [] }: Transaction): Promise<boolean> {
    const key = (name: string): string => encode(this.prefix + name)
    const { succeeded = false } = await this.#call<{ succeeded?: boolean }>('kv/txn', {
      compare: absent.map((name) => ({ key: key(name), target: 'CREATE', result: 'EQUAL', create_revision: '0' })),
      success: [...put.map((pair) => ({ request_put: { key: key(pair.key), value: encode(pair.value) } })), ...remove.map((name) => ({ request_delete_range: { key: key(name) } }))],
    })
    return succeeded
  }

  /** Tells of changes from a revision on, until the signal aborts, or the connection breaks: then it rejects. */
  async watch(revision: bigint, tell: (change: Change) => void, signal: AbortSignal): Promise<never> {
    const response = await this.#send('watch', { create_request: { key: encode(this.prefix), range_end: rangeEnd(this.prefix), start_revision: String(revision), progress_notify: true } }, signal)
    let rest = ''
    for await (const chunk of response) {
      const lines = (rest + (chunk as Buffer).toString()).split('\n')
      rest = lines.pop()!
      for (const line of lines) {
        const { result, error } = JSON.parse(line) as { result?: { events?: { type?: string, kv: KeyValue }[], canceled?: boolean }, error?: { message: string } }
        if (error || result?.canceled) throw unavailable(`the cluster store ended the watch: ${error?.message ?? 'its history is gone'}`)
        for (const { type, kv } of result?.events ?? []) tell({ key: decode(kv.key).slice(this.prefix.length), value: type === 'DELETE' ? undefined : decode(kv.value) })
      }
    }
    throw unavailable('the cluster store has hung up')
  }
}
