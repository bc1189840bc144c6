import { invalid } from '../lib/errors.ts'

/** The tar codec: headers to entries and back, without touching files. Read: ustar, pax (POSIX.1-2001), GNU (long
 * names, base-256 numbers, sparse files of all four kinds). Written: ustar, with a pax header where ustar can't say it.
 * Names and link targets are byte strings: latin1, a character a byte, since tar does not say what encoding they have. */
export const BLOCK = 512

export type EntryType = 'file' | 'directory' | 'symlink' | 'link' | 'char' | 'block' | 'fifo'

export interface Entry {
  type: EntryType
  name: string
  linkName: string
  /** Permission bits, without the type. */
  mode: number
  uid: number
  gid: number
  userName: string
  groupName: string
  /** Bytes of the file's content; with `sparse`, its length including the holes. */
  size: number
  mtime: Time
  major: number
  minor: number
  /** Extended attributes by name. */
  attributes: Map<string, Buffer>
  /** Where the data that follows belongs; the rest is holes. */
  sparse?: { offset: number, length: number }[]
}

/** Seconds since 1970 and nanoseconds. */
export interface Time { seconds: number, nanoseconds: number }

const typeflags: Record<string, EntryType> = { '0': 'file', '\0': 'file', '7': 'file', '5': 'directory', '2': 'symlink', '1': 'link', '3': 'char', '4': 'block', '6': 'fifo', 'S': 'file' }
const flags: Record<EntryType, string> = { file: '0', directory: '5', symlink: '2', link: '1', char: '3', block: '4', fifo: '6' }

const XATTR = 'SCHILY.xattr.'
/** No extended header may be larger: an archive can't make its reader hold more than this at once. */
const MAX_EXTENSION = 1 << 20
const MAX_GLOBALS = 100
/** The largest user or group; the next means "unchanged" to chown(2). */
const MAX_ID = 0xffff_fffe

/** Reads blocks and content from wherever an archive comes from. */
export interface BlockSource {
  /** Exactly `length` bytes, which stay valid until the next call; undefined at the very end. Less is an error. */
  read(length: number): Buffer | undefined
  skip(length: number): void
}

function field(block: Buffer, at: number, length: number): string {
  const end = block.indexOf(0, at)
  return block.toString('latin1', at, end < 0 || end > at + length ? at + length : end)
}

function numeric(block: Buffer, at: number, length: number): number {
  if (block[at]! & 0x80) { // GNU base-256, two's complement
    let value = block[at]! & 0x40 ? -1n : 0n
    value = (value << 6n) | BigInt(block[at]! & 0x3f)
    for (let i = 1; i < length; i++) value = (value << 8n) | BigInt(block[at + i]!)
    if (value > Number.MAX_SAFE_INTEGER || value < Number.MIN_SAFE_INTEGER) throw invalid('archive/tar: a number in a header is too large')
    return Number(value)
  }
  const text = field(block, at, length).trim()
  if (text === '') return 0
  if (!/^[0-7]+$/.test(text)) throw invalid('archive/tar: invalid tar header')
  return parseInt(text, 8)
}

function checksumOf(block: Buffer): number {
  let sum = 8 * 32
  for (let i = 0; i < BLOCK; i++) if (i < 148 || i >= 156) sum += block[i]!
  return sum
}

const padded = (size: number): number => (size + BLOCK - 1) & ~(BLOCK - 1)

/** Reads `size` bytes of an extended header. */
function extension(source: BlockSource, size: number): Buffer {
  if (size > MAX_EXTENSION) throw invalid(`archive/tar: an extended header of ${size} bytes`)
  const data = source.read(paddedSize(size))
  if (!data) throw invalid('archive/tar: unexpected EOF')
  return Buffer.from(data.subarray(0, size))
}

/** A size rounded up to whole blocks, also beyond 2^31. */
export function paddedSize(size: number): number {
  return size < 0x4000_0000 ? padded(size) : Math.ceil(size / BLOCK) * BLOCK
}

