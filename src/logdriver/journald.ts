import { existsSync } from 'node:fs'
import { unsupported } from '../lib/errors.ts'
import { shortId } from '../lib/ids.ts'
import type { LogDriver, LogInfo } from './driver.ts'
import { attributeOptions, attributesOf, checkOptions, tagOf, type Options } from './options.ts'
import { RemoteLog } from './remote.ts'
import { Shipper, unixDatagramsTo } from './ship.ts'

const SOCKET = '/run/systemd/journal/socket'

/** Lines to systemd's journal, in its native protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL). */
export function journald(info: LogInfo, options: Options, warn: (message: string, error: unknown) => void): LogDriver {
  checkOptions('journald', options, attributeOptions)
  const tag = tagOf(info, options)
  const fields = {
    CONTAINER_ID: shortId(info.id), CONTAINER_ID_FULL: info.id, CONTAINER_NAME: info.name, CONTAINER_TAG: tag, IMAGE_NAME: info.imageName, SYSLOG_IDENTIFIER: tag,
    ...Object.fromEntries(Object.entries(attributesOf(info, options)).map(([name, value]) => [name.toUpperCase().replace(/[^A-Z0-9]/g, '_').replace(/^_+/, ''), value])),
  }
  const same = Buffer.concat(Object.entries(fields).filter(([name]) => name).map(([name, value]) => field(name, Buffer.from(value))))
  return new RemoteLog('journald', new Shipper({ options, warn, async connect() {
    if (!existsSync(SOCKET)) throw unsupported('journald is not enabled on this host')
    return await unixDatagramsTo(SOCKET)
  } }), ({ stream, text, partial, time }) => Buffer.concat([
    field('MESSAGE', text), Buffer.from(`PRIORITY=${stream === 'stderr' ? 3 : 6}\nSYSLOG_TIMESTAMP=${time / 1000n}\n${partial ? 'CONTAINER_PARTIAL_MESSAGE=true\n' : ''}`), same,
  ]))
}

/** A field; one whose value has a newline is given its length. */
function field(name: string, value: Buffer): Buffer {
  if (!value.includes(10)) return Buffer.concat([Buffer.from(`${name}=`), value, Buffer.from('\n')])
  const length = Buffer.alloc(8)
  length.writeBigUInt64LE(BigInt(value.length))
  return Buffer.concat([Buffer.from(`${name}\n`), length, value, Buffer.from('\n')])
}
