import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import { mkdirSync, readdirSync, writeFileSync } from 'node:fs'
import { request } from 'node:http'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { setAttribute } from '../src/sys/fs.ts'
import { TRAILER } from '../src/archive/tar.ts'
import { TestDaemon, fileEntry, until } from './daemon.ts'

const daemon = new TestDaemon()
const { ok, refused } = daemon
before(async () => {
  await daemon.start()
  await daemon.importStarter()
})
after(() => daemon[Symbol.asyncDispose]())

/** What `cp SOURCE -` has in it, by name. */
function archived(source: string): string[] {
  const archive = join(daemon.directory, 'copied.tar')
  execFileSync('sh', ['-c', `DOCKER_HOST=unix://${daemon.socket} ${new URL('../bin/berth', import.meta.url).pathname} cp ${source} - > ${archive}`])
  return spawnSync('tar', ['tf', archive], { encoding: 'utf8' }).stdout.split('\n').filter(Boolean)
}

test('a whole tree is copied with its volumes, and without the kernel\'s file systems', () => {
  const bound = join(daemon.directory, 'bound')
  mkdirSync(bound)
  writeFileSync(join(bound, 'file'), 'x')
  ok('run', '-d', '--name', 'whole', '-v', 'filled:/volume', '-v', `${bound}:/bound:ro`, '--tmpfs', '/memory', 'starter', 'sleep', '1000')
  ok('exec', 'whole', 'touch', '/volume/a', '/memory/b')
  const names = archived('whole:/')
  for (const name of ['volume/a', 'bound/file', 'memory/b', 'bin/busybox', 'etc/hosts', 'proc/', 'sys/', 'dev/']) assert.ok(names.includes(name) || names.includes(`./${name}`), name)
  assert.deepEqual(names.filter((name) => /^(\.\/)?(proc|sys|dev)\/./.test(name)), [])
  // asked for by name, they are there
  assert.deepEqual(archived('whole:/proc/version'), ['version'])
  ok('rm', '-f', 'whole')
})

test('an archive that can\'t be read to its end is an error, and no archive of what came before', async () => {
  ok('run', '-d', '--name', 'unreadable', '-v', '/sys/bus/cpu:/driver', 'starter', 'sleep', '1000')
  await assert.rejects(daemon.call('GET', '/containers/unreadable/archive?path=/driver'))
  assert.notEqual(refused('cp', 'unreadable:/driver', '-'), '')
  ok('rm', '-f', 'unreadable')
})

test('looking at a running container does not disturb it', async () => {
  ok('run', '-d', '--name', 'looked', 'starter', 'sleep', '1000')
  ok('exec', 'looked', 'sh', '-c', 'echo new:x:1234:5::/:/bin/sh >> /etc/passwd')
  assert.match(ok('diff', 'looked'), /C \/etc\/passwd/)
  ok('ps', '-s')
  ok('export', '-o', join(daemon.directory, 'exported.tar'), 'looked')
  ok('commit', 'looked', 'committed')
  assert.equal(ok('exec', '-u', 'new', 'looked', 'id', '-u'), '1234') // read from its tree
  ok('cp', 'looked:/etc/group', join(daemon.directory, 'group'))
  ok('exec', 'looked', 'sh', '-c', 'rm /bin/nc && echo changed > /etc/group && mv /bin/wc /bin/moved && cat /etc/group')
  assert.deepEqual(ok('diff', 'looked').split('\n').filter((line) => /bin/.test(line)), ['C /bin', 'A /bin/moved', 'D /bin/nc', 'D /bin/wc'])
  assert.equal(ok('run', '--rm', '-u', 'new', 'committed', 'id', '-u'), '1234')
  ok('rm', '-f', 'looked')
})

test('copies into a container that is started meanwhile are there', async () => {
  const file = join(daemon.directory, 'copied')
  writeFileSync(file, 'x'.repeat(1 << 20))
  for (let round = 0; round < 5; round++) {
    ok('create', '--name', 'raced', 'starter', 'sh', '-c', 'rm /bin/nc; sleep 1000')
    await Promise.all([daemon.cliBeside(['cp', file, 'raced:/copied']), daemon.cliBeside(['start', 'raced']), daemon.cliBeside(['cp', file, 'raced:/again'])])
    assert.equal(ok('exec', 'raced', 'sh', '-c', 'cat /copied /again | wc -c; rm /bin/httpd'), String(2 << 20))
    ok('rm', '-f', 'raced')
  }
})

