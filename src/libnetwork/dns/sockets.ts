import { RESOLVER_TCP_FD, RESOLVER_UDP_FD, resolverRules, resolverSocketAddress } from '../../libcontainer/network.ts'
import { errno } from '../../sys/errno.ts'
import { must, syscall } from '../../sys/ffi.ts'
import { O_CLOEXEC, takeDescriptor } from '../../sys/fs.ts'
import { NetlinkSocket } from '../../sys/netlink.ts'
import { inNetworkOf } from '../../sys/namespace.ts'
import { nr } from '../../sys/syscalls.ts'

/** The sockets of a sandbox's name server. */
export interface ResolverSockets { udp: number, tcp: number }

/** Those that a monitor has held since the sandbox began; undefined where it has none. */
export function takeResolver(monitorPid: number): ResolverSockets | undefined {
  try {
    return { udp: takeDescriptor(monitorPid, RESOLVER_UDP_FD), tcp: takeDescriptor(monitorPid, RESOLVER_TCP_FD) }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).errno === errno.EBADF) return undefined
    throw error
  }
}

/** New ones in the network namespace of a process that runs. */
export function openResolver(pid: number): ResolverSockets {
  const [AF_INET, SOCK_STREAM, SOCK_DGRAM] = [2, 1, 2]
  return inNetworkOf(pid, () => {
    const open = (type: number): number => {
      const fd = must('open the name server', nr('socket'), AF_INET, type | O_CLOEXEC, 0)
      const address = resolverSocketAddress()
      must('bind the name server', nr('bind'), fd, address, address.length)
      if (type === SOCK_STREAM) syscall(nr('listen'), fd, 128)
      return fd
    }
    const sockets = { udp: open(SOCK_DGRAM), tcp: open(SOCK_STREAM) }
    using rules = new NetlinkSocket('netfilter')
    rules.request('send queries to the name server', resolverRules())
    return sockets
  })
}
