import assert from 'node:assert/strict'
import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { TestDaemon } from './daemon.ts'

const daemon = new TestDaemon()
before(async () => {
  await daemon.start()
  await daemon.importStarter()
})
after(() => daemon[Symbol.asyncDispose]())

test('a container runs, and its output and exit status come back', async () => {
  const { status, logs } = await daemon.run({ Cmd: ['sh', '-c', 'echo out; echo err >&2; exit 7'] })
  assert.equal(status, 7)
  assert.match(logs, /out\n/)
  assert.match(logs, /err\n/)
})

test('a program that is not there is refused with the words and the code of Docker', async () => {
  const created = await daemon.call('POST', '/containers/create', { Image: 'starter', Cmd: ['nope'] })
  const started = await daemon.call('POST', `/containers/${created.body.Id}/start`)
  assert.equal(started.status, 400)
  assert.match(started.body.message, /exec: "nope": executable file not found in \$PATH/)
  const inspected = await daemon.call('GET', `/containers/${created.body.Id}/json`)
  assert.equal(inspected.body.State.ExitCode, 127)
})

test('isolation: own processes, host name, capabilities, seccomp, masked paths', async () => {
  const { logs } = await daemon.run({ Hostname: 'box', Cmd: ['sh', '-c', 'hostname; echo pid $$; cat /proc/self/status; cat /proc/keys; ls /proc/acpi; cat /proc/self/mountinfo'] })
  assert.match(logs, /^box\npid 1\n/)
  assert.match(logs, /CapBnd:\t00000000a80425fb/)
  assert.match(logs, /Seccomp:\t2/)
  assert.doesNotMatch(logs, /keyring/)
  assert.match(logs, / \/proc\/sys ro,/)
})

test('a process over its memory limit is killed, and inspect says so', async () => {
  const { id, status } = await daemon.run({ Cmd: ['tail', '/dev/zero'], HostConfig: { Memory: 20 << 20 } })
  assert.equal(status, 137)
  const { body } = await daemon.call('GET', `/containers/${id}/json`)
  assert.equal(body.State.OOMKilled, true)
})

test('a working directory that is a magic link is refused (CVE-2024-21626)', async () => {
  for (const fd of [3, 5, 7, 8, 9]) {
    const created = await daemon.call('POST', '/containers/create', { Image: 'starter', Cmd: ['true'], WorkingDir: `/proc/self/fd/${fd}` })
    const started = await daemon.call('POST', `/containers/${created.body.Id}/start`)
    assert.notEqual(started.status, 204)
  }
})

test('bad input is refused by name', async () => {
  const wrong = await daemon.call('POST', '/containers/create', { Image: 'starter', Cmd: ['true'], HostConfig: { Memory: 'much' } })
  assert.equal(wrong.status, 400)
  assert.match(wrong.body.message, /HostConfig\.Memory/)
  assert.equal((await daemon.call('POST', '/containers/create', { Image: 'missing', Cmd: ['true'] })).status, 404)
  assert.equal((await daemon.call('POST', '/containers/create?name=a/b', { Image: 'starter', Cmd: ['true'] })).status, 400)
  assert.equal((await daemon.call('GET', '/v1.23/info')).status, 400)
  assert.equal((await daemon.call('GET', '/nothing')).status, 404)
})

test('removed containers leave nothing behind', async () => {
  const { body } = await daemon.call('GET', '/containers/json?all=1')
  for (const { Id } of body) assert.equal((await daemon.call('DELETE', `/containers/${Id}?force=1`)).status, 204)
  assert.deepEqual(readdirSync(join(daemon.directory, 'run/containers')), [])
  assert.deepEqual(readdirSync(join(daemon.directory, 'data/containers')), [])
  for (const { Id } of body) assert.equal(existsSync(`/sys/fs/cgroup/memory/berth/${Id}`), false)
})
