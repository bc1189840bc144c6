import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { TestDaemon } from './daemon.ts'

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
