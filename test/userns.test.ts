import assert from 'node:assert/strict'
import { chmodSync, existsSync, mkdirSync, readFileSync, readdirSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { TestDaemon } from './daemon.ts'

const ROOT = 300_000
const daemon = new TestDaemon()

/** Starts the daemon where /etc/subuid and /etc/subgid say what the test needs. */
async function start(flags: readonly string[] = ['--userns-remap', 'nobody:nogroup']): Promise<void> {
  writeFileSync(join(daemon.directory, 'subids'), `nobody:${ROOT}:65536\nnogroup:${ROOT}:65536\n`)
  const script = 'mount --bind "$0" /etc/subuid && mount --bind "$0" /etc/subgid && exec "$@"'
  await daemon.start({}, { flags, through: ['unshare', '-m', '--propagation', 'slave', 'sh', '-c', script, join(daemon.directory, 'subids')] })
}

before(async () => {
  await start()
  await daemon.importStarter()
})
after(() => daemon[Symbol.asyncDispose]())

const berth = (...args: string[]) => daemon.cli(args)
const run = (...args: string[]) => berth('run', '--rm', ...args)

test("a container's users are subordinate ids of the host, and its files its own", () => {
  const { out, err, code } = run('starter', 'sh', '-c', 'cat /proc/self/uid_map; stat -c "%u %g" / /bin/busybox; touch /new /etc/hosts; stat -c %u /new; echo e > /dev/stderr; echo > /dev/null')
  assert.deepEqual({ out: out.trim().split(/\s+/), err, code }, { out: ['0', String(ROOT), '65536', '0', '0', '0', '0', '0'], err: 'e\n', code: 0 })
  assert.equal(run('-u', 'bob', 'starter', 'sh', '-c', 'id -u; echo > /tmp/nope; echo out > /dev/stdout').out, '1000\nout\n')
  assert.match(run('-u', '70000', 'starter', 'true').err, /id 70000 is not mapped into the user namespace/)
})

test('on the host the process is nobody, and can do nothing to a file of root', () => {
  berth('run', '-d', '--name', 'held', 'starter', 'sleep', '1000')
  const pid = berth('inspect', '-f', '{{.State.Pid}}', 'held').out.trim()
  assert.match(readFileSync(`/proc/${pid}/status`, 'utf8'), new RegExp(`^Uid:\\t${ROOT}\\t${ROOT}`, 'm'))
  const secret = join(daemon.directory, 'secret')
  mkdirSync(secret)
  writeFileSync(join(secret, 'key'), 'k')
  chmodSync(join(secret, 'key'), 0o600)
  assert.match(run('-v', `${secret}:/s`, 'starter', 'cat', '/s/key').err, /Permission denied/)
  const made = join(daemon.directory, 'made/here')
  assert.equal(run('-v', `${made}:/m`, 'starter', 'touch', '/m/f').code, 0)
  assert.equal(statSync(join(made, 'f')).uid, ROOT)
  assert.equal(berth('exec', 'held', 'sh', '-c', 'id -u; readlink /proc/self/ns/user').out, berth('exec', 'held', 'sh', '-c', 'id -u; readlink /proc/1/ns/user').out)
})

test('archives have the owners that the container sees', () => {
  berth('exec', 'held', 'sh', '-c', 'touch /five; chown 5:6 /five')
  const archive = daemon.cli(['cp', 'held:/five', join(daemon.directory, 'five')])
  assert.equal(archive.code, 0)
  assert.equal(berth('cp', join(daemon.directory, 'five'), 'held:/copied').code, 0)
  assert.equal(berth('exec', 'held', 'stat', '-c', '%u', '/copied').out, '0\n')
  assert.equal(berth('commit', 'held', 'committed').code, 0)
  for (const mode of ['', 'host']) assert.equal(run('--userns', mode, 'committed', 'stat', '-c', '%u %g', '/five').out, '5 6\n')
  berth('rmi', 'committed')
})

test('what a user namespace can not have is refused in the words of Docker', () => {
  assert.match(run('--privileged', 'starter', 'true').err, /privileged mode is incompatible with user namespaces/)
  assert.match(run('--network', 'host', 'starter', 'true').err, /cannot share the host's network namespace when user namespaces are enabled/)
  assert.match(run('--pid', 'host', 'starter', 'true').err, /cannot share the host PID namespace when user namespaces are enabled/)
  assert.match(run('--userns', 'host', '--privileged', '--pid', 'host', 'starter', 'cat', '/proc/self/uid_map').out, / 4294967295\n/)
})

test('devices, read-only roots, terminals and an init work in a user namespace', () => {
  assert.equal(run('--device', '/dev/null:/dev/x', '--read-only', '--tmpfs', '/t', '--init', '-w', '/t', 'starter', 'sh', '-c', 'echo > /dev/x; touch f; pwd; touch /f 2>/dev/null || echo read-only').out, '/t\nread-only\n')
  assert.match(run('-t', 'starter', 'stat', '-c', '%u', '/dev/console').out, /^0\r?\n/)
})

test('a container that shares a namespace shares the user namespace', () => {
  berth('run', '-d', '--name', 'donor', '--ipc', 'shareable', 'starter', 'sh', '-c', 'echo shared > /dev/shm/f; sleep 1000')
  const id = berth('exec', 'donor', 'readlink', '/proc/self/ns/user').out
  for (const kind of ['network', 'ipc', 'pid'])
    assert.equal(run(`--${kind}`, 'container:donor', 'starter', 'sh', '-c', 'readlink /proc/self/ns/user; touch /mine; echo > /dev/null; stat -c %u /mine').out, `${id}0\n`)
  assert.equal(run('--ipc', 'container:donor', 'starter', 'cat', '/dev/shm/f').out, 'shared\n')
})

test('a daemon that was killed takes its containers up again, mapped or not', async () => {
  await daemon.stop('SIGKILL')
  await start()
  assert.equal(berth('exec', 'held', 'stat', '-c', '%u', '/five').out, '5\n')
  berth('stop', '-t', '0', 'held', 'donor')
  await daemon.stop()
  await start([])
  berth('start', 'held')
  assert.equal(berth('exec', 'held', 'sh', '-c', 'stat -c %u /five; cat /proc/self/uid_map').out.replace(/ +/g, ' '), '5\n 0 0 4294967295\n')
  berth('rm', '-f', 'held', 'donor')
  assert.deepEqual(readdirSync(join(daemon.directory, 'run/containers')), [])
  assert.equal(existsSync(join(daemon.directory, 'run/remap-events')), false)
})

test('a user without subordinate ids, or that there is not, is refused', async () => {
  await daemon.stop()
  for (const [user, message] of [['daemon', /no subordinate ids of daemon in \/etc\/subuid/], ['nope', /user nope is not in \/etc\/passwd/], ['a:b:c', /invalid user\/group specification/]] as const) {
    const { code, err } = daemon.cli(['daemon', '-H', `unix://${daemon.socket}`, '--data-root', join(daemon.directory, 'data'), '--exec-root', join(daemon.directory, 'run'), '-p', join(daemon.directory, 'pid'), '--userns-remap', user])
    assert.notEqual(code, 0)
    assert.match(err, message)
  }
})

test('a volume belongs to the users of containers, with what the image has for it', async () => {
  await daemon.stop()
  await start()
  assert.equal(run('-v', 'own:/x', 'starter', 'sh', '-c', 'stat -c "%u %g" /x; touch /x/f; mkdir -p /tmp/x').out, '0 0\n')
  const path = join(daemon.directory, 'data/volumes/own/_data')
  assert.deepEqual([statSync(path).uid, statSync(join(path, 'f')).uid], [ROOT, ROOT])
  assert.equal(run('-v', 'etc:/etc', 'starter', 'stat', '-c', '%u', '/etc/passwd').out, '0\n')
  assert.equal(run('--mount', 'type=image,src=starter,dst=/i', 'starter', 'stat', '-c', '%u', '/i/etc/passwd').out, '0\n')
  berth('run', '-d', '--name', 'grown', 'starter', 'sleep', '1000')
  assert.equal(berth('update', '--mount-add', 'type=volume,src=own,dst=/later', '--mount-add', 'type=tmpfs,dst=/scratch', 'grown').err, '')
  assert.equal(berth('exec', 'grown', 'sh', '-c', 'touch /later/g /scratch/x && stat -c %u /later/g').out, '0\n')
  assert.equal(berth('update', '--mount-rm', '/later', 'grown').err, '')
  berth('rm', '-f', 'grown')
})
