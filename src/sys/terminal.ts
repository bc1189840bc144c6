import { must, syscall } from './ffi.ts'
import { nr } from './syscalls.ts'

const TCGETS = 0x5401
const TCSETS = 0x5402
const TIOCSWINSZ = 0x5414

/** The size of a terminal, in characters (ioctl_tty(2)). */
export function setWindowSize(fd: number, rows: number, columns: number): void {
  const size = Buffer.alloc(8)
  size.writeUInt16LE(rows, 0)
  size.writeUInt16LE(columns, 2)
  must('ioctl TIOCSWINSZ', nr('ioctl'), fd, TIOCSWINSZ, size)
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