/** The records of a pax extended header: `LENGTH KEY=VALUE\n`. Values may hold any byte. */
export function parsePax(data: Buffer): Map<string, Buffer> {
  const records = new Map<string, Buffer>()
  for (let at = 0; at < data.length;) {
    const space = data.indexOf(0x20, at)
    const length = space < 0 ? NaN : Number(data.toString('latin1', at, space))
    const equals = data.indexOf(0x3d, space)
    if (!Number.isInteger(length) || length < 5 || at + length > data.length || equals < 0 || equals >= at + length || data[at + length - 1] !== 0x0a)
      throw invalid('archive/tar: invalid pax header')
    const key = data.toString('utf8', space + 1, equals)
    const value = data.subarray(equals + 1, at + length - 1)
    if (key.startsWith('GNU.sparse.offset') || key.startsWith('GNU.sparse.numbytes')) {
      // format 0.0 repeats its keys: kept as one list
      const map = records.get('GNU.sparse.map')
      records.set('GNU.sparse.map', map ? Buffer.concat([map, Buffer.from(','), value]) : value)
    } else records.set(key, value)
    at += length
  }
  return records
}

function paxTime(value: Buffer): Time {
  const match = /^(-?)(\d+)(?:\.(\d*))?$/.exec(value.toString('latin1'))
  if (!match) throw invalid('archive/tar: invalid pax time')
  const seconds = Math.min(Number(match[2]), Number.MAX_SAFE_INTEGER) // file systems clamp it further
  const nanoseconds = Number((match[3] ?? '').slice(0, 9).padEnd(9, '0'))
  if (!match[1]) return { seconds, nanoseconds }
  return nanoseconds ? { seconds: -seconds - 1, nanoseconds: 1_000_000_000 - nanoseconds } : { seconds: -seconds, nanoseconds: 0 }
}

function paxNumber(value: Buffer): number {
  const number = Number(value.toString('latin1'))
  if (!Number.isSafeInteger(number)) throw invalid('archive/tar: invalid pax number')
  return number
}

function applyPax(entry: Entry, records: Map<string, Buffer>): void {
  for (const [key, value] of records) {
    if (value.length === 0 && !key.startsWith(XATTR)) continue // an empty value takes a global one back
    switch (key) {
      case 'path': entry.name = value.toString('latin1'); break
      case 'linkpath': entry.linkName = value.toString('latin1'); break
      case 'size': entry.size = paxNumber(value); break
      case 'uid': entry.uid = paxNumber(value); break
      case 'gid': entry.gid = paxNumber(value); break
      case 'uname': entry.userName = value.toString('latin1'); break
      case 'gname': entry.groupName = value.toString('latin1'); break
      case 'mtime': entry.mtime = paxTime(value); break
      case 'SCHILY.devmajor': entry.major = paxNumber(value); break
      case 'SCHILY.devminor': entry.minor = paxNumber(value); break
      default: if (key.startsWith(XATTR)) entry.attributes.set(key.slice(XATTR.length), Buffer.from(value))
    }
  }
}

/** An entry and the number of bytes of content that follow it (without padding). */
export interface Next { entry: Entry, stored: number }

/** Reads the next entry, with the extended headers before it; undefined at the end of the archive. The caller must then
 * read or skip `paddedSize(stored)` bytes. */
