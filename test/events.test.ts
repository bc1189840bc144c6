import assert from 'node:assert/strict'
import { request, type IncomingMessage } from 'node:http'
import { after, before, test } from 'node:test'
import { TestDaemon, until } from './daemon.ts'

const daemon = new TestDaemon()
const { ok } = daemon
const began = Date.now() / 1000
before(async () => {
  await daemon.start()
  await daemon.importStarter()
})
after(() => daemon[Symbol.asyncDispose]())

/** What has happened since the beginning, as `TYPE ACTION`, or as another template. */
function happened(filters: readonly string[], format = '{{.Type}} {{.Action}}'): string[] {
  return ok('events', '--since', String(began), '--until', String(Date.now() / 1000), ...filters.flatMap((filter) => ['-f', filter]), '--format', format).split('\n').filter(Boolean)
}

test('a container\'s life is told in order, and every filter finds its part', () => {
  ok('create', '--name', 'told', '-l', 'a=b', '-v', 'kept:/v', '--network', 'none', 'starter', 'sh', '-c', 'sleep 100; exit 3')
  ok('start', 'told')
  ok('exec', 'told', 'true')
  ok('top', 'told')
  ok('pause', 'told')
  ok('unpause', 'told')
  ok('rename', 'told', 'retold')
  ok('update', '-m', '50m', '--memory-swap', '60m', 'retold')
  ok('kill', 'retold')
  ok('wait', 'retold')
  ok('commit', 'retold', 'made:1')
  ok('rm', 'retold')
  const life = happened(['type=container', 'type=network'])
  assert.deepEqual(life, [
    'container create', 'network connect', 'container start', 'container exec_create: true ', 'container exec_start: true ', 'container exec_die', 'container top', 'container pause', 'container unpause',
    'container rename', 'container update', 'container kill', 'container die', 'network disconnect', 'container commit', 'container destroy',
  ])
  assert.deepEqual(happened(['container=retold']), life.slice(life.indexOf('container rename')).filter((line) => line.startsWith('container')))
  assert.equal(happened(['container=told', 'event=create']).length, 1)
  assert.equal(happened(['container=tol', 'event=create']).length, 1) // what begins so
  assert.deepEqual(happened(['event=exec_create']), ['container exec_create: true'])
  assert.deepEqual(happened(['event=die', 'event=kill']), ['container kill', 'container die'])
  assert.equal(happened(['label=a']).length, happened(['label=a=b']).length)
  assert.deepEqual(happened(['label=a', 'label=c']), [])
  assert.deepEqual(happened(['image=made'], '{{.Action}} {{.Actor.Attributes.name}}'), ['tag made:1'])
  assert.deepEqual(happened(['image=starter', 'event=create']), ['container create'])
  assert.deepEqual(happened(['volume=kept'], '{{.Action}}'), ['create', 'mount', 'unmount'])
  assert.deepEqual(happened(['type=network', 'network=none'], '{{.Action}} {{.Actor.Attributes.type}}'), ['connect null', 'disconnect null'])
  assert.deepEqual(happened(['scope=swarm']), [])
  assert.deepEqual(happened(['plugin=any']), [])
  assert.deepEqual(happened(['event=commit'], '{{.Actor.Attributes.imageRef}}'), ['made:1'])
})

test('a client that does not read its events is let go, and the others hear all', { timeout: 60_000 }, async () => {
  const silent = await listen('/events')
  const listener = await listen('/events?filters={"event":["rename"]}')
  let heard = 0
  listener.on('data', (data: Buffer) => heard += data.includes(10) ? 1 : 0) // the end of a line
  listener.on('error', () => {}) // it is destroyed at the end
  // a label of a megabyte makes each event as large
  const { body } = await daemon.call('POST', '/containers/create?name=large', { Image: 'starter', Cmd: ['true'], Labels: { large: 'x'.repeat(1 << 20) } })
  for (let i = 0; i < 30; i++) {
    assert.equal((await daemon.call('POST', `/containers/${body.Id}/rename?name=large-${i}`)).status, 204)
    await until('it was heard', () => heard > i)
  }
  let size = 0
  const failed = new Promise<boolean>((resolve) => silent.on('error', () => resolve(true)).on('end', () => resolve(false)))
  silent.on('data', (data: Buffer) => size += data.length)
  assert.equal(await failed, true)
  assert.ok(size < 12 << 20, `${size} bytes were kept for it`)
  listener.destroy()
  ok('rm', 'large-29')
})

function listen(path: string): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => request({ socketPath: daemon.socket, path }, resolve).on('error', reject).end())
}
