import assert from 'node:assert/strict'
import { closeSync, existsSync, lstatSync, mkdirSync, mkdtempSync, openSync, readFileSync, readdirSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, beforeEach, test } from 'node:test'
import fc from 'fast-check'
import { isKind } from '../lib/errors.ts'
import { TRAILER, encodeEntry, type Entry } from './tar.ts'
import { DescriptorBytes } from './bytes.ts'
import { unpack, type UnpackOptions, type Unpacked } from './unpack.ts'

const directory = mkdtempSync(join(tmpdir(), 'berth-unpack-'))
const root = join(directory, 'root')
const outside = join(directory, 'outside')
after(() => rmSync(directory, { recursive: true }))
beforeEach(() => {
  for (const path of [root, outside]) rmSync(path, { recursive: true, force: true })
  mkdirSync(root)
  mkdirSync(outside)
  writeFileSync(join(outside, 'victim'), 'intact')
})

const entry = (type: Entry['type'], name: string, more: Partial<Entry> = {}): Entry => ({
  type, name, linkName: '', mode: 0o644, uid: 0, gid: 0, userName: '', groupName: '', size: 0, mtime: { seconds: 1, nanoseconds: 0 }, major: 0, minor: 0, attributes: new Map(), ...more,
})
const file = (name: string, content: string): Buffer => Buffer.concat([encodeEntry(entry('file', name, { size: content.length })), Buffer.from(content.padEnd(Math.ceil(content.length / 512) * 512, '\0'))])
const link = (name: string, to: string): Buffer => encodeEntry(entry('symlink', name, { linkName: to }))
const hard = (name: string, to: string): Buffer => encodeEntry(entry('link', name, { linkName: to }))
const dir = (name: string): Buffer => encodeEntry(entry('directory', name, { mode: 0o755 }))
const archive = (...parts: Buffer[]): Buffer => Buffer.concat([...parts, TRAILER])

/** Writes a header's checksum. */
function sum(block: Buffer): Buffer {
  block.write('        ', 148, 'latin1')
  block.write(`${block.reduce((total, byte) => total + byte, 0).toString(8).padStart(6, '0')}\0 `, 148, 'latin1')
  return block
}

/** The header of an entry of another type. */
function typed(flag: string, size: number): Buffer {
  const block = encodeEntry(entry('file', 'x', { size }))
  block[156] = flag.charCodeAt(0)
  return sum(block)
}

/** Unpacks bytes into the root. */
function put(bytes: Buffer, options: Partial<UnpackOptions> = {}): Unpacked {
  const path = join(directory, 'archive')
  writeFileSync(path, bytes)
  const fds = [openSync(path, 'r'), openSync(root, 'r')] as const
  try {
    return unpack(new DescriptorBytes(fds[0]), fds[1], { whiteouts: 'delete', ...options })
  } finally {
    fds.forEach((fd) => closeSync(fd))
  }
}

/** Nothing outside the root has changed. */
function assertIntact(): void {
  assert.deepEqual(readdirSync(outside), ['victim'])
  assert.equal(readFileSync(join(outside, 'victim'), 'utf8'), 'intact')
  assert.equal(statSync(join(outside, 'victim')).nlink, 1)
  assert.deepEqual(readdirSync(directory).sort(), ['archive', 'outside', 'root'])
}

