import { randomBytes } from 'node:crypto'
import { connect } from 'node:net'
import { hostname } from 'node:os'
import { deflateSync, gzipSync } from 'node:zlib'
import { invalid } from '../lib/errors.ts'
import type { LogDriver, LogInfo } from './driver.ts'
import { attributeOptions, attributesOf, checkOptions, parseAddress, tagOf, type Options } from './options.ts'
import { RemoteLog } from './remote.ts'
import { Shipper, datagramsTo, streamTo, type Connection } from './ship.ts'

const CHUNK = 1420
const HEADER = 12
const MAX_CHUNKS = 128

/** Lines to a Graylog server (GELF 1.1), by UDP, compressed and in chunks, or by TCP, where a NUL ends each. */
export function gelf(info: LogInfo, options: Options, warn: (message: string, error: unknown) => void): LogDriver {
  checkOptions('gelf', options, [...attributeOptions, 'gelf-address', 'gelf-compression-type', 'gelf-compression-level', 'gelf-tcp-max-reconnect', 'gelf-tcp-reconnect-delay'])
  if (!options['gelf-address']) throw invalid('gelf-address is a required parameter')
  const { protocol, host, port } = parseAddress(options['gelf-address'], ['udp', 'tcp'], 12201, 'gelf-address')
  const udp = protocol === 'udp'
  for (const name of ['gelf-compression-type', 'gelf-compression-level']) if (!udp && options[name] !== undefined) throw invalid(`compression is only supported on UDP`)
  for (const name of ['gelf-tcp-max-reconnect', 'gelf-tcp-reconnect-delay']) if (udp && options[name] !== undefined) throw invalid(`${name} option is only supported for TCP`)
  const number = (name: string, otherwise: number, most: number): number => {
    const value = options[name] === undefined ? otherwise : Number(options[name])
    if (!Number.isInteger(value) || value < (name.endsWith('level') ? -1 : 0) || value > most) throw invalid(`${name} must be a whole number, at most ${most}`)
    return value
  }
  const compress = compressionOf(options['gelf-compression-type'] ?? 'gzip', number('gelf-compression-level', 1, 9))
  const extra = Object.fromEntries(Object.entries(attributesOf(info, options)).map(([name, value]) => [`_${name}`, value]))
  const same = {
    _container_id: info.id, _container_name: info.name, _image_id: info.imageId, _image_name: info.imageName, _command: info.command, _tag: tagOf(info, options), _created: info.created, ...extra,
  }
  const shipper = new Shipper({
    options, warn, tries: number('gelf-tcp-max-reconnect', 3, 1000) + 1, wait: number('gelf-tcp-reconnect-delay', 1, 3600) * 1000,
    connect: async () => (udp ? chunked(await datagramsTo(host, port)) : await streamTo(() => connect({ host, port }), `tcp ${host}:${port}`)),
  })
  return new RemoteLog('gelf', shipper, ({ stream, text, time }) => {
    const message = Buffer.from(JSON.stringify({ version: '1.1', host: hostname(), short_message: text.toString('utf8'), timestamp: Number(time / 1_000_000n) / 1000, level: stream === 'stderr' ? 3 : 6, ...same }))
    return udp ? compress(message) : Buffer.concat([message, Buffer.alloc(1)])
  })
}

function compressionOf(type: string, level: number): (message: Buffer) => Buffer {
  switch (type) {
    case 'gzip': return (message) => gzipSync(message, { level })
    case 'zlib': return (message) => deflateSync(message, { level })
    case 'none': return (message) => message
    default: throw invalid('gelf: invalid compression type')
  }
}

/** Parts a message that a datagram has no room for. */
function chunked(connection: Connection): Connection {
  return {
    async write(message) {
      if (message.length <= CHUNK) return await connection.write(message)
      const size = CHUNK - HEADER
      const count = Math.ceil(message.length / size)
      if (count > MAX_CHUNKS) return // GELF has no words for it
      const id = randomBytes(8)
      for (let at = 0; at < count; at++) await connection.write(Buffer.concat([Buffer.from([0x1e, 0x0f]), id, Buffer.from([at, count]), message.subarray(at * size, (at + 1) * size)]))
    },
    close: () => connection.close(),
  }
}
