import { readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { messageOf } from '../../lib/errors.ts'
import { parseSize } from '../../lib/units.ts'
import { ExitError } from '../command.ts'

/** The small languages of single flags: what a person writes, into what the API takes. */

const bad = (message: string): ExitError => new ExitError(125, message)

/** `/dev/sda[:/dev/xvda[:rwm]]`. */
export function parseDevice(text: string): object {
  const [host = '', second, third, ...more] = text.split(':')
  const permissions = /^[rwm]{1,3}$/
  if (more.length) throw bad(`invalid device specification: ${text}`)
  if (second !== undefined && third === undefined && permissions.test(second)) return { PathOnHost: host, PathInContainer: host, CgroupPermissions: second }
  if (third !== undefined && !permissions.test(third)) throw bad(`invalid argument ${JSON.stringify(text)} for "--device" flag: bad mode specified: ${third}`)
  return { PathOnHost: host, PathInContainer: second || host, CgroupPermissions: third ?? 'rwm' }
}

/** `type[=soft[:hard]]`, as in `nofile=1024:2048`. */
export function parseUlimit(text: string): object {
  const match = /^([a-z]+)=(-?\d+)(?::(-?\d+))?$/.exec(text)
  if (!match) throw bad(`invalid argument ${JSON.stringify(text)} for "--ulimit" flag: invalid ulimit argument: ${text}`)
  const [soft, hard] = [Number(match[2]), Number(match[3] ?? match[2])]
  if (soft > hard && hard !== -1) throw bad(`invalid argument ${JSON.stringify(text)} for "--ulimit" flag: ulimit soft limit must be less than or equal to hard limit: ${soft} > ${hard}`)
  return { Name: match[1], Soft: soft, Hard: hard }
}

/** `/dev/sda:1mb`: a device and a rate, in bytes or in operations a second. */
export function parseThrottle(flag: string, text: string, unit: 'bytes' | 'operations'): object {
  const [Path = '', rate, ...more] = text.split(':')
  const error = bad(`invalid argument ${JSON.stringify(text)} for "--${flag}" flag: invalid rate for device: ${text}. The correct format is <device-path>:<number>${unit === 'bytes' ? '[<unit>]. Number must be a positive integer. Unit is optional and can be kb, mb, or gb' : '. Number must be a positive integer'}`)
  if (!rate || more.length || !Path.startsWith('/dev/')) throw error
  if (unit === 'operations' && !/^\d+$/.test(rate)) throw error
  try {
    return { Path, Rate: parseSize(rate) }
  } catch {
    throw error
  }
}

/** `/dev/sda:500`: a device and its weight. */
export function parseWeight(text: string): object {
  const match = /^(\/dev\/[^:]+):(\d+)$/.exec(text)
  const weight = Number(match?.[2])
  if (!match || weight !== 0 && (weight < 10 || weight > 1000)) throw bad(`invalid argument ${JSON.stringify(text)} for "--blkio-weight-device" flag: invalid weight for device: ${text}`)
  return { Path: match[1], Weight: weight }
}

/** `key=value` pairs as a map; a bare key has an empty value. */
export function parseMap(pairs: readonly string[], flag?: string): Record<string, string> {
  return Object.fromEntries(pairs.map((pair) => {
    const equals = pair.indexOf('=')
    if (equals < 0 && flag) throw bad(`invalid argument ${JSON.stringify(pair)} for "--${flag}" flag: invalid ${flag} options: ${JSON.stringify(pair)}`)
    return equals < 0 ? [pair, ''] : [pair.slice(0, equals), pair.slice(equals + 1)]
  }))
}

/** --security-opt: a seccomp profile is read here and sent whole. */
export function parseSecurityOpt(text: string): string {
  const match = /^seccomp[=:](.+)$/.exec(text)
  if (!match || match[1] === 'unconfined' || match[1] === 'builtin') return text
  let profile: string
  try {
    profile = readFileSync(match[1]!, 'utf8')
  } catch (error) {
    throw bad(`opening seccomp profile (${match[1]}) failed: ${messageOf(error).startsWith('ENOENT') ? `open ${match[1]}: no such file or directory` : messageOf(error)}`)
  }
  try {
    return `seccomp=${JSON.stringify(JSON.parse(profile))}`
  } catch (error) {
    throw bad(`compacting json for seccomp profile (${match[1]}) failed: ${messageOf(error)}`)
  }
}

/** -v: a bind, or, without a colon, the place of an anonymous volume. Relative sources begin at the client's directory. */
export function parseVolume(text: string): { bind: string } | { volume: string } {
  if (text === '') throw bad('invalid spec: : empty section between colons')
  if (!text.includes(':')) return { volume: text }
  const parts = text.split(':')
  if (parts.length > 3) throw bad(`invalid volume specification: '${text}': invalid spec: ${text}: too many colons`)
  if (parts.some((part) => part === '')) throw bad(`invalid volume specification: '${text}': invalid spec: ${text}: empty section between colons`)
  const [source, ...rest] = parts as [string, ...string[]]
  return { bind: [/^\.{1,2}(\/|$)/.test(source) ? resolve(source) : source, ...rest].join(':') }
}

const truth = (key: string, value: string | undefined): boolean => {
  if (value === undefined || ['true', '1'].includes(value)) return true
  if (['false', '0'].includes(value)) return false
  throw bad(`invalid value for ${key}: ${value}`)
}

/** --mount: `type=bind,source=/a,target=/b,readonly`. */
export function parseMount(text: string): Record<string, unknown> {
  const mount: Record<string, unknown> = { Type: 'volume' }
  const bind: Record<string, unknown> = {}
  const volume: Record<string, unknown> = {}
  const tmpfs: Record<string, unknown> = {}
  const image: Record<string, unknown> = {}
  const labels: Record<string, string> = {}
  const fail = (message: string): ExitError => bad(`invalid argument ${JSON.stringify(text)} for "--mount" flag: ${message}`)
  for (const field of splitFields(text)) {
    const equals = field.indexOf('=')
    const [key, value] = equals < 0 ? [field.toLowerCase(), undefined] : [field.slice(0, equals).toLowerCase(), field.slice(equals + 1)]
    if (value === undefined && !['readonly', 'ro', 'volume-nocopy', 'bind-nonrecursive', 'bind-create-src'].includes(key)) throw fail(`invalid field '${field}' must be a key=value pair`)
    switch (key) {
      case 'type': mount['Type'] = value!.toLowerCase(); break
      case 'source': case 'src': mount['Source'] = /^\.{1,2}(\/|$)/.test(value!) ? resolve(value!) : value; break
      case 'target': case 'dst': case 'destination': mount['Target'] = value; break
      case 'readonly': case 'ro': mount['ReadOnly'] = truth(key, value); break
      case 'consistency': mount['Consistency'] = value; break
      case 'bind-propagation': bind['Propagation'] = value; break
      case 'bind-nonrecursive': bind['NonRecursive'] = truth(key, value); break
      case 'bind-create-src': bind['CreateMountpoint'] = truth(key, value); break
      case 'bind-recursive':
        if (!['enabled', 'disabled', 'writable', 'readonly'].includes(value!)) throw fail(`invalid value for bind-recursive: ${value} (must be "enabled", "disabled", "writable", or "readonly")`)
        if (value === 'disabled') bind['NonRecursive'] = true
        if (value === 'writable') bind['ReadOnlyNonRecursive'] = true
        if (value === 'readonly') bind['ReadOnlyForceRecursive'] = true
        break
      case 'volume-nocopy': volume['NoCopy'] = truth(key, value); break
      case 'volume-subpath': volume['Subpath'] = value; break
      case 'volume-label': labels[value!.split('=')[0]!] = value!.includes('=') ? value!.slice(value!.indexOf('=') + 1) : ''; break
      case 'volume-driver': volume['DriverConfig'] = { ...volume['DriverConfig'] as object, Name: value }; break
      case 'volume-opt': volume['DriverConfig'] = { ...volume['DriverConfig'] as object, Options: { ...(volume['DriverConfig'] as { Options?: object } | undefined)?.Options, ...parseMap([value!]) } }; break
      case 'image-subpath': image['Subpath'] = value; break
      case 'tmpfs-size': tmpfs['SizeBytes'] = parseSize(value!); break
      case 'tmpfs-mode': tmpfs['Mode'] = Number.parseInt(value!, 8); break
      default: throw fail(`unexpected key '${key}' in '${field}'`)
    }
  }
  if (Object.keys(labels).length) volume['Labels'] = labels
  if (mount['Target'] === undefined) throw fail('target is required')
  const options: [string, string, object][] = [['bind', 'BindOptions', bind], ['volume', 'VolumeOptions', volume], ['tmpfs', 'TmpfsOptions', tmpfs], ['image', 'ImageOptions', image]]
  for (const [type, name, given] of options) {
    if (Object.keys(given).length === 0) continue
    if (mount['Type'] !== type) throw fail(`cannot mix '${type}-*' options with mount type '${String(mount['Type'])}'`)
    mount[name] = given
  }
  return mount
}

/** The fields of a line of comma-separated values (RFC 4180). */
function splitFields(text: string): string[] {
  return [...text.matchAll(/(?:^|,)(?:"((?:[^"]|"")*)"|([^,]*))/g)].map((match) => match[1]?.replaceAll('""', '"') ?? match[2]!)
}

interface Published { exposed: Record<string, object>, bindings: Record<string, { HostIp: string, HostPort: string }[]> }

/** -p: `[[ip:]host:]container[/protocol]`, each a port or a range of ports. */
export function parsePublish(texts: readonly string[]): Published {
  const published: Published = { exposed: {}, bindings: {} }
  for (const text of texts) {
    const match = /^(?:(?:(\[[^\]]*\]|[^:[\]]*):)?([\d-]*):)?(\d+(?:-\d+)?)(?:\/(\w+))?$/.exec(text)
    if (!match) throw bad(`invalid argument ${JSON.stringify(text)} for "-p, --publish" flag: invalid publish specification: ${text}`)
    const [, ip = '', host = '', container, protocol = 'tcp'] = match
    if (!['tcp', 'udp', 'sctp'].includes(protocol.toLowerCase())) throw bad(`invalid proto: ${protocol}`)
    const [from, to] = parseRange(container!, text)
    const [hostFrom, hostTo] = host ? parseRange(host, text) : [0, 0]
    // one container port may take any of a range of host ports
    if (host && to - from !== hostTo - hostFrom && from !== to) throw bad(`invalid ranges specified for container and host Ports: ${container} and ${host}`)
    for (let port = from; port <= to; port++) {
      const key = `${port}/${protocol.toLowerCase()}`
      published.exposed[key] = {}
      const HostPort = !host ? '' : from === to && hostFrom !== hostTo ? `${hostFrom}-${hostTo}` : String(hostFrom + port - from)
      ;(published.bindings[key] ??= []).push({ HostIp: ip.replace(/^\[|\]$/g, ''), HostPort })
    }
  }
  return published
}

