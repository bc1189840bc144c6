import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { chmodSync, chownSync, existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import type { Spec } from '../src/libcontainer/spec.ts'
import { exampleSpec } from '../src/runtime/describe.ts'
import { makeStarter } from './daemon.ts'

const directory = mkdtempSync(join(tmpdir(), 'berth-bundle-'))
const root = join(directory, 'state')
before(() => {
  chmodSync(directory, 0o755) // root of a user namespace must get in
  makeStarter(join(directory, 'rootfs'))
})
after(() => {
  for (const id of runtime('list', '-q').out.split('\n').filter(Boolean)) runtime('delete', '--force', id) // of a test that failed
  rmSync(directory, { recursive: true, force: true })
})

/** Runs the runtime on the bundle, in the directory of its own state. */
function runtime(...args: string[]): { code: number, out: string, err: string } {
  const { status, stdout, stderr } = spawnSync(new URL('../bin/berth-runtime', import.meta.url).pathname, ['--root', root, ...args], { cwd: directory, input: '', timeout: 30_000 })
  return { code: status ?? -1, out: stdout.toString(), err: stderr.toString() }
}

/** As `runtime`, for `create` and `run --detach`: their process keeps the streams, so they must not be pipes of ours. */
function detached(...args: string[]): number {
  return spawnSync(new URL('../bin/berth-runtime', import.meta.url).pathname, ['--root', root, ...args], { cwd: directory, stdio: 'ignore', timeout: 30_000 }).status ?? -1
}

/** Writes the bundle's config.json: the example, without a terminal, with changes. */
function bundle(command: readonly string[], change: (spec: Spec) => void = () => {}): void {
  const spec = exampleSpec()
  spec.process = { ...spec.process!, terminal: false, args: [...command] }
  delete spec.process.rlimits
  spec.root!.readonly = false
  change(spec)
  writeFileSync(join(directory, 'config.json'), JSON.stringify(spec))
}

/** Nothing is left: no state, no cgroup. */
function assertGone(id: string): void {
  assert.ok(!existsSync(join(root, id)))
  for (const tree of readdirSync('/sys/fs/cgroup')) assert.ok(!existsSync(join('/sys/fs/cgroup', tree, id)), `cgroup of ${id} in ${tree}`)
}

test('run prints what the process says, ends as it does, and leaves nothing', () => {
  bundle(['sh', '-c', 'echo hello; id -u; hostname; exit 3'])
  assert.deepEqual(runtime('run', 'berth-rt-run'), { code: 3, out: 'hello\n0\nberth\n', err: '' })
  assertGone('berth-rt-run')
})

test('create, start, kill and delete go through the states of the specification', () => {
  bundle(['sleep', '1000'], (spec) => (spec.annotations = { a: 'b' }))
  const state = () => JSON.parse(runtime('state', 'berth-rt-life').out)
  assert.equal(detached('create', '--pid-file', join(directory, 'pid'), 'berth-rt-life'), 0)
  const { pid, ...rest } = state()
  assert.deepEqual(rest, { ociVersion: '1.2.0', id: 'berth-rt-life', status: 'created', bundle: directory, annotations: { a: 'b' } })
  assert.equal(readFileSync(join(directory, 'pid'), 'utf8'), String(pid))
  assert.match(runtime('create', 'berth-rt-life').err, /container with given ID already exists/)
  assert.equal(runtime('start', 'berth-rt-life').code, 0)
  assert.equal(state().status, 'running')
  assert.match(runtime('start', 'berth-rt-life').err, /already running/)
  assert.deepEqual(runtime('exec', 'berth-rt-life', 'sh', '-c', 'echo in $$; exit 4'), { code: 4, out: 'in 2\n', err: '' })
  assert.equal(runtime('pause', 'berth-rt-life').code, 0)
  assert.equal(state().status, 'paused')
  assert.equal(runtime('resume', 'berth-rt-life').code, 0)
  assert.equal(JSON.parse(runtime('ps', '--format', 'json', 'berth-rt-life').out)[0], pid)
  assert.equal(runtime('update', '--memory', '32m', 'berth-rt-life').code, 0)
  assert.equal(JSON.parse(runtime('events', '--stats', 'berth-rt-life').out).data.memory.usage.limit, 32 << 20)
  assert.match(runtime('delete', 'berth-rt-life').err, /is not stopped/)
  assert.equal(runtime('kill', 'berth-rt-life', 'KILL').code, 0)
  for (let tries = 0; tries < 100 && state().status !== 'stopped'; tries++);
  assert.match(runtime('list').out, /berth-rt-life +0 +stopped/)
  assert.match(runtime('kill', 'berth-rt-life').err, /container not running/)
  assert.equal(runtime('delete', 'berth-rt-life').code, 0)
  assertGone('berth-rt-life')
  assert.match(runtime('state', 'berth-rt-life').err, /does not exist/)
  assert.equal(runtime('delete', '--force', 'berth-rt-life').code, 0)
})

test('hooks run where and when the specification says, and a failing one ends the container', () => {
  const log = join(directory, 'hooks')
  const script = `#!/bin/sh\nread state; echo "$1 $(echo "$state" | grep -o '"status":"[a-z]*"') $(readlink /proc/self/ns/uts)" >> ${log}\n`
  writeFileSync(join(directory, 'hook'), script, { mode: 0o755 })
  writeFileSync(join(directory, 'rootfs/hook'), script.replace(log, '/hooks'), { mode: 0o755 })
  const hook = (name: string, path = join(directory, 'hook')) => [{ path, args: ['hook', name], env: ['PATH=/usr/bin:/bin'] }]
  const hooks = { ...Object.fromEntries(['prestart', 'createRuntime', 'createContainer', 'poststart', 'poststop'].map((name) => [name, hook(name)])), startContainer: hook('startContainer', '/hook') }
  bundle(['sh', '-c', 'readlink /proc/self/ns/uts; sleep 0.5; cat /hooks'], (spec) => (spec.hooks = hooks))
  const { out } = runtime('run', 'berth-rt-hooks')
  const own = out.split('\n')[0]
  const host = readFileSync(log, 'utf8').split('\n')[0]!.split(' ')[2]
  assert.deepEqual(readFileSync(log, 'utf8').trim().split('\n'), [
    `prestart "status":"creating" ${host}`, `createRuntime "status":"creating" ${host}`, `createContainer "status":"creating" ${own}`, `poststart "status":"running" ${host}`, `poststop "status":"stopped" ${host}`,
  ])
  assert.match(out, new RegExp(`startContainer "status":"created" ${own!.replace(/[[\]]/g, '\\$&')}`))
  for (const name of ['createRuntime', 'createContainer', 'startContainer'] as const) {
    bundle(['true'], (spec) => (spec.hooks = { [name]: [{ path: '/bin/sh', args: ['sh', '-c', 'exit 9'] }] }))
    const failed = runtime('run', 'berth-rt-hooks')
    assert.equal(failed.code, 1)
    assert.match(failed.err, new RegExp(`error running ${name} hook /bin/sh: exit status 9`))
    assertGone('berth-rt-hooks')
  }
})

test('the ids of a mount are mapped', () => {
  const source = join(directory, 'ids')
  mkdirSync(source)
  writeFileSync(join(source, 'f'), '')
  chownSync(join(source, 'f'), 5, 5)
  const map = [{ containerID: 0, hostID: 1000, size: 100 }]
  bundle(['stat', '-c', '%u %g', '/ids/f'], (spec) => spec.mounts!.push({ destination: '/ids', type: 'bind', source, options: ['bind', 'idmap'], uidMappings: map, gidMappings: map }))
  assert.deepEqual(runtime('run', 'berth-rt-ids'), { code: 0, out: '1005 1005\n', err: '' })
})

test('a user namespace has the maps of the bundle', () => {
  const source = join(directory, 'own')
  mkdirSync(source)
  mkdirSync(join(directory, 'rootfs/own')) // nobody in the namespace owns the root
  bundle(['sh', '-c', 'cat /proc/self/uid_map; id -u; touch /own/made; echo x > /dev/null'], (spec) => {
    spec.linux!.namespaces!.push({ type: 'user' })
    spec.linux!.uidMappings = spec.linux!.gidMappings = [{ containerID: 0, hostID: 200_000, size: 65_536 }]
    spec.mounts!.push({ destination: '/own', type: 'bind', source, options: ['rbind', 'ridmap'] })
  })
  const { out, err } = runtime('run', 'berth-rt-user')
  assert.equal(err, '')
  assert.match(out, /^ +0 +200000 +65536\n0\n$/)
  assert.equal(statSync(join(source, 'made')).uid, 0)
})

test('mount options of the kernel and of the specification hold, recursively too', () => {
  const source = join(directory, 'options')
  mkdirSync(join(source, 'below'), { recursive: true })
  bundle(['sh', '-c', 'grep -o " /o .*" /proc/self/mountinfo; touch /o/x; stat -c %a /t'], (spec) => spec.mounts!.push(
    { destination: '/o', type: 'bind', source, options: ['rbind', 'rro', 'rnosuid', 'nodev', 'noatime', 'rslave'] }, { destination: '/t', type: 'tmpfs', source: 'tmpfs', options: ['size=1m', 'mode=0711'] }))
  const { out, err } = runtime('run', 'berth-rt-options')
  assert.match(out, /^ \/o ro,nosuid,nodev,noatime /)
  assert.match(out, /711\n$/)
  assert.match(err, /Read-only file system/)
})

test('what is wrong with a bundle is said, and nothing is left', () => {
  const cases: [(spec: Spec) => void, RegExp][] = [
    [(spec) => (spec.process!.args = ['/nope']), /exec "\/nope": no such file or directory/],
    [(spec) => (spec.process!.args = ['nope']), /exec: "nope": executable file not found in \$PATH/],
    [(spec) => (spec.process!.cwd = 'relative'), /Cwd must be an absolute path/],
    [(spec) => (spec.root!.path = 'nothing'), /nothing is not a directory/],
    [(spec) => (spec.ociVersion = '2.0.0'), /only version 1/],
    [(spec) => (spec.linux!.namespaces = [{ type: 'pid' }]), /a mount namespace is required/],
    [(spec) => spec.linux!.namespaces!.push({ type: 'pid' }), /listed twice/],
    [(spec) => spec.mounts!.push({ destination: '/x', type: 'bind', source: '/does/not/exist', options: ['bind'] }), /does\/not\/exist/],
    [(spec) => spec.mounts!.push({ destination: '/x', type: 'nofs', source: 'x' }), /mount nofs on \/x/],
    [(spec) => (spec.linux!.sysctl = { 'kernel.nope': '1' }), /kernel/],
  ]
  for (const [change, message] of cases) {
    bundle(['true'], change)
    const { code, err } = runtime('run', 'berth-rt-bad')
    assert.equal(code, 1)
    assert.match(err, message)
    assertGone('berth-rt-bad')
  }
  for (const id of ['..', 'a/b', '']) assert.match(runtime('run', id).err, /invalid container ID|requires/)
  writeFileSync(join(directory, 'config.json'), '{')
  assert.match(runtime('run', 'berth-rt-bad').err, /config\.json/)
})

test('features tells what there is', () => {
  const { hooks, linux, ociVersionMax } = JSON.parse(runtime('features').out)
  assert.equal(ociVersionMax, '1.2.0')
  assert.equal(hooks.length, 6)
  assert.ok(linux.mountExtensions.idmap.enabled)
})
