import { spawnSync } from 'node:child_process'
import { mkdirSync, realpathSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { codeOf, messageOf } from '../lib/errors.ts'
import { readIfThere, writeFileAtomic } from '../lib/files.ts'
import { hostOf, parseReference, splitDomain } from '../reference/reference.ts'
import { ExitError } from './command.ts'

/** What a person shows a registry (API: AuthConfig). */
export interface AuthConfig { username?: string, password?: string, serveraddress: string, identitytoken?: string }

interface ConfigFile { auths?: Record<string, { auth?: string, identitytoken?: string, username?: string, password?: string }>, credsStore?: string, credHelpers?: Record<string, string>, [key: string]: unknown }

/** What logins to docker.io are kept under. */
export const INDEX = 'https://index.docker.io/v1/'

/** What logins to an image's registry are kept under. */
export function serverOf(image: string): string {
  const { domain } = parseReference(image)
  return domain === 'docker.io' ? INDEX : domain
}

/** As `serverOf`, of what is searched for. */
export function serverOfTerm(term: string): string {
  const { domain } = splitDomain(term)
  return domain === 'docker.io' ? INDEX : domain
}

/** Header `X-Registry-Auth`. */
export function authHeader(auth: AuthConfig | undefined): Record<string, string> {
  return auth ? { 'X-Registry-Auth': Buffer.from(JSON.stringify(auth)).toString('base64url') } : {}
}

/** A person's logins, in `config.json` or with the helper programs that it names (docker-credential-helpers). */
export class CredentialStore {
  readonly path: string
  readonly #env: NodeJS.ProcessEnv

  constructor(directory: string, env: NodeJS.ProcessEnv) {
    this.path = join(directory, 'config.json')
    this.#env = env
  }

  #read(): ConfigFile {
    const text = readIfThere(this.path)
    try {
      return text?.trim() ? JSON.parse(text) as ConfigFile : {}
    } catch (error) {
      throw new ExitError(1, `error parsing config file (${this.path}): ${messageOf(error)}`)
    }
  }

  #write(file: ConfigFile): void {
    mkdirSync(dirname(this.path), { recursive: true, mode: 0o700 })
    let path = this.path
    try {
      path = realpathSync(path) // a link to a file elsewhere stays one
    } catch (error) {
      if (codeOf(error) !== 'ENOENT') throw error
    }
    writeFileAtomic(path, JSON.stringify(file, undefined, '\t'))
  }

  #helper(server: string, file: ConfigFile): string | undefined {
    return file.credHelpers?.[server] || file.credHelpers?.[hostOf(server)] || file.credsStore || undefined
  }

  /** Runs `docker-credential-NAME ACTION`. */
  #ask(name: string, action: 'get' | 'store' | 'erase', input: string): string | undefined {
    const { error, status, stdout, stderr } = spawnSync(`docker-credential-${name}`, [action], { input, env: this.#env, encoding: 'utf8' })
    if (error) throw new ExitError(1, `error getting credentials - err: exec: "docker-credential-${name}": executable file not found in $PATH`)
    if (status === 0) return stdout
    const said = (stdout + stderr).trim()
    if (/credentials not found/i.test(said)) return undefined
    throw new ExitError(1, `error ${action === 'get' ? 'getting' : action === 'store' ? 'storing' : 'erasing'} credentials - err: exit status ${status}, out: \`${said}\``)
  }

  /** What is kept for a server, or undefined. */
  get(server: string): AuthConfig | undefined {
    const file = this.#read()
    const helper = this.#helper(server, file)
    if (helper) {
      const answer = this.#ask(helper, 'get', server)
      if (answer === undefined) return undefined
      const { Username, Secret } = JSON.parse(answer) as { Username: string, Secret: string }
      return Username === '<token>' ? { identitytoken: Secret, serveraddress: server } : { username: Username, password: Secret, serveraddress: server }
    }
    const auths = file.auths ?? {}
    const entry = auths[server] ?? Object.entries(auths).find(([key]) => hostOf(key) === hostOf(server))?.[1]
    if (!entry) return undefined
    const [username = entry.username, ...password] = entry.auth ? Buffer.from(entry.auth, 'base64').toString('utf8').split(':') : []
    if (username === undefined && !entry.identitytoken) return undefined
    return { ...(username && { username, password: entry.auth ? password.join(':') : entry.password ?? '' }), ...(entry.identitytoken && { identitytoken: entry.identitytoken }), serveraddress: server }
  }

  /** Keeps a login. Returns true where it is kept in a file, not encrypted. */
  store(auth: AuthConfig): boolean {
    const { serveraddress: server, username = '', password = '', identitytoken } = auth
    const file = this.#read()
    const helper = this.#helper(server, file)
    if (helper) {
      this.#ask(helper, 'store', JSON.stringify({ ServerURL: server, Username: identitytoken ? '<token>' : username, Secret: identitytoken ?? password }))
      this.#write({ ...file, auths: { ...file.auths, [server]: {} } })
      return false
    }
    const entry = identitytoken ? { auth: Buffer.from(`${username}:`).toString('base64'), identitytoken } : { auth: Buffer.from(`${username}:${password}`).toString('base64') }
    this.#write({ ...file, auths: { ...file.auths, [server]: entry } })
    return true
  }

  /** Forgets a login. */
  erase(server: string): void {
    const file = this.#read()
    const helper = this.#helper(server, file)
    if (helper) this.#ask(helper, 'erase', server)
    const auths = Object.fromEntries(Object.entries(file.auths ?? {}).filter(([key]) => hostOf(key) !== hostOf(server)))
    this.#write({ ...file, auths })
  }

  /** True where something is kept for a server. */
  has(server: string): boolean {
    const file = this.#read()
    return Object.keys(file.auths ?? {}).some((key) => hostOf(key) === hostOf(server)) || Boolean(this.#helper(server, file) && this.get(server))
  }
}

/** The header that shows an image's registry who is asking. */
export function authFor({ configDirectory, env }: { configDirectory: string, env: NodeJS.ProcessEnv }, image: string): Record<string, string> {
  return authHeader(new CredentialStore(configDirectory, env).get(serverOf(image)))
}
