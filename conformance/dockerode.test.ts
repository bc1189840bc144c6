import assert from 'node:assert/strict'
import { PassThrough, Writable } from 'node:stream'
import { test } from 'node:test'
import Docker from 'dockerode'

// dockerode's ordinary use, against the engine that DOCKER_HOST names

const docker = new Docker()

async function textOf(stream: NodeJS.ReadableStream): Promise<string> {
  let text = ''
  for await (const chunk of stream) text += chunk.toString()
  return text
}

/** Takes a multiplexed stream apart. */
async function demuxed(stream: NodeJS.ReadableStream): Promise<{ out: string, err: string }> {
  const [out, err] = [new PassThrough(), new PassThrough()]
  docker.modem.demuxStream(stream, out, err)
  stream.on('end', () => {
    out.end()
    err.end()
  })
  const [first, second] = await Promise.all([textOf(out), textOf(err)])
  return { out: first, err: second }
}

test('the engine says what it is', async () => {
  assert.equal((await docker.ping()).toString(), 'OK')
  const version = await docker.version()
  assert.match(version.ApiVersion, /^1\.\d+$/)
  const info = await docker.info()
  assert.ok(info.NCPU > 0 && info.MemTotal > 0)
  assert.ok((await docker.df()).LayersSize > 0)
})

test('run: output, exit status, and what is left', async () => {
  let said = ''
  const sink = new Writable({ write(chunk, _encoding, done) {
    said += chunk.toString()
    done()
  } })
  const [result, container] = await docker.run('services', ['bash', '-c', 'echo out; echo err >&2; exit 3'], sink, { Tty: false, HostConfig: { AutoRemove: false } })
  assert.equal(result.StatusCode, 3)
  assert.match(said, /out/)
  assert.equal((await container.inspect()).State.ExitCode, 3)
  await container.remove()
  await assert.rejects(container.inspect(), (error: { statusCode?: number }) => error.statusCode === 404)
})

test('attach: input goes in, output comes out', async () => {
  const container = await docker.createContainer({ Image: 'services', Cmd: ['cat'], OpenStdin: true, StdinOnce: true, Tty: false, AttachStdin: true, AttachStdout: true, AttachStderr: true })
  const stream = await container.attach({ stream: true, stdin: true, stdout: true, stderr: true, hijack: true })
  const output = demuxed(stream)
  await container.start()
  stream.write('through\n')
  stream.end()
  await container.wait()
  assert.equal((await output).out, 'through\n')
  await container.remove()
})

test('exec: streams, environment, user, exit code', async () => {
  const container = await docker.createContainer({ Image: 'services', Cmd: ['sleep', '1000'] })
  await container.start()
  const exec = await container.exec({ Cmd: ['bash', '-c', 'id -un; echo $A; pwd; echo bad >&2; exit 4'], Env: ['A=b'], User: 'games', WorkingDir: '/tmp', AttachStdout: true, AttachStderr: true })
  const { out, err } = await demuxed(await exec.start({ hijack: true, stdin: false }))
  assert.deepEqual([out, err], ['games\nb\n/tmp\n', 'bad\n'])
  assert.equal((await exec.inspect()).ExitCode, 4)
  const terminal = await container.exec({ Cmd: ['tty'], Tty: true, AttachStdout: true })
  assert.match(await textOf(await terminal.start({ hijack: true, Tty: true })), /\/dev\/pts\/\d+/)
  await container.remove({ force: true })
})

test('logs, followed and not; stats, once and as a stream; top; changes', async () => {
  const container = await docker.createContainer({ Image: 'services', Cmd: ['bash', '-c', 'for i in 1 2 3; do echo line $i; sleep 0.2; done; touch /new; sleep 1000'] })
  await container.start()
  const followed = await container.logs({ follow: true, stdout: true, stderr: true })
  let heard = ''
  docker.modem.demuxStream(followed, new Writable({ write(chunk, _encoding, done) {
    heard += chunk.toString()
    done()
  } }), new PassThrough())
  while (!heard.includes('line 3')) await new Promise((resolve) => setTimeout(resolve, 20))
  ;(followed as unknown as { destroy(): void }).destroy()
  const logs = await container.logs({ stdout: true, stderr: true, tail: 1, timestamps: true })
  assert.match(logs.toString(), /\d{4}-\d\d-\d\dT.*line 3\n$/)
  const stats = await container.stats({ stream: false })
  assert.ok(stats.memory_stats.usage > 0 && stats.cpu_stats.cpu_usage.total_usage > 0)
  const stream = await container.stats({ stream: true })
  const first = await new Promise<Buffer>((resolve) => (stream as unknown as NodeJS.ReadableStream).once('data', resolve))
  assert.equal(JSON.parse(first.toString().split('\n')[0]!).id, container.id)
  ;(stream as unknown as { destroy(): void }).destroy()
  assert.ok((await container.top()).Processes.some((row: string[]) => row.join(' ').includes('sleep 1000')))
  assert.ok((await container.changes()).some(({ Path, Kind }: { Path: string, Kind: number }) => Path === '/new' && Kind === 1))
  await container.remove({ force: true })
})

