import { parseArgs } from 'node:util'
import { existsSync, readFileSync } from 'node:fs'
import { isIP } from 'node:net'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { BERTH_VERSION } from '../api/version.ts'
import { invalid, messageOf } from '../lib/errors.ts'
import { defaultSpaces, type AddressSpace } from '../libnetwork/ipam.ts'
import { parseSubnet } from '../netlink/address.ts'
import { CERTIFICATES, parseMirror, type ProxyOptions, type RegistryOptions } from '../registry/hosts.ts'
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
  network: NetworkOptions
  registry: DistributionOptions
  /** Where Prometheus may ask, `[HOST]:PORT`; '' for nowhere. */
  metrics: string
  /** The log of containers that ask for no driver. */
  log: { driver: string, options: Record<string, string> }
  /** For tcp:// hosts; undefined where they are served in the clear. */
  tls: TlsOptions | undefined
}

/** What pulls and pushes are told. */
export interface DistributionOptions {
  connect: RegistryOptions
  /** How many layers come and go at once, and how often each is tried. */
  downloads: number
  uploads: number
  attempts: number
  /** Registries that take layers that registries must not have. */
  foreign: string[]
}

/** What networks are told. */
export interface NetworkOptions {
  /** The default network's bridge: '' for one of ours, `none` for no default network. */
  bridge: string
  /** Address and prefix of that bridge, and the ranges that its containers' addresses are from. */
  bip: string
  fixedCidr: string
  fixedCidr6: string
  icc: boolean
  masquerade: boolean
  forward: boolean
  ipv6: boolean
  mtu: number
  /** Where published ports are, unless they say so; '' for all addresses. */
  publishAddress: string
  userlandProxy: boolean
  hostGateway: string
  dns: { servers: string[], search: string[], options: string[] }
  /** Where the host may ask for names of containers; undefined for nowhere. */
  hostNames: { address: string, port: number } | undefined
  /** The store that hosts share, and this host's address among them: '' for none. */
  clusterStore: string
  clusterAdvertise: string
  /** Where the subnets of networks are taken from that name none. */
  spaces: AddressSpace[]
}

const flags = {
  host: { type: 'string', short: 'H', multiple: true }, 'data-root': { type: 'string' }, 'exec-root': { type: 'string' }, pidfile: { type: 'string', short: 'p' },
  'storage-driver': { type: 'string', short: 's' }, 'exec-driver': { type: 'string' }, debug: { type: 'boolean', short: 'D' }, 'log-level': { type: 'string', short: 'l' },
  label: { type: 'string', multiple: true }, 'config-file': { type: 'string' }, 'live-restore': { type: 'boolean' }, 'userns-remap': { type: 'string' },
  bridge: { type: 'string', short: 'b' }, bip: { type: 'string' }, 'fixed-cidr': { type: 'string' }, 'fixed-cidr-v6': { type: 'string' }, icc: { type: 'boolean' }, 'ip-masq': { type: 'boolean' }, 'ip-forward': { type: 'boolean' },
  ip: { type: 'string' }, ipv6: { type: 'boolean' }, mtu: { type: 'string' }, 'userland-proxy': { type: 'boolean' }, 'host-gateway-ip': { type: 'string' }, 'default-address-pool': { type: 'string', multiple: true },
  dns: { type: 'string', multiple: true }, 'dns-search': { type: 'string', multiple: true }, 'dns-opt': { type: 'string', multiple: true }, 'host-names': { type: 'string' }, 'cluster-store': { type: 'string' }, 'cluster-advertise': { type: 'string' },
  'registry-mirror': { type: 'string', multiple: true }, 'insecure-registry': { type: 'string', multiple: true }, 'allow-nondistributable-artifacts': { type: 'string', multiple: true }, 'max-concurrent-downloads': { type: 'string' }, 'max-concurrent-uploads': { type: 'string' }, 'max-download-attempts': { type: 'string' },
  'http-proxy': { type: 'string' }, 'https-proxy': { type: 'string' }, 'no-proxy': { type: 'string' },
  'metrics-addr': { type: 'string' }, 'log-driver': { type: 'string' }, 'log-opt': { type: 'string', multiple: true },
  tls: { type: 'boolean' }, tlsverify: { type: 'boolean' }, tlscacert: { type: 'string' }, tlscert: { type: 'string' }, tlskey: { type: 'string' },
} as const

