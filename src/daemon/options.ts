import { parseArgs } from 'node:util'
import { existsSync, readFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { invalid, messageOf } from '../lib/errors.ts'
import type { TlsOptions } from '../server/listen.ts'

/** What the daemon is told by flags, by its configuration file, and by default. */
export interface DaemonOptions {
  hosts: string[]
  dataRoot: string
  execRoot: string
  pidfile: string
  storageDriver: string
  execDriver: string
  debug: boolean
  logLevel: string
  labels: string[]
  liveRestore: boolean
  /** USER[:GROUP] whose subordinate ids containers' users are; '' for none. */
  usernsRemap: string
  /** For tcp:// hosts; undefined where they are served in the clear. */
  tls: TlsOptions | undefined
}

const flags = {
  host: { type: 'string', short: 'H', multiple: true }, 'data-root': { type: 'string' }, 'exec-root': { type: 'string' }, pidfile: { type: 'string', short: 'p' },
  'storage-driver': { type: 'string', short: 's' }, 'exec-driver': { type: 'string' }, debug: { type: 'boolean', short: 'D' }, 'log-level': { type: 'string', short: 'l' },
  label: { type: 'string', multiple: true }, 'config-file': { type: 'string' }, 'live-restore': { type: 'boolean' }, 'userns-remap': { type: 'string' },
  tls: { type: 'boolean' }, tlsverify: { type: 'boolean' }, tlscacert: { type: 'string' }, tlscert: { type: 'string' }, tlskey: { type: 'string' },
} as const

type Flag = Exclude<keyof typeof flags, 'config-file'>
const DEFAULT_FILE = '/etc/berth/daemon.json'

/** The key of the configuration file that stands for a flag. */
const keyOf = (flag: Flag): string => (flag === 'host' || flag === 'label' ? `${flag}s` : flag)

/** Reads dockerd's flags and the configuration file; what both give is an error. */
export function readOptions(argv: readonly string[], env: NodeJS.ProcessEnv): DaemonOptions {
  let values: Partial<Record<keyof typeof flags, string | boolean | string[]>>
  try {
    values = parseArgs({ args: [...argv], options: flags, strict: true, allowPositionals: false }).values
  } catch (error) {
    throw invalid(messageOf(error), error)
  }
  const path = values['config-file'] as string | undefined
  const file = path !== undefined || existsSync(DEFAULT_FILE) ? readConfig(path ?? DEFAULT_FILE, values) : {}
  const get = <T>(flag: Flag, otherwise: T): T => (values[flag] ?? file[keyOf(flag)] ?? otherwise) as T
  const certificates = env['DOCKER_CERT_PATH'] ?? join(homedir(), '.docker')
  const verify = get<boolean>('tlsverify', false)
  const tls = verify || get<boolean>('tls', false) ? {
    verify, certificate: get<string>('tlscert', join(certificates, 'cert.pem')), key: get<string>('tlskey', join(certificates, 'key.pem')), ...(verify && { ca: get<string>('tlscacert', join(certificates, 'ca.pem')) }),
  } : undefined
  return {
    tls, hosts: get('host', ['unix:///var/run/berth.sock']), dataRoot: get('data-root', '/var/lib/berth'), execRoot: get('exec-root', '/var/run/berth'), pidfile: get('pidfile', '/var/run/berth.pid'),
    storageDriver: get('storage-driver', env['DOCKER_DRIVER'] ?? ''), execDriver: get('exec-driver', 'native'), debug: get('debug', false), logLevel: get('log-level', 'info'),
    labels: get('label', []), liveRestore: get('live-restore', false), usernsRemap: get('userns-remap', ''),
  }
}

/** Reads a configuration file: a JSON object of the flags' names and types. */
function readConfig(path: string, values: Partial<Record<Flag, unknown>>): Record<string, unknown> {
  const fail = (why: string, cause?: unknown): Error => invalid(`unable to configure the daemon with file ${path}: ${why}`, cause)
  let text: string
  let file: unknown
  try {
    text = readFileSync(path, 'utf8')
    file = JSON.parse(text)
  } catch (error) {
    throw fail(messageOf(error), error)
  }
  if (typeof file !== 'object' || file === null || Array.isArray(file)) throw fail('it is no JSON object')
  const known = new Map((Object.keys(flags) as (keyof typeof flags)[]).filter((flag) => flag !== 'config-file').map((flag) => [keyOf(flag), flag]))
  for (const [key, value] of Object.entries(file)) {
    const flag = known.get(key)
    if (!flag) throw fail(`the following directives don't match any configuration option: ${key}`)
    if (values[flag] !== undefined) throw fail(`the following directives are specified both as a flag and in the configuration file: ${key}`)
    const { type, multiple } = flags[flag] as { type: 'string' | 'boolean', multiple?: boolean }
    if (multiple ? !Array.isArray(value) || !value.every((item) => typeof item === 'string') : typeof value !== type) throw fail(`${key} must be ${multiple ? 'a list of strings' : `a ${type}`}`)
  }
  const twice = keysOf(text).find((key, i, keys) => keys.indexOf(key) !== i)
  if (twice !== undefined) throw fail(`${twice} is given twice`)
  return file as Record<string, unknown>
}

/** The keys of a JSON object as they are written: parsed, the last of equal ones hides the others. */
function keysOf(json: string): string[] {
  const keys: string[] = []
  let depth = 0
  for (const [token, text, colon] of json.matchAll(/("(?:[^"\\]|\\.)*")(\s*:)?|[{}[\]]/g)) {
    if (token === '{' || token === '[') depth++
    else if (token === '}' || token === ']') depth--
    else if (colon && depth === 1) keys.push(JSON.parse(text!) as string)
  }
  return keys
}
