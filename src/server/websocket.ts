import { createHash } from 'node:crypto'
import { Duplex } from 'node:stream'
import { invalid } from '../lib/errors.ts'
import type { Call } from './router.ts'

const GUID = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11'
const OPCODE = { continuation: 0, text: 1, binary: 2, close: 8, ping: 9, pong: 10 } as const
const MAX_MESSAGE = 1 << 20

/** Answers a WebSocket handshake (RFC 6455) and returns the connection as a stream of bytes: what arrives in messages,
 * and binary messages of what is written. */
export function acceptWebSocket(call: Call): Duplex {
  const key = call.request.headers['sec-websocket-key']
  if (!call.upgrade || !key) throw invalid('this endpoint speaks WebSocket: the request has no upgrade')
  const accept = createHash('sha1').update(key + GUID).digest('base64')
  const protocol = call.request.headers['sec-websocket-protocol']
  const socket = call.takeSocket()
  socket.write(`HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${accept}\r\n${protocol ? `Sec-WebSocket-Protocol: ${protocol.split(',')[0]!.trim()}\r\n` : ''}\r\n`)
  return new WebSocketStream(socket)
}

/** A frame of the server's, which is never masked. */
export function encodeWebSocketFrame(opcode: number, data: Uint8Array): Buffer {
  const length = data.length
  const head = length < 126 ? Buffer.alloc(2) : length < 65_536 ? Buffer.alloc(4) : Buffer.alloc(10)
  head[0] = 0x80 | opcode
  if (length < 126) head[1] = length
  else if (length < 65_536) {
    head[1] = 126
    head.writeUInt16BE(length, 2)
  } else {
    head[1] = 127
    head.writeBigUInt64BE(BigInt(length), 2)
  }
  return Buffer.concat([head, data])
}

class WebSocketStream extends Duplex {
  readonly #socket: Duplex
  #rest: Buffer = Buffer.alloc(0)

  constructor(socket: Duplex) {
    super({ allowHalfOpen: true })
    this.#socket = socket
    socket.on('data', (chunk: Buffer) => this.#take(chunk))
    socket.on('end', () => this.push(null))
    socket.on('close', () => this.destroy())
    socket.on('error', () => this.destroy())
  }

  #take(chunk: Buffer): void {
    this.#rest = this.#rest.length ? Buffer.concat([this.#rest, chunk]) : chunk
    for (;;) {
      const frame = this.#next()
      if (!frame) return
      if (frame.opcode === OPCODE.close) {
        this.#socket.end(encodeWebSocketFrame(OPCODE.close, frame.data.subarray(0, 2)))
        this.push(null)
      } else if (frame.opcode === OPCODE.ping) this.#socket.write(encodeWebSocketFrame(OPCODE.pong, frame.data))
      else if (frame.opcode !== OPCODE.pong && !this.push(frame.data)) this.#socket.pause()
    }
  }

  #next(): { opcode: number, data: Buffer } | undefined {
    const data = this.#rest
    if (data.length < 2) return undefined
    let length = data[1]! & 0x7f
    let at = 2
    if (length === 126) {
      if (data.length < 4) return undefined
      length = data.readUInt16BE(2)
      at = 4
    } else if (length === 127) {
      if (data.length < 10) return undefined
      length = Number(data.readBigUInt64BE(2))
      at = 10
    }
    if (length > MAX_MESSAGE || !(data[1]! & 0x80)) {
      this.#socket.end(encodeWebSocketFrame(OPCODE.close, Buffer.from([0x03, length > MAX_MESSAGE ? 0xf1 : 0xea]))) // 1009, 1002
      this.destroy()
      return undefined
    }
    if (data.length < at + 4 + length) return undefined
    const mask = data.subarray(at, at + 4)
    const payload = Buffer.from(data.subarray(at + 4, at + 4 + length))
    for (let i = 0; i < payload.length; i++) payload[i]! ^= mask[i & 3]!
    this.#rest = data.subarray(at + 4 + length)
    return { opcode: data[0]! & 0x0f, data: payload }
  }

  override _read(): void {
    this.#socket.resume()
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, callback: () => void): void {
    if (this.#socket.write(encodeWebSocketFrame(OPCODE.binary, chunk))) callback()
    else this.#socket.once('drain', callback)
  }

  override _final(callback: () => void): void {
    this.#socket.end(encodeWebSocketFrame(OPCODE.close, Buffer.from([0x03, 0xe8])))
    callback()
  }

  override _destroy(error: Error | null, callback: (error: Error | null) => void): void {
    this.#socket.destroy()
    callback(error)
  }
}