type Flag = Exclude<keyof typeof flags, 'config-file'>
const DEFAULT_FILE = '/etc/berth/daemon.json'

/** The key of the configuration file that stands for a flag. */
const keyOf = (flag: Flag): string => (['host', 'label', 'default-address-pool', 'dns-opt', 'log-opt', 'registry-mirror'].includes(flag) ? `${flag}s` : flag === 'insecure-registry' ? 'insecure-registries' : flag)

/** Flags whose values are numbers in the file. */
const numbers: readonly Flag[] = ['mtu', 'max-concurrent-downloads', 'max-concurrent-uploads', 'max-download-attempts']

/** Reads dockerd's flags and the configuration file; what both give is an error. */
export function readOptions(argv: readonly string[], env: NodeJS.ProcessEnv): DaemonOptions {
  let values: Partial<Record<keyof typeof flags, string | boolean | string[]>>
  try {
    values = parseArgs({ args: argv.map(asSwitch), options: flags, strict: true, allowPositionals: false, allowNegative: true }).values
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
    tls, network: networkOptions(get), registry: registryOptions(get, env), hosts: get('host', ['unix:///var/run/berth.sock']), dataRoot: get('data-root', '/var/lib/berth'), execRoot: get('exec-root', '/var/run/berth'), pidfile: get('pidfile', '/var/run/berth.pid'),
    storageDriver: get('storage-driver', env['DOCKER_DRIVER'] ?? ''), execDriver: get('exec-driver', 'native'), debug: get('debug', false), logLevel: get('log-level', 'info'),
    labels: get('label', []), liveRestore: get('live-restore', false), usernsRemap: get('userns-remap', ''),
    metrics: get('metrics-addr', ''), log: { driver: get('log-driver', 'json-file'), options: Object.fromEntries(get<string[]>('log-opt', []).map(parsePair)) },
  }
}

function parsePair(text: string): [name: string, value: string] {
  const equals = text.indexOf('=')
  if (equals < 1) throw invalid(`invalid log option ${JSON.stringify(text)}: it is NAME=VALUE`)
  return [text.slice(0, equals), text.slice(equals + 1)]
}

/** `--icc=false`, as Go's flags have it, is `--no-icc` to parseArgs. */
function asSwitch(word: string): string {
  const [, name = '', value = ''] = /^--([^=]+)=(.*)$/.exec(word) ?? []
  if (!Object.hasOwn(flags, name) || flags[name as keyof typeof flags].type !== 'boolean') return word
  if (/^(1|t|true)$/i.test(value)) return `--${name}`
  if (/^(0|f|false)$/i.test(value)) return `--no-${name}`
  throw invalid(`invalid argument ${JSON.stringify(value)} for "--${name}" flag`)
}

/** `ADDRESS[:PORT]`, `[ADDRESS]:PORT`; the port of names is 53. */
function listenAddress(text: string): { address: string, port: number } | undefined {
  if (text === '') return undefined
  const [, bracketed, plain = '', port = '53'] = /^(?:\[([^\]]*)\]|([\d.]*))(?::(\d+))?$/.exec(text) ?? []
  const address = bracketed ?? plain
  if (!isIP(address) || Number(port) > 65_535) throw invalid(`invalid address ${JSON.stringify(text)} for --host-names: it is an IP address, and a port after a colon`)
  return { address, port: Number(port) }
}

type Get = <T>(flag: Flag, otherwise: T) => T

const IDLE = 60_000