test('a commit has what was written with the same size and time, and attributes', async () => {
  ok('run', '--name', 'kept', 'starter', 'sh', '-c', 'echo one > /file; touch -d 2001-01-01 /file; mkdir /directory')
  ok('commit', 'kept', 'kept:1')
  ok('run', '--name', 'rewritten', 'kept:1', 'sh', '-c', 'echo two > /file; touch -d 2001-01-01 /file; touch /new; chmod 700 /directory; chmod 755 /directory')
  assert.deepEqual(ok('diff', 'rewritten').split('\n').sort(), ['A /new', 'C /file'])
  ok('commit', 'rewritten', 'kept:2')
  assert.equal(ok('run', '--rm', 'kept:2', 'cat', '/file'), 'two')
  ok('run', '-d', '--name', 'marked', 'kept:2', 'sleep', '1000')
  const root = `/proc/${ok('inspect', '-f', '{{.State.Pid}}', 'marked')}/root`
  for (const path of ['/file', '/directory']) assert.equal(setAttribute(root + path, 'user.mark', Buffer.from('x')), 0)
  assert.deepEqual(ok('diff', 'marked').split('\n').sort(), ['C /directory', 'C /file'])
  ok('rm', '-f', 'kept', 'rewritten', 'marked')
})

test('downloads that are broken off leave nothing open', async () => {
  ok('run', '-d', '--name', 'broken', 'starter', 'sh', '-c', 'dd if=/dev/zero of=/large bs=1M count=64; touch /done; exec sleep 1000')
  await until('the file is there', () => daemon.cli(['exec', 'broken', 'cat', '/done']).code === 0)
  const open = (): number => readdirSync(`/proc/${daemon.pid}/fd`).length
  await daemon.call('GET', '/containers/broken/archive?path=/etc/passwd') // the worker is there
  const before = open()
  await Promise.all(Array.from({ length: 10 }, () => new Promise<void>((resolve, reject) => {
    const asked = request({ socketPath: daemon.socket, path: '/containers/broken/archive?path=/large' }, (response) => response.once('data', () => asked.destroy()).once('error', () => resolve()))
    asked.on('error', reject)
    asked.end()
  })))
  await until('all is closed again', () => open() <= before)
  assert.equal((await daemon.call('GET', '/containers/broken/archive?path=/large')).text.length > 64 << 20, true)
  assert.deepEqual((await daemon.call('GET', '/jobs')).body.filter(({ name }: { name: string }) => name === 'container.copy-out'), [])
  ok('rm', '-f', 'broken')
})

test('copies stay in a container that swaps directories for links meanwhile', { timeout: 60_000 }, async () => {
  const outside = join(daemon.directory, 'outside')
  mkdirSync(outside)
  writeFileSync(join(outside, 'secret'), 'of the host')
  // the way from any root to that directory, should somebody follow a link there
  const away = `/../../../../../../../..${outside}`
  ok('run', '-d', '--name', 'swaps', 'starter', 'sh', '-c', `while :; do mkdir -p /swap; echo inside > /swap/secret; rm -rf /swap; ln -s ${away} /swap; rm /swap; ln -s /proc/1/root${outside} /swap; rm /swap; done`)
  const { body } = await daemon.call('GET', '/containers/swaps/json')
  const planted = Buffer.concat([fileEntry('swap/planted', 'x'), fileEntry('planted', 'x'), TRAILER])
  let seen = 0
  for (let round = 0; round < 150 || seen === 0; round++) {
    const asked = [['GET', '/swap/secret'], ['GET', '/swap/.'], ['PUT', '/'], ['PUT', '/swap'], ['HEAD', '/swap/secret']] as const
    // what goes while it is read is an answer that is cut off
    const answers = await Promise.all(asked.map(([method, path]) => daemon.call(method, `/containers/${body.Id}/archive?path=${path}`, method === 'PUT' ? planted : undefined).catch(() => undefined)))
    for (const answer of answers) assert.ok(!answer?.text.includes('of the host'), 'what is outside was read')
    if (answers[0]?.status === 200) seen++
    assert.deepEqual(readdirSync(outside), ['secret'])
  }
  ok('rm', '-f', 'swaps')
  // nor does one that does not run get out
  ok('run', '--name', 'linked', 'starter', 'sh', '-c', `ln -s ${away} /swap`)
  assert.notEqual((await daemon.call('PUT', '/containers/linked/archive?path=/swap', planted)).status, 200)
  assert.equal((await daemon.call('GET', '/containers/linked/archive?path=/swap/secret')).status, 404)
  assert.deepEqual(readdirSync(outside), ['secret'])
  ok('rm', 'linked')
})
