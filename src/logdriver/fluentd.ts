import { randomBytes } from 'node:crypto'
import { connect, type Socket } from 'node:net'
import { ExtData, decode, encode } from '@msgpack/msgpack'
import { invalid, system } from '../lib/errors.ts'
import { parseDuration, parseSize } from '../lib/units.ts'
import type { LogDriver, LogInfo } from './driver.ts'
import { attributeOptions, attributesOf, checkOptions, parseAddress, tagOf, truth, type Options } from './options.ts'
import { RemoteLog } from './remote.ts'
import { Shipper, streamTo } from './ship.ts'

const ACK_WAIT = 30_000

/** Lines to fluentd, in its forward protocol (fluentd, "Forward Protocol Specification v1", message mode). */
export function fluentd(info: LogInfo, options: Options, warn: (message: string, error: unknown) => void): LogDriver {
  checkOptions('fluentd', options, [...attributeOptions, 'fluentd-address', 'fluentd-async', 'fluentd-async-connect', 'fluentd-async-reconnect-interval', 'fluentd-buffer-limit', 'fluentd-max-retries', 'fluentd-retry-wait', 'fluentd-request-ack', 'fluentd-sub-second-precision'])
  const asked = options['fluentd-address'] || 'tcp://127.0.0.1:24224'
  const address = parseAddress(asked.includes('://') ? asked : `tcp://${asked}`, ['tcp', 'tls', 'unix'], 24224, 'fluentd-address')
  const [acknowledged, exact] = [truth(options, 'fluentd-request-ack', false), truth(options, 'fluentd-sub-second-precision', false)]
  const later = truth(options, 'fluentd-async', truth(options, 'fluentd-async-connect', false))
  const retries = options['fluentd-max-retries'] === undefined ? Infinity : Number(options['fluentd-max-retries'])
  if (!(retries >= 0)) throw invalid(`invalid fluentd-max-retries: ${options['fluentd-max-retries']}`)
  const wait = parseDuration(options['fluentd-retry-wait'] ?? '1s')
  if (wait === undefined) throw invalid(`time: invalid duration ${JSON.stringify(options['fluentd-retry-wait'])}`)
  if (options['fluentd-buffer-limit']) parseSize(options['fluentd-buffer-limit'])
  const same = { container_id: info.id, container_name: `/${info.name}`, ...attributesOf(info, options) }
  const tag = tagOf(info, options)
  const { host, port, path, protocol } = address
  const what = protocol === 'unix' ? `unix ${path}` : `${protocol} ${host}:${port}`
  const open = async (): Promise<Socket> => (protocol === 'tls' ? (await import('node:tls')).connect({ host, port, servername: host }) : protocol === 'unix' ? connect(path) : connect({ host, port }))
  const shipper = new Shipper({
    options: { ...(options['fluentd-buffer-limit'] && { 'max-buffer-size': options['fluentd-buffer-limit'] }), ...options }, warn, tries: retries + 1, wait,
    connect: () => streamTo(open, what, acknowledged ? acknowledgement : undefined),
  })
  return new RemoteLog('fluentd', shipper, ({ stream, text, partial, time }) => {
    const at = exact ? eventTime(time) : Number(time / 1_000_000_000n)
    const record = { ...same, source: stream, log: text.toString('utf8'), ...(partial && { partial_message: 'true' }) }
    return Buffer.from(encode([tag, at, record, ...(acknowledged ? [{ chunk: randomBytes(16).toString('base64') }] : [])]))
  }, { later })
}

/** Seconds and nanoseconds (forward protocol, "EventTime Ext Format"). */
function eventTime(time: bigint): ExtData {
  const data = Buffer.alloc(8)
  data.writeUInt32BE(Number(time / 1_000_000_000n), 0)
  data.writeUInt32BE(Number(time % 1_000_000_000n), 4)
  return new ExtData(0, data)
}

/** Waits for the server to say that it has a message. */
async function acknowledgement(socket: Socket): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<Buffer>()
  const timer = setTimeout(() => reject(system('fluentd does not acknowledge')), ACK_WAIT)
  const gone = (): void => reject(system('fluentd has hung up'))
  socket.once('data', resolve)
  socket.once('close', gone)
  try {
    const answer = decode(await promise) as { ack?: string }
    if (!answer.ack) throw system('fluentd does not acknowledge')
  } finally {
    clearTimeout(timer)
    socket.off('data', resolve)
    socket.off('close', gone)
  }
}
