import { closeSync } from 'node:fs'
import { errno, errnoError } from './errno.ts'
import { must, syscall } from './ffi.ts'
import { O_CLOEXEC } from './fs.ts'
import { nr } from './syscalls.ts'

const [AF_UNIX, SOCK_DGRAM, MSG_DONTWAIT] = [1, 2, 0x40]

/** A socket for datagrams to a path (unix(7)): syslog and journald listen to such. */
export class DatagramSocket implements Disposable {
  readonly #fd: number
  readonly #path: string

  /** Throws where nobody listens. */
  constructor(path: string) {
    this.#path = path
    this.#fd = must('open a socket', nr('socket'), AF_UNIX, SOCK_DGRAM | O_CLOEXEC, 0)
    const address = Buffer.alloc(110) // struct sockaddr_un
    address.writeUInt16LE(AF_UNIX, 0)
    address.write(path, 2)
    const result = syscall(nr('connect'), this.#fd, address, 2 + Buffer.byteLength(path) + 1)
    if (result === 0) return
    closeSync(this.#fd)
    throw errnoError(-result, `dial unixgram ${path}`)
  }

  /** Sends a datagram. False where the other side has no room for it now. */
  send(data: Uint8Array): boolean {
    const result = syscall(nr('sendto'), this.#fd, data, data.length, MSG_DONTWAIT, null, 0)
    if (result === -errno.EAGAIN) return false
    if (result < 0) throw errnoError(-result, `send to ${this.#path}`)
    return true
  }

  [Symbol.dispose](): void {
    closeSync(this.#fd)
  }
}