export function readEntry(source: BlockSource, globals: Map<string, Buffer>): Next | undefined {
  let pax = new Map<string, Buffer>()
  let longName: string | undefined
  let longLink: string | undefined
  for (;;) {
    const read = source.read(BLOCK)
    if (!read) {
      if (pax.size || longName !== undefined) throw invalid('archive/tar: unexpected EOF')
      return undefined
    }
    const block = read
    if (block[0] === 0 && block.every((byte) => byte === 0)) {
      const second = source.read(BLOCK)
      if (second && second.some((byte) => byte !== 0)) throw invalid('archive/tar: invalid tar header')
      return undefined
    }
    const want = numeric(block, 148, 8)
    if (checksumOf(block) !== want) throw invalid('archive/tar: invalid tar header')
    const flag = String.fromCharCode(block[156]!)
    const size = numeric(block, 124, 12)
    if (size < 0) throw invalid('archive/tar: negative size')
    if (flag === 'x' || flag === 'g') {
      const records = parsePax(extension(source, size))
      if (flag === 'x') pax = records
      else {
        for (const [key, value] of records) globals.set(key, value)
        if (globals.size > MAX_GLOBALS) throw invalid(`archive/tar: more than ${MAX_GLOBALS} global headers`)
      }
    } else if (flag === 'L') longName = stripNul(extension(source, size))
    else if (flag === 'K') longLink = stripNul(extension(source, size))
    else return finishEntry(source, Buffer.from(block), flag, size, new Map([...globals, ...pax]), longName, longLink)
  }
}

const stripNul = (data: Buffer): string => {
  const end = data.indexOf(0)
  return data.toString('latin1', 0, end < 0 ? data.length : end)
}

function finishEntry(source: BlockSource, block: Buffer, flag: string, size: number, pax: Map<string, Buffer>, longName?: string, longLink?: string): Next {
  const magic = block.toString('latin1', 257, 265)
  const ustar = magic.startsWith('ustar\0')
  const gnu = magic === 'ustar  \0'
  const prefix = ustar ? field(block, 345, 155) : ''
  const name = field(block, 0, 100)
  const type = typeflags[flag]
  const entry: Entry = {
    type: type ?? 'file', name: longName ?? (prefix ? `${prefix}/${name}` : name), linkName: longLink ?? field(block, 157, 100),
    mode: numeric(block, 100, 8) & 0o7777, uid: numeric(block, 108, 8), gid: numeric(block, 116, 8), size,
    mtime: { seconds: numeric(block, 136, 12), nanoseconds: 0 },
    userName: ustar || gnu ? field(block, 265, 32) : '', groupName: ustar || gnu ? field(block, 297, 32) : '',
    major: ustar || gnu ? numeric(block, 329, 8) : 0, minor: ustar || gnu ? numeric(block, 337, 8) : 0,
    attributes: new Map(),
  }
  applyPax(entry, pax)
  if (!type) throw invalid(`archive/tar: unknown type ${JSON.stringify(flag)} of ${JSON.stringify(entry.name)}`)
  if (entry.name.includes('\0') || entry.linkName.includes('\0')) throw invalid('archive/tar: a NUL byte in a name')
  if (entry.size < 0) throw invalid('archive/tar: negative size')
  for (const number of ['uid', 'gid', 'major', 'minor'] as const) if (entry[number] < 0 || entry[number] > MAX_ID) throw invalid(`archive/tar: ${number} ${entry[number]} is out of range`)
  if (entry.type === 'file' && flag !== '7' && entry.name.endsWith('/') && !gnu && !ustar) entry.type = 'directory' // V7
  let stored = entry.type === 'file' ? entry.size : 0
  if (entry.type !== 'file') {
    if (entry.type === 'link' && entry.size > 0) stored = entry.size // pax allows a link to carry the data
    entry.size = 0
  }
  if (flag === 'S') stored = oldSparse(source, block, entry)
  else if (pax.has('GNU.sparse.major') || pax.has('GNU.sparse.map')) stored = paxSparse(source, pax, entry, stored)
  return { entry, stored }
}

function checkSparse(entry: Entry, stored: number): void {
  if (!Number.isSafeInteger(entry.size)) throw invalid('archive/tar: invalid sparse map')
  let end = 0
  let total = 0
  for (const { offset, length } of entry.sparse ?? []) {
    if (!(offset >= end && length >= 0 && offset + length <= entry.size)) throw invalid('archive/tar: invalid sparse map')
    end = offset + length
    total += length
  }
  if (total !== stored) throw invalid('archive/tar: invalid sparse map')
}

