import { readFileSync } from 'node:fs'
import { connect } from 'node:net'
import { hostname } from 'node:os'
import { invalid, messageOf, system } from '../lib/errors.ts'
import type { LogDriver, LogInfo } from './driver.ts'
import { timeText } from './lines.ts'
import { attributeOptions, checkOptions, parseAddress, tagOf, truth, type Options } from './options.ts'
import { RemoteLog, type Line } from './remote.ts'
import { Shipper, datagramsTo, streamTo, unixDatagramsTo, type Connection } from './ship.ts'

const facilities = ['kern', 'user', 'mail', 'daemon', 'auth', 'syslog', 'lpr', 'news', 'uucp', 'cron', 'authpriv', 'ftp', '', '', '', '', 'local0', 'local1', 'local2', 'local3', 'local4', 'local5', 'local6', 'local7']
const [ERROR, INFORMATIONAL] = [3, 6] // severities of RFC 5424

/** Where a host's own syslog listens. */
const LOCAL = ['/dev/log', '/var/run/syslog', '/var/run/log']

/** Lines to a syslog server, as RFC 3164 or RFC 5424 have them, or as programs write them to their host's. */
export function syslog(info: LogInfo, options: Options, warn: (message: string, error: unknown) => void): LogDriver {
  checkOptions('syslog', options, [...attributeOptions, 'syslog-address', 'syslog-facility', 'syslog-format', 'syslog-tls-ca-cert', 'syslog-tls-cert', 'syslog-tls-key', 'syslog-tls-skip-verify'])
  const address = options['syslog-address'] ? parseAddress(options['syslog-address'], ['udp', 'tcp', 'tcp+tls', 'unix', 'unixgram'], 514, 'syslog-address') : undefined
  const format = formatOf(options['syslog-format'] ?? '', tagOf(info, options))
  const facility = facilityOf(options['syslog-facility'] ?? 'daemon')
  // messages of a stream end with a newline, or, over TLS, begin with their length (RFC 5425)
  const framed = address?.protocol === 'tcp+tls' && options['syslog-format']?.startsWith('rfc5424')
  const streamed = address !== undefined && ['tcp', 'tcp+tls', 'unix'].includes(address.protocol)
  const encode = (line: Line): Buffer => {
    const message = Buffer.concat([Buffer.from(format(facility * 8 + (line.stream === 'stderr' ? ERROR : INFORMATIONAL), line)), line.text])
    return framed ? Buffer.concat([Buffer.from(`${message.length} `), message]) : streamed ? Buffer.concat([message, Buffer.from('\n')]) : message
  }
  const tls = address?.protocol === 'tcp+tls' ? readTls(options) : undefined
  return new RemoteLog('syslog', new Shipper({ options, warn, connect: () => (address ? dial(address, tls) : dialLocal()) }), encode)
}

interface Tls { ca?: Buffer, cert?: Buffer, key?: Buffer, rejectUnauthorized: boolean }

function readTls(options: Options): Tls {
  const file = (name: string): Buffer | undefined => {
    try {
      return options[name] ? readFileSync(options[name]) : undefined
    } catch (error) {
      throw invalid(`${name}: ${messageOf(error)}`, error)
    }
  }
  const [ca, cert, key] = [file('syslog-tls-ca-cert'), file('syslog-tls-cert'), file('syslog-tls-key')]
  return { ...(ca && { ca }), ...(cert && { cert }), ...(key && { key }), rejectUnauthorized: !truth(options, 'syslog-tls-skip-verify', false) }
}

async function dial({ protocol, host, port, path }: ReturnType<typeof parseAddress>, tls: Tls | undefined): Promise<Connection> {
  switch (protocol) {
    case 'udp': return await datagramsTo(host, port)
    case 'unixgram': return await unixDatagramsTo(path)
    case 'unix': return await streamTo(() => connect(path), `unix ${path}`)
    case 'tcp': return await streamTo(() => connect({ host, port, keepAlive: true }), `tcp ${host}:${port}`)
    default: return await streamTo(async () => (await import('node:tls')).connect({ host, port, servername: host, ...tls }), `tls ${host}:${port}`)
  }
}

async function dialLocal(): Promise<Connection> {
  for (const path of LOCAL) {
    for (const how of [() => unixDatagramsTo(path), () => streamTo(() => connect(path), `unix ${path}`)]) {
      try {
        return await how()
      } catch {
        continue // the next may be there
      }
    }
  }
  throw system('Unix syslog delivery error')
}

function facilityOf(text: string): number {
  const number = /^\d+$/.test(text) ? Number(text) : text ? facilities.indexOf(text) : -1
  if (number < 0 || number > 23) throw invalid(`invalid syslog facility: ${text}`)
  return number
}

const months = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec']

/** `Jan _2 15:04:05`, local time. */
function stamp(time: bigint): string {
  const date = new Date(Number(time / 1_000_000n))
  const two = (number: number): string => String(number).padStart(2, '0')
  return `${months[date.getMonth()]} ${String(date.getDate()).padStart(2)} ${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`
}

/** What stands before a line's text. */
function formatOf(name: string, tag: string): (priority: number, line: Line) => string {
  const host = hostname()
  const { pid } = process
  const digits = (count: number) => ({ time }: Line): string => timeText(time).replace(/\.(\d+)Z$/, (_all, fraction: string) => (count ? `.${fraction.slice(0, count)}Z` : 'Z'))
  const rfc5424 = (time: (line: Line) => string) => (priority: number, line: Line): string => `<${priority}>1 ${time(line)} ${host} ${tag} ${pid} ${tag} - `
  switch (name) {
    case '': return (priority, { time }) => `<${priority}>${stamp(time)} ${tag}[${pid}]: `
    case 'rfc3164': return (priority, { time }) => `<${priority}>${stamp(time)} ${host} ${tag}[${pid}]: `
    case 'rfc5424': return rfc5424(digits(0))
    case 'rfc5424micro': return rfc5424(digits(6))
    default: throw invalid('Invalid syslog format')
  }
}
