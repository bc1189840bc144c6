import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { BLOCK, encodeEntry, readEntry, type BlockSource, type Entry } from './tar.ts'

function sourceOf(data: Buffer): BlockSource {
  let at = 0
  return {
    read(length) {
      if (at >= data.length) return undefined
      at += length
      return data.subarray(at - length, at)
    },
    skip(length) {
      at += length
    },
  }
}

const name = fc.string({ unit: fc.integer({ min: 1, max: 255 }).map((code) => String.fromCharCode(code)), minLength: 1, maxLength: 400 })

test('every entry that is written is read again unchanged', () => {
  fc.assert(fc.property(name, name, fc.integer({ min: 0, max: 2 ** 32 - 2 }), fc.integer({ min: -(2 ** 40), max: 2 ** 40 }), fc.integer({ min: 0, max: 999_999_999 }), (path, linkName, uid, seconds, nanoseconds) => {
    const entry: Entry = {
      type: 'symlink', name: path, linkName, mode: 0o4755, uid, gid: uid, userName: '', groupName: '', size: 0, mtime: { seconds, nanoseconds }, major: 0, minor: 0,
      attributes: new Map([['user.x', Buffer.from([0, 10, 61, 255])]]),
    }
    assert.deepEqual(readEntry(sourceOf(encodeEntry(entry)), new Map())?.entry, entry)
  }))
})

test('a damaged header is an error, not an entry', () => {
  assert.throws(() => readEntry(sourceOf(Buffer.alloc(BLOCK, 65)), new Map()), /invalid tar header/)
})
