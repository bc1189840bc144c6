import assert from 'node:assert/strict'
import { test } from 'node:test'
import { resolveUser } from './user.ts'

const passwd = 'root:x:0:0:root:/root:/bin/sh\nbob:x:1000:1000:Bob:/home/bob:/bin/sh\n2000:x:0:0:trap:/trap:/bin/sh\nbroken\nword:x:one:two::/:\n'
const group = 'root:x:0:\nbob:x:1000:\nwheel:x:10:bob,2000\n3000:x:0:\n'
const resolve = (spec: string, more: string[] = []) => resolveUser(spec, passwd, group, more)

test('a user comes by name or number, with its groups and home', () => {
  assert.deepEqual(resolve(''), { uid: 0, gid: 0, groups: [0], home: '/root' })
  assert.deepEqual(resolve('bob'), { uid: 1000, gid: 1000, groups: [1000, 10], home: '/home/bob' })
  assert.deepEqual(resolve('1000'), { uid: 1000, gid: 1000, groups: [1000, 10], home: '/home/bob' })
  assert.deepEqual(resolve('4000'), { uid: 4000, gid: 0, groups: [0], home: '/' })
})

test('a group of its own takes the others away, but for those that are asked for', () => {
  assert.deepEqual(resolve('bob:root'), { uid: 1000, gid: 0, groups: [0], home: '/home/bob' })
  assert.deepEqual(resolve('bob:77', ['wheel', '88']), { uid: 1000, gid: 77, groups: [77, 10, 88], home: '/home/bob' })
})

test('a number is never looked up as a name (CVE-2016-3697)', () => {
  assert.equal(resolve('2000').uid, 2000)
  assert.equal(resolve('bob:3000').gid, 3000)
})

test('who there is not is refused by name', () => {
  assert.throws(() => resolve('eve'), /unable to find user eve: no matching entries in passwd file/)
  assert.throws(() => resolve('word'), /unable to find user word/)
  assert.throws(() => resolve('bob:eve'), /unable to find group eve: no matching entries in group file/)
  assert.throws(() => resolve('4294967295'), /uids and gids must be in range 0-2147483647/)
  assert.deepEqual(resolveUser('1000:7', undefined, undefined, []), { uid: 1000, gid: 7, groups: [7], home: '/' })
})
