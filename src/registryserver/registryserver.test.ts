import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Access } from './access.ts'
import { RateLimit, parseRate } from './limits.ts'

test('a rate lets so many through, says how many are left, and when to come again', () => {
  const limit = new RateLimit(parseRate('3/6h'))
  const headers = [1, 2, 3].map(() => limit.take('a', 0)['RateLimit-Remaining'])
  assert.deepEqual(headers, ['2;w=21600', '1;w=21600', '0;w=21600'])
  assert.throws(() => limit.take('a', 0), (error: Error) => JSON.stringify(error.cause).includes('"Retry-After":"7200"'))
  assert.equal(limit.take('b', 0)['RateLimit-Limit'], '3;w=21600')
  limit.take('a', 2 * 3600_000)
  for (const text of ['3', '0/s', '3/x', '/s', '-1/s']) assert.throws(() => parseRate(text), /invalid rate/)
})

test('the first rule that names person and repository decides', () => {
  const access = new Access({ rules: [
    { users: ['alice'], repositories: ['team/**'], actions: ['pull', 'push', 'delete'] }, { users: ['*'], repositories: ['team/secret'], actions: [] }, { users: ['*', 'anonymous'], repositories: ['*', 'team/*'], actions: ['pull'] },
  ] })
  const may = (name: string, repository: string, action: 'pull' | 'push' | 'delete'): boolean => access.allows({ name }, { repository, action })
  assert.ok(may('alice', 'team/a/b', 'delete') && may('alice', 'team/secret', 'push'))
  assert.ok(!may('bob', 'team/secret', 'pull') && may('bob', 'team/x', 'pull') && !may('bob', 'team/x', 'push') && !may('bob', 'team/a/b', 'pull'))
  assert.ok(may('', 'library', 'pull') && may('', 'team/x', 'pull') && !may('', 'other/x', 'pull'))
})

test('a token grants what it says, and no more', () => {
  const access = new Access({ authenticator: { identify: () => Promise.resolve({ name: '' }), challenge: () => '' } })
  const identity = { name: '', grants: [{ type: 'repository', name: 'a', actions: ['pull'] }, { type: 'repository', name: 'b', actions: ['*'] }] }
  assert.ok(access.allows(identity, { repository: 'a', action: 'pull' }) && !access.allows(identity, { repository: 'a', action: 'push' }))
  assert.ok(access.allows(identity, { repository: 'b', action: 'delete' }) && !access.allows(identity, { repository: 'c', action: 'pull' }) && !access.allows(identity, 'catalog'))
})