/** Archives that want out of the root, and what the root may have of them. */
const hostile: Record<string, Buffer> = {
  'a name with ..': archive(file('../outside/victim', 'x'), file('a/../../outside/new', 'x'), dir('../made')),
  'an absolute name': archive(file(join(outside, 'victim'), 'x'), file('//' + join(outside, 'new'), 'x')),
  'a link, and a name behind it': archive(link('way', outside), file('way/victim', 'x'), file('way/new', 'x')),
  'a relative link, and a name behind it': archive(link('way', '../outside'), file('way/new', 'x'), dir('way/made')),
  'a link to a link': archive(link('one', '..'), link('two', 'one/outside'), file('two/new', 'x')),
  'a link in the place of a directory': archive(dir('d'), file('d/a', 'x'), link('d', '../outside'), file('d/new', 'x')),
  'a directory in the place of a link': archive(link('d', '../outside'), dir('d'), file('d/new', 'x')),
  'a file in the place of a link': archive(link('f', '../outside/victim'), file('f', 'x')),
  'a hard link to a file outside': archive(hard('h', '../outside/victim'), file('h', 'x')),
  'a hard link to an absolute name': archive(hard('h', join(outside, 'victim')), file('h', 'x')),
  'a hard link by way of a link': archive(link('way', '../outside'), hard('h', 'way/victim'), file('h', 'x')),
  'a hard link to a link': archive(link('l', '../outside/victim'), hard('h', 'l'), file('h', 'x')),
  'a magic link': archive(link('way', '/proc/self/cwd'), file('way/new', 'x'), link('fd', '/proc/self/fd'), file('fd/9', 'x')),
  'a whiteout of what is outside': archive(file('../outside/.wh.victim', ''), link('way', '../outside'), file('way/.wh.victim', ''), file('way/.wh..wh..opq', '')),
  'an opaque mark on the directory above': archive(file('../.wh..wh..opq', ''), file('../outside/.wh..wh..opq', '')),
  'a whiteout of .. itself': archive(file('.wh...', '')),
  'a whiteout of nothing': archive(file('.wh.', '')),
  'a directory with times and owners, replaced by a link': archive(dir('d'), link('d', '../outside')),
}

for (const [what, bytes] of Object.entries(hostile)) {
  test(`an archive can't lead out: ${what}`, () => {
    for (const whiteouts of ['delete', 'overlay', 'keep'] as const) {
      rmSync(root, { recursive: true })
      mkdirSync(root)
      try {
        put(bytes, { whiteouts })
      } catch (error) {
        assert.ok(isKind(error), String(error))
      }
      assertIntact()
    }
  })
}

test('a tree that has links already leads no archive out of it', () => {
  symlinkSync('../outside', join(root, 'way'))
  symlinkSync(join(outside, 'victim'), join(root, 'file'))
  assert.throws(() => put(archive(file('way/new', 'x'))), (error) => isKind(error))
  put(archive(file('file', 'x')))
  assert.equal(lstatSync(join(root, 'file')).isFile(), true)
  assertIntact()
})

test('a later entry takes the place of an earlier one, whatever both are', () => {
  const makers: Record<string, (name: string) => Buffer> = { file: (name) => file(name, 'x'), symlink: (name) => link(name, 'a'), link: (name) => hard(name, 'a'), directory: (name) => Buffer.concat([dir(name), file(`${name}/child`, 'x')]), fifo: (name) => encodeEntry(entry('fifo', name)) }
  for (const [first, before] of Object.entries(makers)) {
    for (const [second, after] of Object.entries(makers)) {
      rmSync(root, { recursive: true })
      mkdirSync(root)
      put(archive(file('a', 'x'), before('b'), after('b')))
      const status = lstatSync(join(root, 'b'))
      assert.ok({ file: status.isFile(), symlink: status.isSymbolicLink(), link: status.isFile() && status.nlink === 2, directory: status.isDirectory(), fifo: status.isFIFO() }[second], `${second} over ${first}`)
    }
  }
  put(archive(file('self', 'x'), hard('self', './self')))
  assert.equal(readFileSync(join(root, 'self'), 'utf8'), 'x')
})

test('links stay what they are, wherever they lead', () => {
  put(archive(link('abs', '/etc/passwd'), link('up', '../../..'), dir('d'), hard('d/h', 'd/../abs')))
  assert.equal(lstatSync(join(root, 'up')).isSymbolicLink(), true)
  assert.equal(lstatSync(join(root, 'd/h')).isSymbolicLink(), true)
})

