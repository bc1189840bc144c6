import assert from 'node:assert/strict'
import { spawn, spawnSync, type ChildProcess } from 'node:child_process'
import { existsSync, mkdirSync, renameSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { TestDaemon } from './daemon.ts'

const daemon = new TestDaemon()
before(async () => {
  await daemon.start()
  await daemon.importStarter()
  await daemon.stop()
})
after(() => daemon[Symbol.asyncDispose]())

const at = (name: string): string => join(daemon.directory, name)
const own = ['--data-root', at('data'), '--exec-root', at('run'), '-p', at('pid')]

/** A daemon that is not to start: its exit code and what it says. */
function refused(...flags: string[]): { code: number, err: string } {
  const { code, err } = daemon.cli(['daemon', ...own, ...flags])
  return { code, err }
}

function config(value: unknown): string {
  writeFileSync(at('config.json'), typeof value === 'string' ? value : JSON.stringify(value))
  return at('config.json')
}

test('a flag or key that there is not, or that is given twice, is an error that names it', () => {
  const cases: [string[], RegExp][] = [
    [['--nope'], /--nope/], [['-s', 'nope'], /nope/], [['--exec-driver', 'nope'], /execdriver "nope" is not known/], [['-H', 'http://x'], /invalid address "http:\/\/x"/], [['-l', 'loud'], /loud/],
    [['--config-file', '/does/not/exist'], /\/does\/not\/exist/], [['--config-file', config('{')], /unable to configure the daemon with file .*config.json/],
  ]
  for (const [flags, message] of cases) {
    const { code, err } = refused(...flags)
    assert.equal(code, 1, flags.join(' '))
    assert.match(err, message)
  }
  assert.match(refused('--config-file', config({ nope: 1 })).err, /don't match any configuration option: nope/)
  assert.match(refused('--label', 'a=b', '--config-file', config({ labels: ['c=d'] })).err, /specified both as a flag and in the configuration file: labels/)
  assert.match(refused('--config-file', config({ debug: 'yes' })).err, /debug/)
  assert.match(refused('--config-file', config({ hosts: 'unix:///x' })).err, /hosts/)
  assert.match(refused('--config-file', config('{"debug": true, "debug": false}')).err, /debug.*twice|twice.*debug/)
  assert.match(refused('--config-file', config('[]')).err, /config.json/)
})

test('the configuration file has the keys of the flags', async () => {
  const file = config({ hosts: [`unix://${daemon.socket}`, `unix://${at('second.sock')}`], 'data-root': at('data'), 'exec-root': at('run'), pidfile: at('pid'), labels: ['a=b', 'c=d'], debug: true, 'storage-driver': 'overlay2' })
  const child = spawn(new URL('../bin/berth', import.meta.url).pathname, ['daemon', '--config-file', file], { stdio: 'ignore' })
  try {
    await answers(daemon)
    const { body } = await daemon.call('GET', '/info')
    assert.deepEqual(body.Labels, ['a=b', 'c=d'])
    assert.equal(body.Debug, true)
    assert.ok(existsSync(at('second.sock')))
  } finally {
    await ended(child)
  }
  assert.equal(existsSync(at('pid')), false)
})

async function answers(of: TestDaemon): Promise<void> {
  for (let tries = 0; tries < 200; tries++) {
    if ((await of.call('GET', '/_ping').catch(() => undefined))?.status === 200) return
    await new Promise((resolve) => setTimeout(resolve, 25))
  }
  assert.fail('the daemon does not answer')
}

async function ended(child: ChildProcess): Promise<void> {
  const exit = new Promise((resolve) => child.once('exit', resolve))
  child.kill('SIGTERM')
  await exit
}

test('DOCKER_DRIVER names the storage driver, and the flag goes before it', async () => {
  await daemon.start({ DOCKER_DRIVER: 'vfs' })
  assert.equal((await daemon.call('GET', '/info')).body.Driver, 'vfs')
  await daemon.stop()
  await daemon.start({ DOCKER_DRIVER: 'vfs' }, { flags: ['-s', 'overlay2'] })
  assert.equal((await daemon.call('GET', '/info')).body.Driver, 'overlay2')
  await daemon.stop()
})

test('fd:// is a socket that somebody else listens on', async () => {
  const server = createServer()
  await new Promise<void>((resolve) => server.listen(at('activated.sock'), resolve))
  const { fd } = (server as unknown as { _handle: { fd: number } })._handle
  const child = spawn(new URL('../bin/berth', import.meta.url).pathname, ['daemon', '-H', 'fd://', ...own], { stdio: ['ignore', 'ignore', 'inherit', fd], env: { ...process.env, LISTEN_FDS: '1' } })
  renameSync(at('activated.sock'), at('kept.sock')) // the end of the server removes the socket by its name
  server.close()
  try {
    const activated = Object.assign(Object.create(daemon) as TestDaemon, { socket: at('kept.sock') })
    await answers(activated)
    assert.equal(activated.cli(['run', '--rm', 'starter', 'echo', 'activated']).out, 'activated\n')
  } finally {
    await ended(child)
  }
})

test('a daemon in a chroot is refused: what it executes in a container would be outside of it', async () => {
  const root = at('chroot')
  mkdirSync(root)
  const script = 'mount --rbind / "$0" && exec chroot "$0" "$@"'
  const berth = new URL('../bin/berth', import.meta.url).pathname
  const { stderr } = spawnSync('unshare', ['-m', '--propagation', 'slave', 'sh', '-c', script, root, berth, 'daemon', '-H', `unix://${daemon.socket}`, ...own], { timeout: 20_000 })
  assert.match(stderr.toString(), /berth can not run in a chroot/)
})

test('a second daemon on the same pidfile, or the same socket, is refused', async () => {
  await daemon.start()
  const other = ['--data-root', at('other'), '--exec-root', at('other-run')]
  assert.match(daemon.cli(['daemon', '-H', `unix://${at('x.sock')}`, ...other, '-p', at('pid')]).err, /pid file found, ensure berth is not running/)
  assert.match(daemon.cli(['daemon', '-H', `unix://${daemon.socket}`, ...other, '-p', at('pid2')]).err, /another process listens on it/)
  assert.match(daemon.cli(['daemon', '-H', `unix://${at('x.sock')}`, '--data-root', at('data'), '--exec-root', at('other-run'), '-p', at('pid2')]).err, /the data root .* belongs to another daemon that runs/)
  assert.equal((await daemon.call('GET', '/_ping')).status, 200)
  await daemon.stop()
})

test('a daemon that stops stops its containers, unless they are to live on', async () => {
  await daemon.start()
  const run = (name: string, ...flags: string[]) => daemon.cli(['run', '-d', '-i', '--name', name, ...flags, 'starter', 'sh', '-c', 'trap "exit 5" TERM; read line; echo got $line'])
  assert.equal(run('mortal').code, 0)
  await daemon.stop()
  await daemon.start({}, { flags: ['--live-restore'] })
  assert.equal((await daemon.call('GET', '/info')).body.LiveRestoreEnabled, true)
  assert.equal(daemon.cli(['inspect', '-f', '{{.State.Status}} {{.State.ExitCode}}', 'mortal']).out, 'exited 5\n')
  run('lives')
  const pid = daemon.cli(['inspect', '-f', '{{.State.Pid}}', 'lives']).out.trim()
  await daemon.stop()
  assert.ok(existsSync(`/proc/${pid}`))
  await daemon.start({}, { flags: ['--live-restore'] })
  assert.equal(daemon.cli(['inspect', '-f', '{{.State.Status}} {{.State.Pid}}', 'lives']).out, `running ${pid}\n`)
  assert.equal(daemon.cli(['attach', 'lives'], { input: 'words\n' }).out, 'got words\n')
  assert.equal(daemon.cli(['logs', 'lives']).out, 'got words\n')
  daemon.cli(['rm', '-f', 'lives', 'mortal'])
})
