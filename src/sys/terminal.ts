import { closeSync } from 'node:fs'
import { invalid } from '../lib/errors.ts'
import { addressOf, must, syscall } from './ffi.ts'
import { nr } from './syscalls.ts'

const TCGETS = 0x5401
const TCSETS = 0x5402
export const TIOCSWINSZ = 0x5414
export const TIOCSPTLCK = 0x40045431
export const TIOCGPTPEER = 0x5441

/** A terminal's size in characters, as `struct winsize` (ioctl_tty(2)). */
export function windowSize(rows: number, columns: number): Buffer {
  const size = Buffer.alloc(8)
  size.writeUInt16LE(rows, 0)
  size.writeUInt16LE(columns, 2)
  return size
}

export function setWindowSize(fd: number, rows: number, columns: number): void {
  must('ioctl TIOCSWINSZ', nr('ioctl'), fd, TIOCSWINSZ, windowSize(rows, columns))
}

/** Makes a terminal pass every byte as it is, in both directions, as cfmakeraw(3) does; Node's own raw mode goes on
 * turning line feeds into pairs. What it returns puts the terminal back. */
export function makeRaw(fd: number): () => void {
  const before = Buffer.alloc(64)
  must('ioctl TCGETS', nr('ioctl'), fd, TCGETS, before)
  const raw = Buffer.from(before)
  const change = (offset: number, clear: number, set = 0): void => void raw.writeUInt32LE((raw.readUInt32LE(offset) & ~clear | set) >>> 0, offset)
  change(0, 0o2753) // c_iflag: IGNBRK BRKINT PARMRK ISTRIP INLCR IGNCR ICRNL IXON
  change(4, 0o1) // c_oflag: OPOST
  change(8, 0o460, 0o60) // c_cflag: CSIZE PARENB; CS8
  change(12, 0o100113) // c_lflag: ECHO ECHONL ICANON ISIG IEXTEN
  must('ioctl TCSETS', nr('ioctl'), fd, TCSETS, raw)
  return () => void syscall(nr('ioctl'), fd, TCSETS, before)
}

/** Sends a descriptor over the stream socket at a path (unix(7), SCM_RIGHTS), as an OCI runtime sends a terminal. */
export function sendDescriptor(path: string, fd: number): void {
  const [AF_UNIX, SOCK_STREAM, SOL_SOCKET, SCM_RIGHTS] = [1, 1, 1, 1]
  if (Buffer.byteLength(path) > 107) throw invalid(`the socket's path is too long: ${path}`)
  const address = Buffer.alloc(110)
  address.writeUInt16LE(AF_UNIX, 0)
  address.write(path, 2)
  const control = Buffer.alloc(24) // struct cmsghdr and an int, padded
  control.writeBigUInt64LE(20n, 0)
  control.writeInt32LE(SOL_SOCKET, 8)
  control.writeInt32LE(SCM_RIGHTS, 12)
  control.writeInt32LE(fd, 16)
  const name = Buffer.from('terminal')
  const vector = Buffer.alloc(16) // struct iovec
  const message = Buffer.alloc(56) // struct msghdr
  vector.writeBigUInt64LE(addressOf(name), 0)
  vector.writeBigUInt64LE(BigInt(name.length), 8)
  message.writeBigUInt64LE(addressOf(vector), 16)
  message.writeBigUInt64LE(1n, 24)
  message.writeBigUInt64LE(addressOf(control), 32)
  message.writeBigUInt64LE(BigInt(control.length), 40)
  const socket = must('socket', nr('socket'), AF_UNIX, SOCK_STREAM, 0)
  try {
    must(`connect to ${path}`, nr('connect'), socket, address, 2 + Buffer.byteLength(path) + 1)
    must(`send to ${path}`, nr('sendmsg'), socket, message, 0)
  } finally {
    closeSync(socket)
  }
}
