import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { closeSync, openSync, readdirSync, rmSync, statfsSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { TestDaemon, until } from './daemon.ts'

/** A daemon whose data root is a file system of 24 MB. */
const daemon = new TestDaemon()
const { ok, refused } = daemon
const data = join(daemon.directory, 'data')
const ballast = join(data, 'ballast')
before(async () => {
  execFileSync('sh', ['-c', `mkdir ${data} && mount -t tmpfs -o size=24m full ${data}`])
  await daemon.start()
  await daemon.importStarter()
})
after(async () => {
  await daemon.stop()
  execFileSync('umount', [data])
  await daemon[Symbol.asyncDispose]()
})

/** Fills the file system to its last block. */
function fill(): void {
  const fd = openSync(ballast, 'a')
  try {
    for (const size of [1 << 20, 4096]) for (;;) writeAll(fd, size)
  } catch (error) {
    assert.equal((error as NodeJS.ErrnoException).code, 'ENOSPC')
  } finally {
    closeSync(fd)
  }
  assert.equal(statfsSync(data).bavail, 0)
}
function writeAll(fd: number, size: number): void {
  if (writeSync(fd, Buffer.alloc(size, 1)) < size) writeSync(fd, Buffer.alloc(1, 1))
}

const layers = (): number => readdirSync(join(data, 'overlay')).filter((name) => name !== 'l').length

test('on a full disk nothing new begins, what runs goes on, and what is removed makes room', async () => {
  ok('run', '-d', '--name', 'lives', '-v', 'kept:/v', 'starter', 'sh', '-c', 'while :; do echo a line; sleep 0.01; done')
  ok('create', '--name', 'waits', 'starter', 'sh', '-c', 'exit 4')
  ok('exec', 'lives', 'sh', '-c', 'echo x > /file')
  const had = layers()
  fill()
  assert.match(refused('commit', 'lives', 'made'), /no space left on device/)
  assert.equal(ok('inspect', '-f', '{{.State.Status}}', 'lives'), 'running') // it was paused for the commit
  fill() // what was kept for changes was given up for that
  assert.match(refused('run', 'starter', 'true'), /no space left on device/)
  assert.match(refused('cp', '/bin/busybox', 'lives:/copied'), /no space left on device/)
  assert.match(daemon.cli(['exec', 'lives', 'sh', '-c', 'echo x > /v/file']).err, /No space left on device/i)
  assert.equal(ok('ps', '-q', '--filter', 'name=lives').length > 0, true)
  await until('nothing of it is left', () => layers() === had)
  // who runs it must still be able to clean up, also after a crash
  await daemon.stop('SIGKILL')
  fill()
  await daemon.start()
  assert.equal(ok('inspect', '-f', '{{.State.Status}}', 'lives'), 'running')
  ok('rename', 'lives', 'renamed')
  ok('stop', '-t', '0', 'renamed')
  assert.equal(ok('inspect', '-f', '{{.State.Status}} {{.State.ExitCode}}', 'renamed'), 'exited 137')
  ok('rm', '-v', 'renamed')
  ok('volume', 'rm', 'kept')
  rmSync(ballast)
  assert.equal(daemon.cli(['start', '-a', 'waits']).code, 4)
  assert.equal(ok('run', '--rm', 'starter', 'echo', 'again'), 'again')
  assert.equal(ok('commit', 'waits', 'made').slice(0, 7), 'sha256:')
  ok('rm', 'waits')
})