function oldSparse(source: BlockSource, header: Buffer, entry: Entry): number {
  const stored = entry.size
  entry.size = numeric(header, 483, 12)
  entry.sparse = []
  const take = (block: Buffer, at: number, count: number): void => {
    for (let i = 0; i < count; i++, at += 24) {
      if (block[at] === 0) return
      entry.sparse!.push({ offset: numeric(block, at, 12), length: numeric(block, at + 12, 12) })
    }
  }
  take(header, 386, 4)
  let more = header[482] !== 0
  while (more) {
    const block = source.read(BLOCK)
    if (!block) throw invalid('archive/tar: unexpected EOF')
    take(block, 0, 21)
    more = block[504] !== 0
    if (entry.sparse.length > 100_000) throw invalid('archive/tar: invalid sparse map')
  }
  checkSparse(entry, stored)
  return stored
}

function paxSparse(source: BlockSource, pax: Map<string, Buffer>, entry: Entry, stored: number): number {
  const text = (key: string): string | undefined => pax.get(key)?.toString('latin1')
  const name = pax.get('GNU.sparse.name')
  if (name) entry.name = name.toString('latin1')
  let list: number[]
  if (text('GNU.sparse.major') === '1') {
    entry.size = Number(text('GNU.sparse.realsize') ?? entry.size)
    let used = 0
    let buffered = ''
    const line = (): number => {
      while (!buffered.includes('\n')) {
        const block = source.read(BLOCK)
        if (!block || used > MAX_EXTENSION) throw invalid('archive/tar: invalid sparse map')
        used += BLOCK
        buffered += block.toString('latin1')
      }
      const end = buffered.indexOf('\n')
      const number = Number(buffered.slice(0, end))
      buffered = buffered.slice(end + 1)
      if (!Number.isSafeInteger(number)) throw invalid('archive/tar: invalid sparse map')
      return number
    }
    const count = line()
    if (count > 100_000) throw invalid('archive/tar: invalid sparse map')
    list = Array.from({ length: count * 2 }, line)
    stored -= used
  } else {
    entry.size = Number(text('GNU.sparse.size') ?? text('GNU.sparse.realsize') ?? entry.size)
    list = (text('GNU.sparse.map') ?? '').split(',').filter(Boolean).map(Number)
  }
  entry.sparse = []
  for (let i = 0; i + 1 < list.length; i += 2) entry.sparse.push({ offset: list[i]!, length: list[i + 1]! })
  checkSparse(entry, stored)
  return stored
}

const MAX_OCTAL_8 = 0o7777777
const MAX_OCTAL_12 = 0o77777777777

