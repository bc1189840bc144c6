import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, statSync } from 'node:fs'
import { createServer } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { Plugin } from '../lib/plugin.ts'
import { Trash } from '../lib/trash.ts'
import { Zygote } from '../sys/zygote.ts'
import { volumeDriverConformance } from './conformance.ts'
import { volumeDrivers } from './drivers.ts'

const directory = mkdtempSync(join(tmpdir(), 'berth-volumes-'))
const zygote = Zygote.start()
const trash = new Trash(join(directory, 'trash'), assert.fail)
const open = volumeDrivers({ local: { root: join(directory, 'volumes'), owner: { uid: 7, gid: 8 }, trash, zygote, directory }, plugin: (name) => Plugin.find(name) })

// a plugin that keeps directories, as a process beside the engine would
const name = `berth-volumes-${process.pid}`
const socket = `/run/docker/plugins/${name}.sock`
const kept = join(directory, 'plugin')
const answers: Record<string, (body: { Name: string, Opts?: Record<string, string> }) => object> = {
  'Plugin.Activate': () => ({ Implements: ['VolumeDriver'] }),
  'VolumeDriver.Create': ({ Name, Opts }) => (Opts?.['nonsense'] ? { Err: 'no such option: nonsense' } : (mkdirSync(join(kept, Name), { recursive: true }), {})),
  'VolumeDriver.Remove': ({ Name }) => (rmSync(join(kept, Name), { recursive: true }), {}),
  'VolumeDriver.Mount': ({ Name }) => ({ Mountpoint: join(kept, Name) }),
  'VolumeDriver.Unmount': () => ({}),
  'VolumeDriver.Path': ({ Name }) => ({ Mountpoint: join(kept, Name) }),
  'VolumeDriver.Get': ({ Name }) => ({ Volume: { Name, Mountpoint: join(kept, Name), Status: { shelf: 3 } } }),
  'VolumeDriver.List': () => ({ Volumes: readdirSync(kept).map((Name) => ({ Name })) }),
  'VolumeDriver.Capabilities': () => ({ Capabilities: { Scope: 'global' } }),
}
const server = createServer((request, response) => {
  const chunks: Buffer[] = []
  request.on('data', (chunk: Buffer) => chunks.push(chunk))
  request.on('end', () => response.end(JSON.stringify(answers[request.url!.slice(1)]!(JSON.parse(Buffer.concat(chunks).toString() || '{}')))))
})
mkdirSync(kept)
mkdirSync('/run/docker/plugins', { recursive: true })
await new Promise<void>((resolve) => server.listen(socket, resolve))
after(async () => {
  server.closeAllConnections()
  server.close()
  rmSync(socket, { force: true })
  zygote.stop()
  await trash.settled()
  rmSync(directory, { recursive: true })
})

volumeDriverConformance('local', () => open('local'))
volumeDriverConformance('remote', () => open(name))

test('local: a volume belongs to the root of containers', async () => {
  const driver = await open('local')
  await driver.create({ name: 'owned', options: {} })
  const { uid, gid } = statSync(await driver.path({ name: 'owned', options: {} }))
  assert.deepEqual([uid, gid], [7, 8])
  await driver.remove({ name: 'owned', options: {} })
})

test('local: what is mounted is mounted once, for as long as somebody has it, and what was left is undone', async () => {
  const driver = await open('local')
  const volume = { name: 'memory', options: { type: 'tmpfs', device: 'tmpfs', o: 'size=1m,mode=750' } }
  await driver.create(volume)
  const mounts = (): number => readFileSync('/proc/self/mountinfo', 'utf8').split('\n').filter((line) => line.includes(`${directory}/volumes/memory/_data`)).length
  await driver.mount(volume, 'one')
  await driver.mount(volume, 'two')
  assert.equal(mounts(), 1)
  await driver.unmount(volume, 'one')
  await driver.settle!()
  assert.equal(mounts(), 1)
  await driver.unmount(volume, 'two')
  assert.equal(mounts(), 0)
  await driver.mount(volume, 'gone')
  const again = await volumeDrivers({ local: { root: join(directory, 'volumes'), owner: { uid: 0, gid: 0 }, trash, zygote, directory }, plugin: assert.fail })('local')
  await again.settle!()
  assert.equal(mounts(), 0)
  await driver.remove(volume)
})

test('remote: what the plugin can do and says', async () => {
  const driver = await open(name)
  assert.equal(driver.scope, 'global')
  assert.deepEqual(await driver.status!({ name: 'any', options: {} }), { shelf: 3 })
  await assert.rejects(open('no-such-plugin'), /plugin "no-such-plugin" not found/)
})
