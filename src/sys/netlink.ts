import { closeSync } from 'node:fs'
import { parseAttributes, parseMessages, errorOf, textOf, NLMSG, type Message } from '../netlink/message.ts'
import { errno, errnoError } from './errno.ts'
import { must, syscall } from './ffi.ts'
import { O_CLOEXEC } from './fs.ts'
import { nr } from './syscalls.ts'

const [AF_NETLINK, SOCK_RAW, SOL_SOCKET, SO_SNDBUFFORCE, SO_RCVBUFFORCE, SOL_NETLINK, NETLINK_CAP_ACK, NETLINK_EXT_ACK, MSG_DONTWAIT] = [16, 3, 1, 32, 33, 270, 10, 11, 0x40]
export const protocols = { route: 0, xfrm: 6, netfilter: 12 } as const

/** A netlink socket (netlink(7)) in this thread's network namespace. The kernel answers before a send returns, so
 * requests are plain calls; what makes it wait belongs into a program of the zygote's. */
export class NetlinkSocket implements Disposable {
  readonly #fd: number
  readonly #buffer = Buffer.allocUnsafe(1 << 16)

  constructor(protocol: keyof typeof protocols) {
    this.#fd = must('open a netlink socket', nr('socket'), AF_NETLINK, SOCK_RAW | O_CLOEXEC, protocols[protocol])
    const set = (level: number, name: number, value: number): void => {
      const word = Buffer.alloc(4)
      word.writeInt32LE(value)
      must('set up a netlink socket', nr('setsockopt'), this.#fd, level, name, word, 4)
    }
    set(SOL_NETLINK, NETLINK_CAP_ACK, 1)
    set(SOL_NETLINK, NETLINK_EXT_ACK, 1)
    for (const name of [SO_SNDBUFFORCE, SO_RCVBUFFORCE]) set(SOL_SOCKET, name, 8 << 20)
  }

  /** Sends requests, and returns what comes back but acknowledgements. Throws the first error, named by `doing`. */
  request(doing: string, bytes: Buffer): Message[] {
    const sent = syscall(nr('sendto'), this.#fd, bytes, bytes.length, 0, null, 0)
    if (sent < 0) throw errnoError(-sent, doing)
    const answers: Message[] = []
    let failed: Error | undefined
    for (;;) {
      const length = syscall(nr('recvfrom'), this.#fd, this.#buffer, this.#buffer.length, MSG_DONTWAIT, null, null)
      if (length === -errno.EAGAIN) break
      if (length < 0) throw errnoError(-length, doing)
      for (const message of parseMessages(Buffer.from(this.#buffer.subarray(0, length)))) {
        if (message.type === NLMSG.ERROR) failed ??= errorIn(message, doing)
        else answers.push(message)
      }
    }
    if (failed) throw failed
    return answers
  }

  [Symbol.dispose](): void {
    closeSync(this.#fd)
  }
}

/** The error that a message has, with the kernel's own words where it says some. */
function errorIn({ body, flags }: Message, doing: string): Error | undefined {
  const number = errorOf(body)
  if (number === 0) return undefined
  const [ACK_TLVS, MESSAGE] = [0x200, 1]
  const words = flags & ACK_TLVS ? textOf(parseAttributes(body, 20).get(MESSAGE)) : undefined
  return errnoError(number, words ? `${doing}: ${words}` : doing)
}
