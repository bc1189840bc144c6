import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { TestDaemon, until } from './daemon.ts'

const daemon = new TestDaemon()
const { ok } = daemon
const stateOf = async (name: string): Promise<any> => (await daemon.call('GET', `/containers/${name}/json`)).body
const healthy = (name: string, status: string): Promise<unknown> => until(`${name} is ${status}`, async () => (await stateOf(name)).State.Health?.Status === status)
const quick = ['--health-interval', '100ms', '--health-retries', '2', '--health-timeout', '500ms']

before(async () => {
  await daemon.start()
  await daemon.importStarter()
})
after(() => daemon[Symbol.asyncDispose]())

test('health is checked, shown and told', async () => {
  const since = Date.now() / 1000
  ok('run', '-d', '--name', 'checked', ...quick, '--health-cmd', 'echo looked; test -e /well', '-e', 'A=b', 'starter', 'sh', '-c', 'touch /well; sleep 1000')
  ok('run', '-d', '--name', 'starting', '--health-interval', '1h', '--health-cmd', 'true', 'starter', 'sleep', '1000')
  assert.match(ok('ps', '--format', '{{.Status}}', '-f', 'name=starting'), /\(health: starting\)$/)
  ok('rm', '-f', 'starting')
  await healthy('checked', 'healthy')
  assert.match(ok('ps', '--format', '{{.Status}}', '-f', 'health=healthy'), /^Up .* \(healthy\)$/)
  assert.equal(ok('ps', '-q', '-f', 'health=none'), '')
  ok('exec', 'checked', 'rm', '/well')
  await healthy('checked', 'unhealthy')
  const { Health } = (await stateOf('checked')).State
  assert.ok(Health.FailingStreak >= 2 && Health.Log.length >= 2 && Health.Log.length <= 5)
  assert.deepEqual([Health.Log.at(-1).ExitCode, Health.Log.at(-1).Output], [1, 'looked\n'])
  ok('pause', 'checked')
  const { length } = (await stateOf('checked')).State.Health.Log
  await sleep(300)
  assert.equal((await stateOf('checked')).State.Health.Log.length, length, 'what is paused is not asked')
  ok('unpause', 'checked')
  ok('exec', 'checked', 'touch', '/well')
  await healthy('checked', 'healthy')
  await daemon.stop('SIGKILL')
  await daemon.start()
  ok('exec', 'checked', 'rm', '/well')
  await healthy('checked', 'unhealthy')
  ok('stop', '-t', '0', 'checked')
  assert.equal((await stateOf('checked')).State.Health.Status, 'unhealthy')
  ok('rm', 'checked')
  const { text } = await daemon.call('GET', `/events?since=${since}&until=${Date.now() / 1000}&filters={"event":["health_status"]}`)
  assert.deepEqual([...text.matchAll(/"Action":"([^"]*)"/g)].map(([, action]) => action), ['health_status: unhealthy'], 'after its restart the daemon tells again')
})

test('a check that takes too long, or can not be made, has failed; nothing of it is left', async () => {
  ok('run', '-d', '--name', 'slow', '--health-cmd', 'echo begun; exec sleep 777', '--health-timeout', '200ms', '--health-interval', '100ms', '--health-retries', '1', 'starter', 'sleep', '1000')
  await healthy('slow', 'unhealthy')
  const [last] = (await stateOf('slow')).State.Health.Log
  assert.deepEqual([last.ExitCode, last.Output], [-1, 'Health check exceeded timeout (200ms)'])
  ok('pause', 'slow')
  await sleep(100)
  ok('unpause', 'slow')
  ok('rm', '-f', 'slow')
  const created = await daemon.call('POST', '/containers/create?name=absent', { Image: 'starter', Cmd: ['sleep', '1000'], Healthcheck: { Test: ['CMD', '/nothing'], Interval: 1e8, Retries: 1 } })
  assert.equal(created.status, 201)
  ok('start', 'absent')
  await healthy('absent', 'unhealthy')
  assert.match((await stateOf('absent')).State.Health.Log[0].Output, /exec: "\/nothing": stat \/nothing: no such file or directory/)
  ok('rm', '-f', 'absent')
})

test('the start period forgives, and has an interval of its own', async () => {
  ok('run', '-d', '--name', 'starts', '--health-cmd', 'false', '--health-interval', '30s', '--health-start-period', '1s', '--health-start-interval', '100ms', '--health-retries', '1', 'starter', 'sleep', '1000')
  await until('three probes', async () => ((await stateOf('starts')).State.Health.Log.length >= 3))
  const { Status, FailingStreak } = (await stateOf('starts')).State.Health
  assert.deepEqual([Status, FailingStreak], ['starting', 0])
  ok('rm', '-f', 'starts')
})

test('what the image says of health, and what the client changes', async () => {
  ok('create', '--name', 'base', 'starter', 'sleep', '1000')
  ok('commit', '-c', 'HEALTHCHECK --interval=100ms --retries=7 CMD true', 'base', 'careful')
  ok('run', '-d', '--name', 'inherits', '--health-timeout', '2s', 'careful')
  await healthy('inherits', 'healthy')
  assert.deepEqual((await stateOf('inherits')).Config.Healthcheck, { Test: ['CMD-SHELL', 'true'], Interval: 1e8, Timeout: 2e9, Retries: 7 })
  ok('run', '-d', '--name', 'careless', '--no-healthcheck', 'careful')
  assert.equal((await stateOf('careless')).State.Health, undefined)
  for (const [body, error] of [
    [{ Interval: 5 }, /Interval in Healthcheck cannot be less than 1ms/], [{ Retries: -1 }, /Retries in Healthcheck cannot be negative/], [{ Test: ['ODD'] }, /Unknown healthcheck type "ODD"/], [{ Test: ['CMD', 'true'], OnFailure: 'pray' }, /invalid action for an unhealthy container: "pray"/],
  ] as const) {
    const { status, body: { message } } = await daemon.call('POST', '/containers/create', { Image: 'starter', Cmd: ['true'], Healthcheck: body })
    assert.deepEqual([status, error.test(message)], [400, true], message)
  }
  ok('rm', '-f', 'base', 'inherits', 'careless')
})

test('an unhealthy container is killed, stopped or restarted, where that is asked', async () => {
  const run = (name: string, ...flags: string[]): string => ok('run', '-d', '--name', name, ...quick, '--health-cmd', 'test ! -e /ill', ...flags, 'starter', 'sh', '-c', 'rm -f /ill; exec sleep 1000')
  run('killed', '--health-on-failure', 'kill')
  run('stopped', '--health-on-failure', 'stop', '--stop-timeout', '0')
  run('restarted', '--label', 'io.berth.health-on-failure=restart', '--stop-timeout', '0')
  run('again', '--health-on-failure', 'kill', '--restart', 'always')
  const before = (await stateOf('restarted')).State.Pid
  for (const name of ['killed', 'stopped', 'restarted', 'again']) ok('exec', name, 'touch', '/ill')
  for (const name of ['killed', 'stopped']) await until(`${name} ends`, async () => (await stateOf(name)).State.Status === 'exited')
  for (const name of ['restarted', 'again']) await until(`${name} comes back`, async () => (await stateOf(name)).RestartCount === 1 && (await stateOf(name)).State.Health.Status === 'healthy')
  assert.notEqual((await stateOf('restarted')).State.Pid, before)
  ok('rm', '-f', 'killed', 'stopped', 'restarted', 'again')
})

test('restart policies: how often, how soon, and not against a person', async () => {
  ok('run', '-d', '--name', 'twice', '--restart', 'on-failure:2', 'starter', 'false')
  await until('it gives up', async () => (await stateOf('twice')).State.Status === 'exited' && (await stateOf('twice')).RestartCount === 2)
  ok('run', '-d', '--name', 'once', '--restart', 'on-failure', 'starter', 'true')
  await until('it has ended well', async () => (await stateOf('once')).State.Status === 'exited')
  assert.equal((await stateOf('once')).RestartCount, 0)
  ok('run', '-d', '--name', 'always', '--restart', 'always', 'starter', 'sh', '-c', 'date; exit 3')
  await until('it comes again', async () => (await stateOf('always')).RestartCount >= 3)
  assert.match(ok('ps', '-f', 'name=always', '--format', '{{.Status}}'), /^(Restarting \(3\)|Up )/)
  ok('stop', '-t', '0', 'always')
  const { RestartCount } = await stateOf('always')
  await sleep(1500)
  assert.deepEqual([(await stateOf('always')).State.Status, (await stateOf('always')).RestartCount], ['exited', RestartCount])
  ok('run', '-d', '--name', 'lives', '--restart', 'unless-stopped', '--stop-timeout', '0', 'starter', 'sleep', '1000')
  ok('run', '-d', '--name', 'rests', '--restart', 'unless-stopped', '--stop-timeout', '0', 'starter', 'sleep', '1000')
  ok('stop', '-t', '0', 'rests')
  await daemon.stop()
  await daemon.start()
  assert.deepEqual([(await stateOf('lives')).State.Status, (await stateOf('rests')).State.Status, (await stateOf('always')).State.Running], ['running', 'exited', true])
  ok('rm', '-f', 'twice', 'once', 'always', 'lives', 'rests')
})

test('a container that falls and rises again all the time can be removed at any moment', async () => {
  for (let round = 0; round < 25; round++) {
    ok('run', '-d', '--name', 'falls', '--restart', 'always', 'starter', 'false')
    await sleep(round * 17 % 300)
    assert.equal((await daemon.call('DELETE', '/containers/falls?force=1')).status, 204)
  }
})

test('Prometheus sees what the engine does', async () => {
  await daemon.stop()
  await daemon.start({}, { flags: ['--metrics-addr', '127.0.0.1:19323'] })
  ok('run', '-d', '--name', 'counted', ...quick, '--health-cmd', 'false', 'starter', 'sleep', '1000')
  await healthy('counted', 'unhealthy')
  const text = await (await fetch('http://127.0.0.1:19323/metrics')).text()
  const value = (name: string): number => Number(new RegExp(`^${name.replace(/[{}]/g, '\\$&')} (.*)$`, 'm').exec(text)?.[1])
  assert.equal(value('engine_daemon_container_states_containers{state="running"}'), 1)
  assert.equal(value('engine_daemon_container_actions_seconds_count{action="start"}'), 1)
  assert.ok(value('engine_daemon_health_checks_failed_total') >= 2 && value('engine_daemon_events_total') > 3)
  assert.equal((await fetch('http://127.0.0.1:19323/other')).status, 404)
  ok('rm', '-f', 'counted')
})
