import assert from 'node:assert/strict'
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { TestDaemon, type Answer } from './daemon.ts'

const daemon = new TestDaemon()
before(async () => {
  await daemon.start()
  await daemon.importStarter()
})
after(() => daemon[Symbol.asyncDispose]())

const pick = <T>(list: readonly T[]): T => list[Math.floor(Math.random() * list.length)]!
const names = Array.from({ length: 12 }, (_name, i) => `name-${i}`)
const commands = [['sleep', '100'], ['true'], ['sh', '-c', 'exit 3'], ['nothing'], ['sh', '-c', 'trap "exit 0" TERM; while :; do sleep 0.05; done']]
const post = (path: string, body?: object): Promise<Answer> => daemon.call('POST', path, body)
const acts: Record<string, (name: string) => Promise<Answer>> = {
  create: (name) => post(`/containers/create?name=${name}`, { Image: 'starter', Cmd: pick(commands), HostConfig: { NetworkMode: pick(['none', 'host']), AutoRemove: Math.random() < 0.3 } }),
  start: (name) => post(`/containers/${name}/start`), stop: (name) => post(`/containers/${name}/stop?t=0`), kill: (name) => post(`/containers/${name}/kill`), restart: (name) => post(`/containers/${name}/restart?t=0`),
  pause: (name) => post(`/containers/${name}/pause`), unpause: (name) => post(`/containers/${name}/unpause`), rename: (name) => post(`/containers/${name}/rename?name=${pick(names)}`),
  update: (name) => post(`/containers/${name}/update`, { Memory: 50 << 20, MemorySwap: 100 << 20 }), remove: (name) => daemon.call('DELETE', `/containers/${name}`), force: (name) => daemon.call('DELETE', `/containers/${name}?force=1`),
  inspect: (name) => daemon.call('GET', `/containers/${name}/json`), list: () => daemon.call('GET', '/containers/json?all=1&size=1'), logs: (name) => daemon.call('GET', `/containers/${name}/logs?stdout=1`), stats: (name) => daemon.call('GET', `/containers/${name}/stats?stream=0&one-shot=1`),
  async exec(name) {
    const made = await post(`/containers/${name}/exec`, { Cmd: ['true'] })
    return made.status === 201 ? await post(`/exec/${made.body.Id}/start`, { Detach: true }) : made
  },
}

test('six clients who do what they like to the same containers get answers, and leave nothing', { timeout: 110_000 }, async () => {
  const until = Date.now() + 10_000
  const failures: string[] = []
  await Promise.all(Array.from({ length: 6 }, async () => {
    while (Date.now() < until) {
      const act = pick(Object.keys(acts))
      const { status, text } = await acts[act]!(pick(names))
      if (status >= 500) failures.push(`${act}: ${status} ${text}`)
    }
  }))
  assert.deepEqual([...new Set(failures)], [])
  const { body } = await daemon.call('GET', '/containers/json?all=1')
  const up = (body as { State: string }[]).filter(({ State }) => State === 'running' || State === 'paused').length
  assert.equal(daemon.monitors(), up)
  for (const { Id } of body) assert.ok([204, 404].includes((await daemon.call('DELETE', `/containers/${Id}?force=1`)).status))
  for (let tries = 0; tries < 100 && readdirSync(join(daemon.directory, 'run/containers')).length > 0; tries++) await new Promise((resolve) => setTimeout(resolve, 20))
  assert.deepEqual(readdirSync(join(daemon.directory, 'run/containers')), [])
  assert.deepEqual(readdirSync(join(daemon.directory, 'data/containers')), [])
  assert.equal(readdirSync(join(daemon.directory, 'data/overlay')).filter((name) => name !== 'l').length, 1) // the image's
})