function registryOptions(get: Get, env: NodeJS.ProcessEnv): DistributionOptions {
  const count = (flag: Flag, otherwise: number): number => {
    const value = Number(get<string | number>(flag, otherwise))
    if (!Number.isInteger(value) || value < 1) throw invalid(`invalid ${flag.replaceAll('-', ' ')}: ${get(flag, '')}`)
    return value
  }
  const mirrors = new Map<string, string[]>()
  for (const { domain, url } of get<string[]>('registry-mirror', []).map(parseMirror)) mirrors.set(domain, [...(mirrors.get(domain) ?? []), url])
  const proxy = (flag: Flag, name: 'HTTP_PROXY' | 'HTTPS_PROXY' | 'NO_PROXY'): ProxyOptions => {
    const value = get(flag, env[name] ?? env[name.toLowerCase()] ?? '')
    return value ? { [name]: value } : {}
  }
  return {
    connect: {
      mirrors, insecure: get('insecure-registry', []), certificates: CERTIFICATES, userAgent: `berth/${BERTH_VERSION} (linux)`, idle: IDLE,
      proxy: { ...proxy('http-proxy', 'HTTP_PROXY'), ...proxy('https-proxy', 'HTTPS_PROXY'), ...proxy('no-proxy', 'NO_PROXY') },
    },
    downloads: count('max-concurrent-downloads', 3), uploads: count('max-concurrent-uploads', 5), attempts: count('max-download-attempts', 5), foreign: get('allow-nondistributable-artifacts', []),
  }
}

function networkOptions(get: Get): NetworkOptions {
  const mtu = Number(get<string | number>('mtu', '0'))
  if (!Number.isInteger(mtu) || mtu < 0) throw invalid(`invalid default MTU: ${get('mtu', '')}`)
  const asked = get<(string | { base?: string, size?: number })[]>('default-address-pool', []).map((pool) => {
    const pairs = typeof pool === 'string' ? Object.fromEntries(pool.split(',').map((pair) => pair.split('='))) as Record<string, string> : pool
    const [base, size] = [pairs.base ?? '', Number(pairs.size)]
    const { prefix, family } = parseSubnet(base)
    if (!Number.isInteger(size) || size < prefix || size > (family === 4 ? 32 : 128)) throw invalid(`invalid default address pool ${JSON.stringify(pool)}: size is no prefix length of a subnet of base`)
    return { base, size }
  })
  return {
    bridge: get('bridge', ''), bip: get('bip', ''), fixedCidr: get('fixed-cidr', ''), fixedCidr6: get('fixed-cidr-v6', ''), icc: get('icc', true), masquerade: get('ip-masq', true), forward: get('ip-forward', true),
    ipv6: get('ipv6', false), mtu, publishAddress: get('ip', ''), userlandProxy: get('userland-proxy', true), hostGateway: get('host-gateway-ip', ''),
    dns: { servers: get('dns', []), search: get('dns-search', []), options: get('dns-opt', []) }, hostNames: listenAddress(get('host-names', '')), clusterStore: get('cluster-store', ''), clusterAdvertise: get('cluster-advertise', ''), spaces: asked.length ? asked : [...defaultSpaces],
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
  if ('proxies' in file) { // as Docker nests them
    const { proxies, ...rest } = file as Record<string, unknown>
    if (typeof proxies !== 'object' || proxies === null) throw fail('proxies must be an object')
    file = { ...rest, ...proxies }
  }
  if ('log-opts' in (file as object)) { // an object there, where flags are a list
    const options = (file as Record<string, unknown>)['log-opts']
    if (typeof options !== 'object' || options === null || Object.values(options).some((value) => typeof value !== 'string')) throw fail('log-opts must be an object of strings')
    file = { ...(file as object), 'log-opts': Object.entries(options as Record<string, string>).map(([name, value]) => `${name}=${value}`) }
  }
  const known = new Map((Object.keys(flags) as (keyof typeof flags)[]).filter((flag) => flag !== 'config-file').map((flag) => [keyOf(flag), flag]))
  for (const [key, value] of Object.entries(file as object)) {
    const flag = known.get(key)
    if (!flag) throw fail(`the following directives don't match any configuration option: ${key}`)
    if (values[flag] !== undefined) throw fail(`the following directives are specified both as a flag and in the configuration file: ${key}`)
    const { type, multiple } = flags[flag] as { type: 'string' | 'boolean', multiple?: boolean }
    const fits = multiple ? Array.isArray(value) && value.every((item) => typeof item === (flag === 'default-address-pool' ? 'object' : 'string')) : typeof value === (numbers.includes(flag) ? 'number' : type)
    if (!fits) throw fail(`${key} must be ${multiple ? `a list of ${flag === 'default-address-pool' ? 'objects' : 'strings'}` : `a ${numbers.includes(flag) ? 'number' : type}`}`)
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