test('what is broken is refused in words, and takes no memory', () => {
  const header = encodeEntry(entry('file', 'big', { size: 2 ** 40 }))
  assert.throws(() => put(header), /unexpected EOF/)
  const pax = (records: string): Buffer => {
    const block = typed('x', records.length)
    return Buffer.concat([block, Buffer.from(records.padEnd(Math.ceil(records.length / 512) * 512, '\0'))])
  }
  const record = (key: string, value: string): string => {
    let length = key.length + value.length + 3
    while (String(length).length + key.length + value.length + 3 !== length) length = String(length).length + key.length + value.length + 3
    return `${length} ${key}=${value}\n`
  }
  for (const [key, value] of [
    ['size', '-1'], ['size', 'NaN'], ['size', '99999999999999999999'], ['uid', '-1'], ['uid', '4294967296'], ['gid', 'x'], ['mtime', 'yesterday'], ['path', 'a\0b'],
    ['GNU.sparse.map', '0,x'], ['GNU.sparse.map', 'x,0'], ['GNU.sparse.map', '5,1,0,1'], ['GNU.sparse.size', 'x'], ['SCHILY.devmajor', '-4'],
  ] as const) assert.throws(() => put(archive(pax(record(key, value) + (key === 'GNU.sparse.size' ? record('GNU.sparse.map', '0,0') : '')), file('f', ''))), (error) => isKind(error), `${key}=${value}`)
  put(archive(pax(record('mtime', '9'.repeat(40))), file('late', ''))) // as late as the file system can say
  for (const flag of ['L', 'K', 'x', 'g']) assert.throws(() => put(typed(flag, 2 ** 32)), /an extended header of 4294967296 bytes/)
  const many = Array.from({ length: 101 }, (_header, i) => {
    const text = record(`comment.${i}`, 'x')
    return Buffer.concat([typed('g', text.length), Buffer.from(text.padEnd(512, '\0'))])
  })
  assert.throws(() => put(archive(...many)), /more than 100 global headers/)
  assert.throws(() => put(archive(file('f', 'x')).subarray(0, 700)), /unexpected EOF/)
  assert.throws(() => put(Buffer.from('this is no archive at all'.repeat(100))), /invalid tar header/)
})

test('a name that is too long for the file system is refused, a deep one is not', () => {
  assert.throws(() => put(archive(file('n'.repeat(300), 'x'))), /file name too long/)
  const deep = Array.from({ length: 300 }, () => 'd').join('/')
  put(archive(file(`${deep}/f`, 'x')))
  assert.equal(existsSync(join(root, deep, 'f')), true)
})

test('whatever is damaged in an archive, only errors in words come of it, and nothing gets out', () => {
  const good = Object.values(hostile).map((bytes) => bytes.subarray(0, -TRAILER.length))
  const damage = fc.record({ parts: fc.array(fc.integer({ min: 0, max: good.length - 1 }), { minLength: 1, maxLength: 4 }), flips: fc.array(fc.tuple(fc.nat(), fc.integer({ min: 0, max: 255 })), { maxLength: 8 }), cut: fc.nat(), fix: fc.boolean() })
  fc.assert(fc.property(damage, ({ parts, flips, cut, fix }) => {
    const bytes = Buffer.concat([...parts.map((i) => good[i]!), TRAILER])
    for (const [at, value] of flips) bytes[at % bytes.length] = value
    // with right checksums the damage gets past the first check
    if (fix) for (let at = 0; at + 512 <= bytes.length; at += 512) sum(bytes.subarray(at, at + 512))
    rmSync(root, { recursive: true })
    mkdirSync(root)
    try {
      put(cut % 3 ? bytes : bytes.subarray(0, cut % bytes.length))
    } catch (error) {
      if (!isKind(error)) throw error
    }
    assertIntact()
  }), { numRuns: 400 })
})