/** The header blocks of an entry; its content, padded to whole blocks, must follow. */
export function encodeEntry(entry: Entry): Buffer {
  const pax: [string, Buffer][] = []
  const bytes = (text: string): Buffer => Buffer.from(text, 'latin1')
  let { name, linkName } = entry
  let prefix = ''
  if (name.length > 100 || !isAscii(name)) {
    const split = isAscii(name) ? splitName(name) : undefined
    if (split) [prefix, name] = split
    else pax.push(['path', bytes(name)])
  }
  if (linkName.length > 100 || !isAscii(linkName)) {
    pax.push(['linkpath', bytes(linkName)])
    linkName = linkName.slice(0, 100)
  }
  const number = (key: string, value: number, most: number): number => {
    if (value >= 0 && value <= most) return value
    pax.push([key, Buffer.from(String(value))])
    return 0
  }
  const uid = number('uid', entry.uid, MAX_OCTAL_8)
  const gid = number('gid', entry.gid, MAX_OCTAL_8)
  const size = number('size', entry.size, MAX_OCTAL_12)
  let seconds = entry.mtime.seconds
  if (entry.mtime.nanoseconds || seconds < 0 || seconds > MAX_OCTAL_12) {
    pax.push(['mtime', Buffer.from(formatTime(entry.mtime))])
    seconds = Math.min(Math.max(seconds, 0), MAX_OCTAL_12)
  }
  for (const [key, value] of [...entry.attributes].sort(([a], [b]) => (a < b ? -1 : 1))) pax.push([XATTR + key, value])
  const main = header({ ...entry, name: isAscii(name) ? name : name.replace(/[^\x20-\x7e]/g, '_'), linkName: linkName.replace(/[^\x01-\x7f]/g, '_'), uid, gid, size, mtime: { seconds, nanoseconds: 0 } }, flags[entry.type], prefix)
  if (pax.length === 0) return main
  const data = Buffer.concat(pax.map(([key, value]) => paxRecord(key, value)))
  const plain: Entry = { ...entry, type: 'file', name: `PaxHeaders.0/${name.replace(/\/$/, '').split('/').at(-1)!.slice(0, 80).replace(/[^\x20-\x7e]/g, '_')}`, linkName: '', mode: 0o644, uid: 0, gid: 0, userName: '', groupName: '', size: data.length, mtime: { seconds: 0, nanoseconds: 0 }, major: 0, minor: 0 }
  return Buffer.concat([header(plain, 'x', ''), data, Buffer.alloc(padded(data.length) - data.length), main])
}

/** The end of an archive: two blocks of zeros. */
export const TRAILER = Buffer.alloc(2 * BLOCK)

function header(entry: Entry, flag: string, prefix: string): Buffer {
  const block = Buffer.alloc(BLOCK)
  const octal = (value: number, at: number, length: number): void => void block.write(value.toString(8).padStart(length - 1, '0'), at, 'latin1')
  block.write(entry.name.slice(0, 100), 0, 'latin1')
  octal(entry.mode & 0o7777, 100, 8)
  octal(entry.uid, 108, 8)
  octal(entry.gid, 116, 8)
  octal(entry.size, 124, 12)
  octal(entry.mtime.seconds, 136, 12)
  block.write(flag, 156, 'latin1')
  block.write(entry.linkName.slice(0, 100), 157, 'latin1')
  block.write('ustar\x0000', 257, 'latin1')
  block.write(entry.userName.slice(0, 32), 265, 'latin1')
  block.write(entry.groupName.slice(0, 32), 297, 'latin1')
  octal(entry.major, 329, 8)
  octal(entry.minor, 337, 8)
  block.write(prefix, 345, 'latin1')
  block.write(checksumOf(block).toString(8).padStart(6, '0') + '\0 ', 148, 'latin1')
  return block
}

function splitName(name: string): [string, string] | undefined {
  if (name.length > 256) return undefined
  for (let at = name.lastIndexOf('/', 155); at > 0; at = name.lastIndexOf('/', at - 1)) {
    const rest = name.slice(at + 1)
    if (rest.length > 100) return undefined
    if (rest.length > 0) return [name.slice(0, at), rest]
  }
  return undefined
}

function isAscii(text: string): boolean {
  return /^[\x20-\x7e]*$/.test(text)
}

function formatTime({ seconds, nanoseconds }: Time): string {
  if (!nanoseconds) return String(seconds)
  const [sign, whole, part] = seconds < 0 ? ['-', -seconds - 1, 1_000_000_000 - nanoseconds] : ['', seconds, nanoseconds]
  return `${sign}${whole}.${String(part).padStart(9, '0').replace(/0+$/, '')}`
}

function paxRecord(key: string, value: Buffer): Buffer {
  const rest = Buffer.concat([Buffer.from(` ${key}=`), value, Buffer.from('\n')])
  let length = rest.length + 1
  while (String(length).length + rest.length !== length) length = String(length).length + rest.length
  return Buffer.concat([Buffer.from(String(length)), rest])
}