test('the life of a container: start, pause, update, rename, restart, stop, kill, commit, events', async () => {
  const events = await docker.getEvents({ filters: { type: ['container'] } })
  const told: string[] = []
  events.on('data', (chunk: Buffer) => chunk.toString().split('\n').filter(Boolean).forEach((line) => told.push(JSON.parse(line).Action)))
  const container = await docker.createContainer({ Image: 'services', Cmd: ['sleep', '1000'], name: 'living', Labels: { a: 'b' }, HostConfig: { Memory: 64 << 20 } })
  await container.start()
  await assert.rejects(container.start(), (error: { statusCode?: number }) => error.statusCode === 304)
  await container.pause()
  await container.unpause()
  await container.update({ Memory: 128 << 20, MemorySwap: 256 << 20 })
  assert.equal((await container.inspect()).HostConfig.Memory, 128 << 20)
  await container.rename({ name: 'renamed' })
  assert.equal((await docker.getContainer('renamed').inspect()).Id, container.id)
  await container.restart({ t: 0 })
  const image = await container.commit({ repo: 'living', tag: 'one', changes: 'ENV C=d' })
  assert.match(image.Id, /^sha256:/)
  assert.equal((await docker.listContainers({ filters: { label: ['a=b'] } })).length, 1)
  await container.kill()
  await container.remove()
  await docker.getImage('living:one').remove()
  while (!told.includes('destroy')) await new Promise((resolve) => setTimeout(resolve, 20))
  ;(events as unknown as { destroy(): void }).destroy()
  for (const action of ['create', 'start', 'pause', 'unpause', 'update', 'rename', 'restart', 'commit', 'kill', 'die', 'destroy']) assert.ok(told.includes(action), action)
})

test('archives go in and out', async () => {
  const container = await docker.createContainer({ Image: 'services', Cmd: ['true'] })
  const { execFileSync } = await import('node:child_process')
  const tar = execFileSync('sh', ['-c', 'd=$(mktemp -d); echo text > $d/file; tar c -C $d file; rm -r $d'])
  await container.putArchive(tar, { path: '/tmp' })
  const info = await container.infoArchive({ path: '/tmp/file' })
  assert.ok(info.headers['x-docker-container-path-stat'])
  info.resume()
  const out = await container.getArchive({ path: '/tmp/file' })
  assert.match(await textOf(out), /text\n/)
  await container.remove()
})

test('volumes and networks', async () => {
  const volume = await docker.createVolume({ Name: 'kept', Labels: { x: 'y' } })
  assert.equal((await docker.listVolumes({ filters: JSON.stringify({ label: ['x=y'] }) as never })).Volumes.length, 1)
  const network = await docker.createNetwork({ Name: 'meeting', Labels: { x: 'y' } })
  const server = await docker.createContainer({ Image: 'services', name: 'server', Cmd: ['sleep', '1000'], HostConfig: { Binds: ['kept:/data'], NetworkMode: 'meeting' } })
  await server.start()
  const [result] = await docker.run('services', ['getent', 'hosts', 'server'], new PassThrough().resume(), { HostConfig: { NetworkMode: 'meeting', AutoRemove: true } })
  assert.equal(result.StatusCode, 0)
  await network.disconnect({ Container: server.id })
  await network.connect({ Container: server.id })
  assert.ok(Object.keys((await network.inspect()).Containers ?? {}).includes(server.id))
  await server.remove({ force: true })
  await network.remove()
  await docker.getVolume(volume.name).remove()
  const pruned = await docker.pruneContainers()
  assert.ok('SpaceReclaimed' in pruned)
})