/** --expose: `port[-port][/protocol]`. */
export function parseExpose(texts: readonly string[]): Record<string, object> {
  return Object.fromEntries(texts.flatMap((text) => {
    const match = /^(\d+(?:-\d+)?)(?:\/(\w+))?$/.exec(text)
    if (!match) throw bad(`invalid port format for --expose: ${text}`)
    const [from, to] = parseRange(match[1]!, text)
    return Array.from({ length: to - from + 1 }, (_port, at) => [`${from + at}/${(match[2] ?? 'tcp').toLowerCase()}`, {}])
  }))
}

function parseRange(range: string, whole: string): [from: number, to: number] {
  const [from = NaN, to = from] = range.split('-').map(Number)
  if (!(from >= 0 && from <= to && to <= 65_535)) throw bad(`invalid port range: ${JSON.stringify(range)} in ${JSON.stringify(whole)}`)
  return [from, to]
}

export interface NetworkAsked { name: string, aliases: string[], ip?: string, ip6?: string, macAddress?: string, linkLocal: string[], driverOpts: Record<string, string>, priority?: number }

/** --network: a name, or `name=a,alias=b,ip=…`. */
export function parseNetwork(text: string): NetworkAsked {
  const asked: NetworkAsked = { name: text, aliases: [], linkLocal: [], driverOpts: {} }
  if (!text.includes('=') || text.startsWith('container:')) return asked
  asked.name = ''
  for (const field of splitFields(text)) {
    const equals = field.indexOf('=')
    const [key, value] = [field.slice(0, equals).toLowerCase(), field.slice(equals + 1)]
    if (equals < 0) throw bad(`invalid field ${field}`)
    if (key === 'name') asked.name = value
    else if (key === 'alias') asked.aliases.push(value)
    else if (key === 'ip') asked.ip = value
    else if (key === 'ip6') asked.ip6 = value
    else if (key === 'mac-address') asked.macAddress = value
    else if (key === 'link-local-ip') asked.linkLocal.push(value)
    else if (key === 'driver-opt') Object.assign(asked.driverOpts, parseMap([value]))
    else if (key === 'gw-priority') asked.priority = Number(value)
    else throw bad(`invalid field key ${key}`)
  }
  if (!asked.name) throw bad('network name/id is not specified')
  return asked
}
