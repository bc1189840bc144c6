import { createSocket, type Socket as DatagramSocket } from 'node:dgram'
import { connect, createServer, type Server } from 'node:net'
import { readdirSync, readlinkSync } from 'node:fs'
import { codeOf, conflict } from '../../lib/errors.ts'
import { readIfThere } from '../../lib/files.ts'
import { processAt } from '../../sys/process.ts'
import type { Protocol } from '../driver.ts'

const IDLE = 90_000

/** Where the packets of a port go that no rule has forwarded: those to ::1, and of IPv6 where the container has none. */
export interface Target { address: string, port: number }

/** A port of the host that nobody else can have meanwhile. */
export interface Holder { close(): Promise<void> }

/** Holds a port of an address, so that no process can take it, and that one which has it is seen. What comes to the
 * socket itself is passed on by this process. SCTP has no sockets here, and is not held. */
export async function holdPort(protocol: Protocol, host: string, port: number, target: Target): Promise<Holder> {
  try {
    if (protocol === 'tcp') return await holdTcp(host, port, target)
    if (protocol === 'udp') return await holdUdp(host, port, target)
    return { close: () => Promise.resolve() }
  } catch (error) {
    const code = codeOf(error)
    const at = `${host.includes(':') ? `[${host}]` : host}:${port}`
    if (code === 'EADDRINUSE') throw conflict(`failed to bind port ${at}/${protocol}: address already in use${whoHas(protocol, port)}`, error)
    if (code === 'EADDRNOTAVAIL') throw conflict(`failed to bind port ${at}/${protocol}: cannot assign requested address`, error)
    throw error
  }
}

/** The process of this host that has a port, in words; nothing where none is found. */
function whoHas(protocol: Protocol, port: number): string {
  const hex = port.toString(16).toUpperCase().padStart(4, '0')
  for (const file of [protocol, `${protocol}6`]) {
    for (const line of (readIfThere(`/proc/net/${file}`) ?? '').split('\n').slice(1)) {
      const [, local = '', , state, , , , , , inode] = line.trim().split(/\s+/)
      if (!local.endsWith(`:${hex}`) || protocol === 'tcp' && state !== '0A') continue // proc_net(5): 0A listens
      const pid = readdirSync('/proc').find((name) => /^\d+$/.test(name) && hasSocket(name, inode))
      if (pid) return ` (by process ${pid}, ${processAt(Number(pid))?.name})`
    }
  }
  return ''
}

function hasSocket(pid: string, inode: string | undefined): boolean {
  try {
    return readdirSync(`/proc/${pid}/fd`).some((fd) => readlinkSync(`/proc/${pid}/fd/${fd}`) === `socket:[${inode}]`)
  } catch {
    return false // it has ended, or closed the descriptor meanwhile
  }
}

async function holdTcp(host: string, port: number, target: Target): Promise<Holder> {
  const server: Server = createServer({ allowHalfOpen: true }, (client) => {
    const upstream = connect({ host: target.address, port: target.port, allowHalfOpen: true })
    client.pipe(upstream).pipe(client)
    for (const [one, other] of [[client, upstream], [upstream, client]] as const) one.on('error', () => other.destroy()).on('close', () => other.destroy())
  })
  await new Promise<void>((resolve, reject) => server.once('error', reject).listen({ host, port, exclusive: true, ipv6Only: host.includes(':') }, () => resolve(void server.off('error', reject))))
  server.unref()
  return { close: () => new Promise((resolve) => server.close(() => resolve())) }
}

async function holdUdp(host: string, port: number, target: Target): Promise<Holder> {
  const ipv6 = host.includes(':')
  const socket: DatagramSocket = createSocket({ type: ipv6 ? 'udp6' : 'udp4', ipv6Only: ipv6 })
  const flows = new Map<string, { upstream: DatagramSocket, timer: NodeJS.Timeout }>()
  await new Promise<void>((resolve, reject) => socket.once('error', reject).bind({ address: host, port, exclusive: true }, () => resolve(void socket.off('error', reject))))
  socket.on('error', () => {}) // an answer that can't be sent: the client sees none, as with any lost datagram
  socket.on('message', (message, from) => {
    const key = `${from.address} ${from.port}`
    let flow = flows.get(key)
    if (!flow) {
      const upstream = createSocket(target.address.includes(':') ? 'udp6' : 'udp4')
      upstream.on('message', (answer) => socket.send(answer, from.port, from.address)).on('error', () => {}) // nobody listens there: likewise
      flow = { upstream, timer: setTimeout(() => {
        flows.delete(key)
        upstream.close()
      }, IDLE).unref() }
      flows.set(key, flow)
    }
    flow.timer.refresh()
    flow.upstream.send(message, target.port, target.address)
  })
  socket.unref()
  return { close: () => new Promise((resolve) => {
    for (const { upstream, timer } of flows.values()) {
      clearTimeout(timer)
      upstream.close()
    }
    socket.close(() => resolve())
  }) }
}
