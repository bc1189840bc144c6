import { parseArgs } from 'node:util'
import { readFileSync } from 'node:fs'
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

/** The keys of the configuration file that stand for flags. */
const keyOf: Record<string, string> = { host: 'hosts', label: 'labels' }

/** Reads dockerd's flags and the file that they name; what both give is an error. */
export function readOptions(argv: readonly string[], env: NodeJS.ProcessEnv): DaemonOptions {
  let values: Record<string, string | boolean | string[] | undefined>
  try {
    values = parseArgs({ args: [...argv], options: flags, strict: true, allowPositionals: false }).values
  } catch (error) {
    throw invalid(messageOf(error), error)
  }
  const path = values['config-file'] as string | undefined
  let file: Record<string, unknown> = {}
  if (path !== undefined) {
    try {
      file = JSON.parse(readFileSync(path, 'utf8')) as Record<string, unknown>
    } catch (error) {
      throw invalid(`unable to configure the daemon with file ${path}: ${messageOf(error)}`, error)
    }
  }
  const known = new Map(Object.keys(flags).filter((flag) => flag !== 'config-file').map((flag) => [keyOf[flag] ?? flag, flag]))
  for (const key of Object.keys(file)) {
    const flag = known.get(key)
    if (!flag) throw invalid(`unable to configure the daemon with file ${path}: the following directives don't match any configuration option: ${key}`)
    if (values[flag] !== undefined) throw invalid(`unable to configure the daemon with file ${path}: the following directives are specified both as a flag and in the configuration file: ${key}`)
  }
  const get = <T>(flag: string, otherwise: T): T => (values[flag] ?? file[keyOf[flag] ?? flag] ?? otherwise) as T
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
