import { existsSync, readFileSync, readdirSync } from 'node:fs'
import { request } from 'node:http'
import { join } from 'node:path'
import { BerthError, invalid, notFound, system, unavailable } from './errors.ts'

const SOCKETS = ['/run/docker/plugins', '/run/berth/plugins']
const SPECS = ['/etc/docker/plugins', '/usr/lib/docker/plugins', '/etc/berth/plugins']
const TIMEOUT = 30_000
const TYPE = 'application/vnd.docker.plugins.v1.2+json'

type Address = { socketPath: string } | { host: string, port: number }

/** The names of all plugins that there are. */
export function pluginNames(): string[] {
  const names = new Set<string>()
  for (const directory of SOCKETS)
    for (const entry of existsSync(directory) ? readdirSync(directory) : [])
      if (entry.endsWith('.sock')) names.add(entry.slice(0, -'.sock'.length))
      else if (existsSync(join(directory, entry, `${entry}.sock`))) names.add(entry)
  for (const directory of SPECS) for (const entry of existsSync(directory) ? readdirSync(directory) : []) if (/\.(spec|json)$/.test(entry)) names.add(entry.replace(/\.\w+$/, ''))
  return [...names]
}

/** Where a plugin listens: `NAME.sock`, or what `NAME.spec` or `NAME.json` says. Undefined where there is none of that
 * name. */
function addressOf(name: string): Address | undefined {
  if (!/^[a-zA-Z0-9][\w.-]*$/.test(name)) return undefined
  for (const directory of SOCKETS) for (const path of [join(directory, `${name}.sock`), join(directory, name, `${name}.sock`)]) if (existsSync(path)) return { socketPath: path }
  for (const directory of SPECS) {
    const [spec, json] = [join(directory, `${name}.spec`), join(directory, `${name}.json`)]
    if (existsSync(spec)) return parseAddress(readFileSync(spec, 'utf8').trim(), spec)
    if (existsSync(json)) return parseAddress((JSON.parse(readFileSync(json, 'utf8')) as { Addr?: string }).Addr ?? '', json)
  }
  return undefined
}

function parseAddress(url: string, file: string): Address {
  const [, socketPath] = /^unix:\/\/(\/.*)$/.exec(url) ?? []
  if (socketPath) return { socketPath }
  const [, host, port] = /^(?:tcp|http):\/\/([^:/]+):(\d+)\/?$/.exec(url) ?? []
  if (!host) throw invalid(`the plugin file ${file} has no address that is understood: ${JSON.stringify(url)}`)
  return { host, port: Number(port) }
}

/** A plugin of Docker's kind: a process that answers JSON posts to methods (Docker documentation, "Plugin API"). */
export class Plugin {
  readonly name: string
  readonly #address: Address
  #implements: Promise<string[]> | undefined

  private constructor(name: string, address: Address) {
    this.name = name
    this.#address = address
  }

  /** The plugin of a name. `not-found` where there is none. */
  static find(name: string): Plugin {
    const address = addressOf(name)
    if (!address) throw notFound(`plugin ${JSON.stringify(name)} not found`)
    return new Plugin(name, address)
  }

  /** Calls a method of an interface that the plugin implements. Rejects with what it says has failed. */
  async call<T extends object>(of: string, method: string, body: object = {}): Promise<T> {
    this.#implements ??= this.#post<{ Implements?: string[] }>('Plugin.Activate', {}).then(({ Implements = [] }) => Implements)
    const known = await this.#implements.catch((error: unknown) => {
      this.#implements = undefined // it may have begun by the next time
      throw error
    })
    if (!known.includes(of)) throw notFound(`plugin ${JSON.stringify(this.name)} does not implement ${of}`)
    return await this.#post<T>(`${of}.${method}`, body)
  }

  #post<T extends object>(path: string, body: object): Promise<T> {
    const data = JSON.stringify(body)
    return new Promise((resolve, reject) => {
      const sent = request({ ...this.#address, path: `/${path}`, method: 'POST', headers: { Accept: TYPE, 'Content-Type': TYPE, 'Content-Length': Buffer.byteLength(data) }, signal: AbortSignal.timeout(TIMEOUT) }, (response) => {
        const chunks: Buffer[] = []
        response.on('data', (chunk: Buffer) => chunks.push(chunk))
        response.on('error', reject)
        response.on('end', () => {
          try {
            const answer = (JSON.parse(Buffer.concat(chunks).toString() || '{}') ?? {}) as T & { Err?: string }
            if (answer.Err) throw system(`plugin ${JSON.stringify(this.name)}: ${path}: ${answer.Err}`)
            if (response.statusCode !== 200) throw system(`plugin ${JSON.stringify(this.name)}: ${path}: status ${response.statusCode}`)
            resolve(answer)
          } catch (error) {
            reject(error instanceof BerthError ? error : system(`plugin ${JSON.stringify(this.name)}: ${path}: its answer is not JSON`, error))
          }
        })
      })
      sent.on('error', (error) => reject(unavailable(`plugin ${JSON.stringify(this.name)} does not answer: ${error.message}`, error)))
      sent.end(data)
    })
  }
}
