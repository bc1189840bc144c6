import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { request } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { after, before, test } from 'node:test'
import bcrypt from 'bcryptjs'
import { TestDaemon, freePort } from './daemon.ts'
import { Faults, TestRegistry, ask, imageOf, layerOf, putImage, sha256, tarOf, type Fault, type MadeImage } from './registries.ts'

let daemon: TestDaemon
let registry: TestRegistry
before(async () => {
  daemon = new TestDaemon()
  await daemon.start()
  registry = await TestRegistry.start('berth')
})
after(async () => {
  await daemon?.[Symbol.asyncDispose]()
  await registry?.[Symbol.asyncDispose]()
})

interface Pulled { status: number, lines: any[], error: string }

/** Pulls by the API. Returns its lines, and what it ended with. */
async function pull(name: string, on: TestDaemon = daemon, query = ''): Promise<Pulled> {
  const [, repository = '', tag = ''] = /^(.*?)(?:[:@]((?:sha256:)?[\w.-]+))?$/.exec(name.replace(/^(127\.0\.0\.1):(\d+)/, '$1;$2')) ?? []
  const answer = await on.call('POST', `/images/create?fromImage=${encodeURIComponent(repository.replace(';', ':'))}&tag=${tag}${query}`)
  const lines = answer.text.trim().split('\r\n').filter(Boolean).map((line) => JSON.parse(line))
  return { status: answer.status, lines, error: lines.at(-1)?.error ?? lines.at(-1)?.message ?? '' }
}

const statuses = (pulled: Pulled): string[] => pulled.lines.map(({ status }) => status)

async function push(name: string, tag: string, on: TestDaemon = daemon): Promise<{ lines: any[], error: string, digest: string }> {
  const answer = await on.call('POST', `/images/${encodeURIComponent(name)}/push?tag=${tag}`)
  const lines = answer.text.trim().split('\r\n').filter(Boolean).map((line) => JSON.parse(line))
  return { lines, error: lines.at(-1)?.error ?? lines.at(-1)?.message ?? '', digest: lines.findLast(({ aux }) => aux)?.aux.Digest ?? '' }
}

async function inspect(name: string, on: TestDaemon = daemon): Promise<any> {
  const { status, body } = await on.call('GET', `/images/${encodeURIComponent(name)}/json`)
  return status === 200 ? body : undefined
}

/** What a daemon has on disk of layers and of what it fetches, and whether nothing of it is seen. */
async function remains(on: TestDaemon = daemon): Promise<{ images: number, layers: number, blobs: number, ingest: number }> {
  const at = (...names: string[]): string[] => (existsSync(join(on.directory, 'data', ...names)) ? readdirSync(join(on.directory, 'data', ...names)) : [])
  const images = (await on.call('GET', '/images/json?all=1')).body.length
  const driver = (await on.call('GET', '/info')).body.Driver as string
  return { images, layers: at(driver.replace(/2$/, '')).filter((name) => name.length === 64).length, blobs: at('blobs', 'sha256').length, ingest: at('ingest').length }
}

async function removeAll(on: TestDaemon = daemon): Promise<void> {
  for (const { Id } of (await on.call('GET', '/images/json?all=1')).body) await on.call('DELETE', `/images/${Id}?force=1`)
  await on.call('POST', '/images/prune')
}

const randomLayer = (bytes: number) => layerOf(tarOf({ [`f${randomBytes(4).toString('hex')}`]: randomBytes(bytes) }))

test('layers of all kinds are pulled, checked, run, and have the same digest wherever they are pushed', async () => {
  await using other = await TestRegistry.start('docker')
  const tar = tarOf({ a: 'a' })
  for (const [name, image] of Object.entries({
    mixed: imageOf([layerOf(tar, 'gzip'), layerOf(tarOf({ b: 'b' }), 'zstd'), layerOf(tarOf({ c: 'c' }), 'plain')]), docker: imageOf([layerOf(tar, 'gzip', 'docker')], { kind: 'docker' }),
    twice: imageOf([layerOf(tar), layerOf(tar)]), empty: imageOf([]), hundred: imageOf(Array.from({ length: 100 }, (_, at) => layerOf(tarOf({ [`f${at}`]: String(at) })))),
  })) {
    await putImage(registry.port, 'kinds', name, image)
    const pulled = await pull(`${registry.name}/kinds:${name}`)
    assert.equal(pulled.error, '', name)
    assert.ok(statuses(pulled).includes(`Digest: ${image.digest}`))
    assert.equal(statuses(pulled).at(-1), `Status: Downloaded newer image for ${registry.name}/kinds:${name}`)
    const inspected = await inspect(`${registry.name}/kinds:${name}`)
    assert.deepEqual([inspected.Id, inspected.RepoDigests], [image.id, [`${registry.name}/kinds@${image.digest}`]])
    assert.equal(statuses(await pull(`${registry.name}/kinds:${name}`)).at(-1), `Status: Image is up to date for ${registry.name}/kinds:${name}`)
    await daemon.call('POST', `/images/${encodeURIComponent(`${registry.name}/kinds:${name}`)}/tag?repo=${other.name}/kinds&tag=${name}`)
    const pushed = await push(`${other.name}/kinds`, name)
    assert.deepEqual([pushed.error, pushed.digest], ['', image.digest])
    // and by an archive: what skopeo reads of it is what was pulled
    const archive = await new Promise<Buffer>((resolve, reject) => request({ socketPath: daemon.socket, path: `/images/${encodeURIComponent(`${registry.name}/kinds:${name}`)}/get` }, (response) => {
      const chunks: Buffer[] = []
      response.on('data', (chunk: Buffer) => chunks.push(chunk))
      response.on('end', () => resolve(Buffer.concat(chunks)))
    }).on('error', reject).end())
    const file = join(daemon.directory, 'saved.tar')
    writeFileSync(file, archive)
    const { stdout } = spawnSync('skopeo', ['inspect', '--raw', `oci-archive:${file}`])
    assert.equal(sha256(stdout), image.digest)
  }
  await removeAll()
  assert.deepEqual(await remains(), { images: 0, layers: 0, blobs: 0, ingest: 0 })
})

test('of an index the platform is chosen, and what is no image is refused in words', async () => {
  const { port, name } = registry
  const images = ['amd64', 'arm64'].map((architecture) => imageOf([layerOf(tarOf({ [architecture]: '' }))], { architecture }))
  const entries = []
  for (const [at, image] of images.entries()) {
    await putImage(port, 'multi', image.digest, image)
    entries.push({ mediaType: image.mediaType, digest: image.digest, size: image.manifest.length, platform: { os: 'linux', architecture: ['amd64', 'arm64'][at] } })
  }
  const put = async (tag: string, value: object): Promise<string> => {
    const text = JSON.stringify(value)
    const { status, body } = await ask(port, 'PUT', `/v2/multi/manifests/${tag}`, { headers: { 'Content-Type': (value as { mediaType: string }).mediaType }, body: text })
    assert.equal(status, 201, body.toString())
    return sha256(text)
  }
  const index = await put('latest', { schemaVersion: 2, mediaType: 'application/vnd.oci.image.index.v1+json', manifests: entries })
  assert.equal((await pull(`${name}/multi:latest`)).error, '')
  assert.deepEqual(await inspect(`${name}/multi:latest`).then(({ Id, RepoDigests }) => [Id, RepoDigests]), [images[0]!.id, [`${name}/multi@${index}`]])
  assert.equal((await pull(`${name}/multi:latest`, daemon, '&platform=linux/arm64')).error, '')
  assert.equal((await inspect(`${name}/multi:latest`)).Architecture, 'arm64')
  assert.equal((await pull(`${name}/multi:latest`, daemon, '&platform=linux/s390x')).error, 'no matching manifest for linux/s390x in the manifest list entries')
  assert.equal((await pull(`${name}/multi:latest`, daemon, '&platform=plan9')).status, 400)
  const remote = await daemon.call('GET', `/distribution/${name}/multi:latest/json`)
  assert.deepEqual([remote.body.Descriptor.digest, remote.body.Platforms.map(({ architecture }: { architecture: string }) => architecture)], [index, ['amd64', 'arm64']])
  const nested = await put('nested', { schemaVersion: 2, mediaType: 'application/vnd.oci.image.index.v1+json', manifests: [{ mediaType: 'application/vnd.oci.image.index.v1+json', digest: index, size: JSON.stringify({ schemaVersion: 2, mediaType: 'application/vnd.oci.image.index.v1+json', manifests: entries }).length, platform: { os: 'linux', architecture: 'amd64' } }] })
  assert.ok(nested && (await pull(`${name}/multi:nested`)).error === '')
  const artifact = imageOf([layerOf(tarOf({ chart: '' }))], { change: (manifest) => ({ ...manifest, config: { ...manifest.config, mediaType: 'application/vnd.cncf.helm.config.v1+json' } }) })
  await putImage(port, 'multi', 'chart', artifact)
  assert.match((await pull(`${name}/multi:chart`)).error, /is no image: its configuration is application\/vnd\.cncf\.helm/)
  await removeAll()
})

test('a connection that breaks anywhere is taken up where it broke', async () => {
  await using faults = await new Faults(registry.port).listen()
  const layer = randomLayer(500_000)
  const image = imageOf([layer])
  await putImage(registry.port, 'cuts', '1', image)
  const { length } = layer.data
  for (const cut of [0, 1, 100, 65_536, length >> 1, length - 1]) {
    faults.seen.length = 0
    faults.passed = 0
    faults.rule = (method, url, count) => (method === 'GET' && url.includes(sha256(layer.data)) && count < 2 ? { cut } : undefined)
    assert.equal((await pull(`${faults.name}/cuts:1`)).error, '', `cut at ${cut}`)
    const ranges = faults.seen.filter(({ url }) => url.includes(sha256(layer.data))).map(({ range }) => range)
    assert.equal(ranges.length, cut >= length - cut ? 2 : 3, String(ranges))
    if (cut > 0) assert.equal(ranges[1], `bytes=${cut}-`)
    assert.ok(faults.passed < length + 10_000, `${faults.passed} bytes for ${length}`)
    await removeAll()
  }
  // manifest and configuration, too
  for (const part of ['/manifests/', image.id]) {
    faults.seen.length = 0
    faults.rule = (method, url, count) => (method === 'GET' && url.includes(part) && count === 0 ? { cut: 20 } : undefined)
    assert.equal((await pull(`${faults.name}/cuts:1`)).error, '', part)
    await removeAll()
  }
  assert.deepEqual(await remains(), { images: 0, layers: 0, blobs: 0, ingest: 0 })
})

test('what is not what it says is refused, nothing of it is seen, and the next try succeeds', async () => {
  await using faults = await new Faults(registry.port).listen()
  const { port } = registry
  const good = randomLayer(200_000)
  const image = imageOf([good])
  await putImage(port, 'lies', 'good', image)
  faults.rule = (method, url) => (method === 'GET' && url.includes(sha256(good.data)) ? { corrupt: true } : undefined)
  const corrupt = await pull(`${faults.name}/lies:good`)
  assert.match(corrupt.error, /filesystem layer verification failed for digest sha256:|can't decompress the archive|unexpected EOF|archive\/tar|invalid diffID/)
  assert.equal((await remains()).images + (await remains()).layers, 0)
  faults.rule = () => undefined
  assert.equal((await pull(`${faults.name}/lies:good`)).error, '')
  await removeAll()
  faults.rule = (method, url) => (method === 'GET' && url.includes(image.id) ? { corrupt: true } : undefined)
  assert.match((await pull(`${faults.name}/lies:good`)).error, /image config verification failed for digest/)
  faults.rule = (method, url) => (method === 'GET' && url.endsWith(`/manifests/${image.digest}`) ? { corrupt: true } : undefined)
  assert.match((await pull(`${faults.name}/lies@${image.digest}`)).error, /manifest verification failed for digest|invalid manifest/)
  faults.rule = (method, url) => (method === 'GET' && url.endsWith('/manifests/good') ? { status: 200, headers: { 'Content-Type': 'application/vnd.docker.distribution.manifest.v2+json' }, body: image.manifest } : undefined)
  assert.match((await pull(`${faults.name}/lies:good`)).error, /it was served as .*docker.*, but says that it is .*oci/)
  faults.rule = (method, url) => (method === 'GET' && url.endsWith('/manifests/good') ? { status: 200, headers: { 'Content-Type': 'application/vnd.docker.distribution.manifest.v1+prettyjws' }, body: '{"schemaVersion":1}' } : undefined)
  assert.match((await pull(`${faults.name}/lies:good`)).error, /schema 1 is not supported/)
  faults.rule = (method, url) => (method === 'GET' && url.endsWith('/manifests/good') ? { status: 200, headers: { 'Content-Type': image.mediaType }, body: `{"x":"${'x'.repeat(5 << 20)}"}` } : undefined)
  assert.match((await pull(`${faults.name}/lies:good`)).error, /larger than 4194304 bytes/)
  // layers that are right by their digest, and wrong all the same
  const bad = async (tag: string, made: MadeImage, says: RegExp, over = made.manifest): Promise<void> => {
    await putImage(port, 'lies', tag, made)
    faults.rule = (method, url) => (method === 'GET' && url.endsWith(`/manifests/${tag}`) ? { status: 200, headers: { 'Content-Type': made.mediaType }, body: over } : undefined)
    assert.match((await pull(`${faults.name}/lies:${tag}`)).error, says, tag)
    const left = await remains()
    assert.deepEqual([left.images, left.layers], [0, 0], tag)
  }
  const tar = tarOf({ big: randomBytes(100_000) })
  const whole = layerOf(tar)
  const truncated = { ...whole, data: whole.data.subarray(0, whole.data.length >> 1) }
  await bad('truncated', imageOf([truncated]), /unexpected end of file|unexpected EOF/)
  await bad('cut-tar', imageOf([{ ...whole, data: gzipSync(tar.subarray(0, 50_000)) }]), /unexpected EOF/)
  await bad('diff-id', imageOf([{ ...whole, diffId: sha256('other') }]), /invalid diffID for layer: expected/)
  await bad('garbage', imageOf([{ ...whole, data: randomBytes(5000) }]), /archive\/tar|invalid/)
  await bad('escape', imageOf([layerOf(spawnSync('tar', ['c', '-P', '--transform=s,^,../../../,', '/etc/hostname']).stdout)]), /outside of the root/)
  const sized = (delta: number) => imageOf([whole], { change: (manifest) => ({ ...manifest, layers: [{ ...manifest.layers[0], size: manifest.layers[0].size + delta }] }) })
  await bad('sizes', imageOf([whole]), /more than the \d+ bytes|has \d+ bytes, and not/, sized(-10).manifest)
  await bad('sizes', imageOf([whole]), /unexpected EOF|has \d+ bytes, and not/, sized(10).manifest)
  const fewer = imageOf([whole], { config: { rootfs: { type: 'layers', diff_ids: [] } } })
  await bad('count', fewer, /layers from manifest don't match image configuration/)
  assert.equal((await pull(`${registry.name}/lies:good`)).error, '')
  await removeAll()
})

test('refusals and troubles at every step have their words, and pass when they pass', async () => {
  await using faults = await new Faults(registry.port).listen()
  const image = imageOf([randomLayer(1000)])
  await putImage(registry.port, 'steps', '1', image)
  const parts = { manifest: '/manifests/1', config: image.id, layer: sha256(image.layers[0]!.data) }
  const json = (code: string): string => JSON.stringify({ errors: [{ code, message: 'said so' }] })
  for (const [part, url] of Object.entries(parts)) {
    const failing = async (fault: Fault, times: number): Promise<string> => {
      faults.seen.length = 0
      faults.rule = (method, at, count) => (method === 'GET' && at.includes(url) && count < times ? fault : undefined)
      const { error } = await pull(`${faults.name}/steps:1`)
      const left = await remains()
      if (error) assert.deepEqual([left.images, left.layers], [0, 0], part)
      else await removeAll()
      return error
    }
    assert.match(await failing({ status: 403, body: json('DENIED') }, 9), /pull access denied for .*\/steps, repository does not exist or may require 'docker login': denied: said so/)
    assert.match(await failing({ status: 404, body: json(part === 'manifest' ? 'MANIFEST_UNKNOWN' : 'BLOB_UNKNOWN') }, 9), part === 'manifest' ? /manifest for .*\/steps:1 not found: manifest unknown: said so/ : /blob unknown: said so/)
    assert.match(await failing({ status: 401, body: json('UNAUTHORIZED') }, 9), /pull access denied .*unauthorized: said so/)
    assert.match(await failing({ status: 500, body: '<html>' }, 99), /received unexpected HTTP status: 500/)
    assert.equal(await failing({ status: 503 }, 2), '')
    assert.equal(await failing({ status: 429, headers: { 'Retry-After': '1' } }, 1), '')
    assert.match(await failing({ status: 429, headers: { 'Retry-After': '7200' }, body: json('TOOMANYREQUESTS') }, 1), /toomanyrequests: said so/)
    assert.match(await failing({ status: 302, headers: { Location: `/v2/steps${url.startsWith('/') ? url : `/blobs/${url}`}` } }, 99), /stopped after 10 redirects/)
    assert.match(await failing({ status: 307, headers: { Location: 'ftp://somewhere/else' } }, 1), /which is no way to a registry's content/)
  }
  await removeAll()
  assert.deepEqual(await remains(), { images: 0, layers: 0, blobs: 0, ingest: 0 })
  const nobody = await freePort()
  assert.match((await pull(`127.0.0.1:${nobody}/x:1`)).error, new RegExp(`Get "http://127.0.0.1:${nobody}/v2/": dial tcp 127.0.0.1:${nobody}: connect: connection refused`))
})

test('two who want the same get it once; who leaves does not take it from the other', async () => {
  await using faults = await new Faults(registry.port).listen()
  const image = imageOf([randomLayer(2_000_000), randomLayer(1000)])
  const blob = sha256(image.layers[0]!.data)
  await putImage(registry.port, 'shared', '1', image)
  await putImage(registry.port, 'shared', '2', imageOf([...image.layers, randomLayer(10)]))
  faults.rule = (_method, url) => (url.includes(blob) ? { rate: 4e6 } : undefined)
  const leaving = request({ socketPath: daemon.socket, method: 'POST', path: `/images/create?fromImage=${faults.name}/shared&tag=1` })
  leaving.on('error', () => {})
  leaving.end()
  const both = Promise.all([pull(`${faults.name}/shared:1`), pull(`${faults.name}/shared:2`)])
  await new Promise((resolve) => setTimeout(resolve, 200))
  leaving.destroy()
  for (const { error } of await both) assert.equal(error, '')
  assert.equal(faults.gets(blob), 1)
  await removeAll()
  // when all have left, it stops; what has come stays, also when the engine is killed
  faults.seen.length = 0
  const gone = request({ socketPath: daemon.socket, method: 'POST', path: `/images/create?fromImage=${faults.name}/shared&tag=1` })
  gone.on('error', () => {})
  gone.end()
  await new Promise((resolve) => setTimeout(resolve, 300))
  gone.destroy()
  await faults.seen.find(({ url }) => url.includes(blob))!.closed
  for (let tries = 0; (await remains()).layers > 0; tries++) {
    assert.ok(tries < 100, 'a layer is left')
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
  await daemon.stop('SIGKILL')
  await daemon.start()
  faults.seen.length = 0
  assert.equal((await pull(`${faults.name}/shared:1`)).error, '')
  assert.match(faults.seen.find(({ url }) => url.includes(blob))!.range ?? '', /^bytes=[1-9]\d+-$/)
  await removeAll()
})

test('an engine that is killed in the middle of a pull has nothing half, and goes on with what it had', async () => {
  await using faults = await new Faults(registry.port).listen()
  const image = imageOf([randomLayer(1_000_000), randomLayer(1_000_000), randomLayer(1_000_000)])
  await putImage(registry.port, 'killed', '1', image)
  faults.rule = (_method, url) => (url.includes('/blobs/') ? { rate: 5e6 } : undefined)
  for (const delay of [30, 150, 250, 400]) {
    void pull(`${faults.name}/killed:1`).catch(() => {})
    await new Promise((resolve) => setTimeout(resolve, delay))
    await daemon.stop('SIGKILL')
    await daemon.start()
    const left = await remains()
    if (left.images === 0) assert.equal(left.layers, 0, `killed after ${delay} ms`)
  }
  faults.rule = () => undefined
  assert.equal((await pull(`${faults.name}/killed:1`)).error, '')
  for (const layer of image.layers) assert.ok(existsSync(join(daemon.directory, 'data/blobs/sha256', sha256(layer.data).slice(7))))
  await removeAll()
  assert.deepEqual(await remains(), { images: 0, layers: 0, blobs: 0, ingest: 0 })
})

test('a full disk is said, and is no end: with room again the pull goes on', async () => {
  const full = new TestDaemon()
  const data = join(full.directory, 'data')
  mkdirSync(data)
  spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=40m', 'none', data])
  try {
    await full.start()
    await using faults = await new Faults(registry.port).listen()
    const image = imageOf([randomLayer(12_000_000), randomLayer(12_000_000)])
    await putImage(registry.port, 'full', '1', image)
    assert.match((await pull(`${faults.name}/full:1`, full)).error, /no space left on device/)
    const left = await remains(full)
    assert.deepEqual([left.images, left.layers], [0, 0])
    assert.equal((await full.call('GET', '/_ping')).status, 200)
    spawnSync('mount', ['-o', 'remount,size=128m', data])
    faults.seen.length = 0
    faults.passed = 0
    assert.equal((await pull(`${faults.name}/full:1`, full)).error, '')
    assert.ok(faults.passed < 20_000_000, 'what had come was kept')
    // a bomb: gigabytes of nothing in a few kilobytes

    const bomb = layerOf(tarOf({ bomb: Buffer.alloc(200_000_000) }))
    await putImage(registry.port, 'full', 'bomb', imageOf([bomb]))
    assert.match((await pull(`${faults.name}/full:bomb`, full)).error, /no space left on device/)
    assert.equal((await remains(full)).images, 1)
    assert.ok((await inspect(`${faults.name}/full:1`, full)).Id)
  } finally {
    await full.stop()
    spawnSync('umount', ['-l', data])
    await full[Symbol.asyncDispose]()
  }
})

test('pushes go in parallel, skip and mount what is there, and go on after a break', async () => {
  await using faults = await new Faults(registry.port).listen()
  const image = imageOf([randomLayer(1_000_000), randomLayer(2000)])
  await putImage(registry.port, 'up', '1', image)
  await pull(`${faults.name}/up:1`)
  await using target = await TestRegistry.start('berth')
  await using broken = await new Faults(target.port).listen()
  const tag = (repository: string): ReturnType<typeof daemon.call> => daemon.call('POST', `/images/${encodeURIComponent(`${faults.name}/up:1`)}/tag?repo=${broken.name}/${repository}&tag=1`)
  for (const [at, fault] of ([{ cutRequest: 300_000 }, { status: 500 }, { status: 503 }, { status: 429, headers: { 'Retry-After': '1' } }] as Fault[]).entries()) {
    await tag(`r${at}`)
    broken.seen.length = 0
    const failed = new Set<string>()
    broken.rule = (method, _url, count) => {
      if (fault.cutRequest) return method === 'PATCH' && count === 0 ? fault : undefined
      if (failed.has(method) || method !== 'PATCH' && !(fault.status && method === 'PUT')) return undefined
      failed.add(method)
      return fault
    }
    const pushed = await push(`${broken.name}/r${at}`, '1')
    assert.deepEqual([pushed.error, pushed.digest], ['', image.digest], JSON.stringify(fault))
    assert.equal(sha256((await ask(target.port, 'GET', `/v2/r${at}/blobs/${sha256(image.layers[0]!.data)}`)).body), sha256(image.layers[0]!.data))
    broken.rule = () => undefined
    if (at === 0) {
      assert.ok(broken.seen.some(({ method, url }) => method === 'GET' && url.includes('/uploads/')), 'it asked how far it had got')
      assert.deepEqual((await push(`${broken.name}/r0`, '1')).lines.filter(({ status }) => status === 'Layer already exists').length, 2)
    } else assert.ok(pushed.lines.some(({ status }) => status.startsWith('Mounted from r')))
    await ask(target.port, 'DELETE', `/v2/r${at}/blobs/${sha256(image.layers[0]!.data)}`)
  }
  await tag('denied')
  broken.rule = (method) => (method === 'POST' ? { status: 403, body: '{"errors":[{"code":"DENIED","message":"requested access to the resource is denied"}]}' } : undefined)
  assert.equal((await push(`${broken.name}/denied`, '1')).error, 'denied: requested access to the resource is denied')
  assert.equal((await push(`${broken.name}/denied`, 'nope')).error, `tag does not exist: ${broken.name}/denied:nope`)
  assert.equal((await push(`${broken.name}/nowhere`, '1')).error, `An image does not exist locally with the tag: ${broken.name}/nowhere`)
  await removeAll()
})

test('an image that was made here has one digest, however often it is pushed, and dockerd\'s kind of manifest', async () => {
  await daemon.importStarter()
  for (const tag of ['one', 'two']) await daemon.call('POST', `/images/starter/tag?repo=${registry.name}/made&tag=${tag}`)
  const first = await push(`${registry.name}/made`, 'one')
  const second = await push(`${registry.name}/made`, 'two')
  assert.ok(first.digest && first.digest === second.digest)
  const manifest = JSON.parse((await ask(registry.port, 'GET', '/v2/made/manifests/one')).body.toString())
  assert.deepEqual([manifest.mediaType, manifest.layers[0].mediaType], ['application/vnd.docker.distribution.manifest.v2+json', 'application/vnd.docker.image.rootfs.diff.tar.gzip'])
  await removeAll()
  assert.equal((await pull(`${registry.name}/made:one`)).error, '')
  await daemon.call('POST', `/images/${encodeURIComponent(`${registry.name}/made:one`)}/tag?repo=starter`)
  assert.equal((await daemon.run({ Cmd: ['echo', 'hi'], HostConfig: { NetworkMode: 'none' } })).logs, 'hi\n')
  const all = await push(`${registry.name}/made`, '')
  assert.equal(all.error, '')
  await daemon.call('POST', '/containers/prune')
  await removeAll()
})

test('all tags are pulled, and names go by digest', async () => {
  const image = imageOf([randomLayer(10)])
  for (const tag of ['a', 'b']) await putImage(registry.port, 'many', tag, image)
  const pulled = await pull(`${registry.name}/many`)
  assert.equal(statuses(pulled).at(-1), `Status: Downloaded newer image for ${registry.name}/many`)
  const name = `${registry.name}/many`
  assert.deepEqual((await inspect(`${name}:a`)).RepoTags.toSorted(), [`${name}:a`, `${name}:b`])
  const rows = async (text: string): Promise<string[]> => (await daemon.call('DELETE', `/images/${encodeURIComponent(text)}`)).body.map((row: Record<string, string>) => row['Untagged'] ?? 'deleted')
  assert.deepEqual(await rows(`${name}@${image.digest}`), [`${name}@${image.digest}`])
  assert.equal((await pull(`${name}@${image.digest}`)).error, '')
  assert.deepEqual(await rows(`${name}:a`), [`${name}:a`])
  assert.deepEqual(await rows(`${name}:b`), [`${name}:b`, `${name}@${image.digest}`, 'deleted', 'deleted'])
  await pull(`${name}@${image.digest}`)
  assert.deepEqual(await rows(`${name}@${image.digest}`), [`${name}@${image.digest}`, 'deleted', 'deleted'])
})

test('a mirror is asked first, and does without when it is broken; a proxy is gone through', async () => {
  await using mirror = await new Faults(registry.port).listen()
  await using own = await new Faults(registry.port).listen()
  const image = imageOf([randomLayer(10_000)])
  await putImage(registry.port, 'mirrored', '1', image)
  const proxied: string[] = []
  const { createServer } = await import('node:http')
  const proxy = createServer((incoming, response) => {
    proxied.push(incoming.url!)
    const url = new URL(incoming.url!)
    incoming.pipe(request({ host: '127.0.0.1', port: registry.port, path: url.pathname + url.search, method: incoming.method!, headers: incoming.headers }, (answer) => {
      response.writeHead(answer.statusCode!, answer.headers)
      answer.pipe(response)
    }))
  })
  await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve))
  const port = (proxy.address() as { port: number }).port
  await using mirrored = new TestDaemon()
  await mirrored.start({}, { flags: ['--registry-mirror', `${own.name}=http://${mirror.name}`, '--insecure-registry', 'registry.lan:5000', '--http-proxy', `http://127.0.0.1:${port}`] })
  assert.equal((await pull(`${own.name}/mirrored:1`, mirrored)).error, '')
  assert.equal(own.seen.length, 0)
  await removeAll(mirrored)
  mirror.rule = (_method, url) => (url.includes('/blobs/') ? { status: 404 } : undefined)
  assert.equal((await pull(`${own.name}/mirrored:1`, mirrored)).error, '')
  assert.ok(own.gets() > 0)
  await removeAll(mirrored)
  mirror.rule = () => ({ status: 502 })
  assert.equal((await pull(`${own.name}/mirrored:1`, mirrored)).error, '')
  await removeAll(mirrored)
  assert.deepEqual((await mirrored.call('GET', '/info')).body.RegistryConfig.IndexConfigs[own.name].Mirrors, [`http://${mirror.name}/`])
  assert.equal((await pull('registry.lan:5000/mirrored:1', mirrored)).error, '')
  assert.ok(proxied.some((url) => url.startsWith('http://registry.lan:5000/v2/mirrored/blobs/')))
  proxy.closeAllConnections()
  proxy.close()
})

test('logins are kept as docker keeps them, in the file or with a helper, and shown to whom they are for', async () => {
  const work = mkdtempSync(join(tmpdir(), 'berth-login-'))
  try {
    writeFileSync(join(work, 'htpasswd'), `alice:${bcrypt.hashSync('secret', 4)}\n`)
    await using guarded = await TestRegistry.start('berth', ['--htpasswd', join(work, 'htpasswd')])
    const config = join(work, 'config')
    const cli = (args: string[], input = ''): ReturnType<TestDaemon['cli']> => daemon.cli(args, { input, env: { DOCKER_CONFIG: config, PATH: `${work}:${process.env['PATH']}` } })
    await daemon.importStarter()
    cli(['tag', 'starter', `${guarded.name}/s`])
    assert.match(cli(['push', `${guarded.name}/s`]).err, /no basic auth credentials/)
    const wrong = cli(['login', '-u', 'alice', '--password-stdin', guarded.name], 'wrong\n')
    assert.deepEqual([wrong.code, wrong.err], [1, `Error response from daemon: login attempt to http://${guarded.name}/v2/ failed with status: 401 Unauthorized\n`])
    assert.match(cli(['login', guarded.name]).err, /non TTY device/)
    const login = cli(['login', '-u', 'alice', '--password-stdin', guarded.name], 'secret\n')
    assert.match(login.out, /Login Succeeded/)
    assert.match(login.err, /stored unencrypted in .*config\.json/)
    assert.deepEqual(JSON.parse(readFileSync(join(config, 'config.json'), 'utf8')), { auths: { [guarded.name]: { auth: Buffer.from('alice:secret').toString('base64') } } })
    assert.match(cli(['push', `${guarded.name}/s`]).out, /latest: digest: sha256:/)
    assert.match(cli(['login', guarded.name]).out, /Authenticating with existing credentials...\nLogin Succeeded/)
    cli(['rmi', '-f', `${guarded.name}/s`])
    assert.match(cli(['run', '--rm', '--network', 'none', `${guarded.name}/s`, 'echo', 'ran']).out, /^ran$/m)
    assert.match(cli(['search', `${guarded.name}/s`]).out, /^s\s/m)
    assert.match(cli(['logout', guarded.name]).out, /Removing login credentials/)
    assert.match(cli(['logout', guarded.name]).out, /Not logged in to/)
    assert.match(cli(['pull', `${guarded.name}/s`]).err, /no basic auth credentials/)
    // a helper of one's own
    writeFileSync(join(work, 'docker-credential-box'), `#!/bin/sh\ncase $1 in\nstore) cat > ${work}/kept ;;\nget) [ -e ${work}/kept ] && cat ${work}/kept || { echo "credentials not found in native keychain"; exit 1; } ;;\nerase) rm -f ${work}/kept ;;\nesac\n`)
    chmodSync(join(work, 'docker-credential-box'), 0o755)
    writeFileSync(join(config, 'config.json'), JSON.stringify({ credHelpers: { [guarded.name]: 'box' }, detachKeys: 'ctrl-a' }))
    assert.equal(cli(['login', '-u', 'alice', '--password-stdin', guarded.name], 'secret').err, '')
    assert.deepEqual(JSON.parse(readFileSync(join(work, 'kept'), 'utf8')), { ServerURL: guarded.name, Username: 'alice', Secret: 'secret' })
    assert.ok(!readFileSync(join(config, 'config.json'), 'utf8').includes('auth"') && readFileSync(join(config, 'config.json'), 'utf8').includes('ctrl-a'))
    assert.match(cli(['pull', '-q', `${guarded.name}/s`]).out, /\/s:latest/)
    cli(['logout', guarded.name])
    assert.ok(!existsSync(join(work, 'kept')))
    writeFileSync(join(config, 'config.json'), JSON.stringify({ credsStore: 'missing' }))
    assert.match(cli(['pull', `${guarded.name}/s`]).err, /exec: "docker-credential-missing": executable file not found in \$PATH/)
    const bad = await daemon.call('POST', '/auth', { username: 'alice', password: 'no', serveraddress: guarded.name })
    assert.equal(bad.status, 401)
  } finally {
    rmSync(work, { recursive: true, force: true })
    await removeAll()
  }
})

test('progress is bars for a terminal, plain lines for a file, and quiet when asked', async () => {
  await using faults = await new Faults(registry.port).listen()
  const image = imageOf([randomLayer(1_500_000)])
  await putImage(registry.port, 'seen', '1', image)
  faults.rule = (_method, url) => (url.includes('/blobs/') ? { rate: 3e6 } : undefined)
  const id = sha256(image.layers[0]!.data).slice(7, 19)
  const plain = await daemon.cliBeside(['pull', `${faults.name}/seen:1`])
  assert.equal(plain.out, `1: Pulling from seen\n${['Pulling fs layer', 'Verifying Checksum', 'Download complete', 'Pull complete'].map((status) => `${id}: ${status}\n`).join('')}Digest: ${image.digest}\nStatus: Downloaded newer image for ${faults.name}/seen:1\n${faults.name}/seen:1\n`)
  await removeAll()
  const terminal = await new Promise<string>((resolve) => {
    const child = spawn('script', ['-qec', `${new URL('../bin/berth', import.meta.url).pathname} pull ${faults.name}/seen:1`, '/dev/null'], { env: { ...process.env, DOCKER_HOST: `unix://${daemon.socket}`, DOCKER_CONFIG: daemon.directory, COLUMNS: '120' } })
    let text = ''
    child.stdout.on('data', (chunk: Buffer) => (text += chunk.toString()))
    child.once('close', () => resolve(text))
  })
  assert.match(terminal, new RegExp(`${id}: Downloading \\[=+> +\\] +[\\d.]+[kM]B/1\\.\\d+MB`))
  assert.match(terminal, /\x1b\[1A/)
  await removeAll()
  assert.equal((await daemon.cliBeside(['pull', '-q', `${faults.name}/seen:1`])).out, `${faults.name}/seen:1\n`)
  await removeAll()
})

test('a set-up like Docker Hub works without a flag: its own names and authority, tokens, library/, limits, search', async () => {
  const work = mkdtempSync(join(tmpdir(), 'berth-hub-'))
  const openssl = (...args: string[]): void => assert.equal(spawnSync('openssl', args, { cwd: work }).status, 0)
  const hub = '127.0.31.1'
  try {
    openssl('req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-keyout', 'ca.key', '-out', 'ca.pem', '-subj', '/CN=hub authority', '-days', '2')
    openssl('req', '-newkey', 'rsa:2048', '-nodes', '-keyout', 'hub.key', '-out', 'hub.csr', '-subj', '/CN=hub')
    writeFileSync(join(work, 'names'), 'subjectAltName=DNS:registry-1.docker.io,DNS:index.docker.io,DNS:auth.docker.io')
    openssl('x509', '-req', '-in', 'hub.csr', '-CA', 'ca.pem', '-CAkey', 'ca.key', '-CAcreateserial', '-out', 'hub.pem', '-days', '2', '-extfile', 'names')
    writeFileSync(join(work, 'hosts'), `127.0.0.1 localhost\n${hub} registry-1.docker.io index.docker.io\n127.0.31.2 auth.docker.io\n`)
    const { createServer } = await import('node:https')
    const { SignJWT } = await import('jose')
    const { createPrivateKey } = await import('node:crypto')
    const key = createPrivateKey(readFileSync(join(work, 'hub.key'), 'utf8'))
    const certificate = readFileSync(join(work, 'hub.pem'), 'utf8')
    const asked: string[] = []
    const tokens = createServer({ key: readFileSync(join(work, 'hub.key')), cert: certificate }, (incoming, response) => {
      const { searchParams } = new URL(incoming.url!, 'https://x')
      const [, name = '', password = ''] = /^(.*):(.*)$/.exec(Buffer.from((incoming.headers.authorization ?? '').slice(6), 'base64').toString()) ?? []
      asked.push(`${name} ${searchParams.getAll('scope').join(' ')}`.trim())
      if (name && password !== 'secret') return void response.writeHead(401).end('{"details":"incorrect username or password"}')
      const access = searchParams.getAll('scope').map((scope) => {
        const [type, repository, actions = ''] = scope.split(':')
        return { type, name: repository, actions: actions.split(',').filter((action) => action === 'pull' && !repository!.startsWith('private/') || name === 'alice') }
      })
      void new SignJWT({ access }).setProtectedHeader({ alg: 'RS256', x5c: [certificate.replace(/-----[^-]+-----|\s/g, '')] }).setIssuer('auth.docker.io').setAudience('registry.docker.io').setExpirationTime('5m').setSubject(name).sign(key)
        .then((token) => response.end(JSON.stringify({ token, access_token: token, expires_in: 300 })))
    })
    await new Promise<void>((resolve) => tokens.listen(443, '127.0.31.2', resolve))
    const served = spawn(new URL('../bin/berth', import.meta.url).pathname, ['registry', 'serve', '--addr', `${hub}:443`, '--root', join(work, 'data'), '--tls-cert', join(work, 'hub.pem'), '--tls-key', join(work, 'hub.key'), '--token-realm', 'https://auth.docker.io/token', '--token-service', 'registry.docker.io', '--token-issuer', 'auth.docker.io', '--token-roots', join(work, 'ca.pem'), '--pull-limit', '6/6h'])
    await new Promise((resolve) => served.stdout.once('data', resolve))
    await using user = new TestDaemon()
    try {
      await user.start({ SSL_CERT_FILE: join(work, 'ca.pem') }, { through: ['unshare', '-m', 'sh', '-c', `mount --bind ${work}/hosts /etc/hosts && exec "$@"`, 'sh'] })
      await user.importStarter()
      const cli = (...args: string[]): ReturnType<TestDaemon['cliBeside']> => user.cliBeside(args) // the tokens come from this process
      await cli('tag', 'starter', 'alice/app:1')
      await cli('tag', 'starter', 'busybox')
      await cli('tag', 'starter', 'private/app')
      assert.match((await cli('push', 'alice/app:1')).err, /denied|unauthorized|authentication required|insufficient/)
      assert.match((await user.cliBeside(['login', '-u', 'alice', '--password-stdin'], 'wrong')).err, /401|incorrect username or password/)
      assert.match((await user.cliBeside(['login', '-u', 'alice', '--password-stdin'], 'secret')).out, /Login Succeeded/)
      for (const name of ['alice/app:1', 'busybox', 'private/app']) assert.match((await cli('push', name)).out, /digest: sha256:/, name)
      await cli('rmi', '-f', 'alice/app:1', 'busybox', 'private/app')
      assert.match((await cli('run', '--rm', '--network', 'none', 'busybox', 'echo', 'from the hub')).out, /from the hub/)
      assert.match((await cli('pull', 'private/app')).out, /docker\.io\/private\/app:latest/)
      await cli('logout')
      assert.match((await cli('pull', 'private/app')).err, /pull access denied for private\/app, repository does not exist or may require 'docker login'/)
      assert.match((await cli('pull', 'docker.io/library/busybox')).out, /Image is up to date for busybox:latest/)
      assert.ok(asked.includes('repository:library/busybox:pull'), asked.join('; '))
      const scopes = asked.length
      await cli('pull', 'busybox')
      assert.equal(asked.length, scopes, 'a token is used again')
      let limited = ''
      for (let at = 0; at < 8 && !limited; at++) limited = (await cli('pull', 'busybox')).err
      assert.match(limited, /toomanyrequests: too many requests/)
      // to whom the authority says nothing, it says why
      await user.stop()
      await user.start({}, { through: ['unshare', '-m', 'sh', '-c', `mount --bind ${work}/hosts /etc/hosts && exec "$@"`, 'sh'] })
      assert.match((await cli('pull', 'busybox')).err, /x509: certificate signed by unknown authority/)
    } finally {
      served.kill()
      await new Promise((resolve) => served.once('exit', resolve))
      tokens.closeAllConnections()
      tokens.close()
    }
  } finally {
    rmSync(work, { recursive: true, force: true })
  }
})

test('what a power cut leaves of pulls is whole, or not there', async () => {
  const work = mkdtempSync(join(tmpdir(), 'berth-power-'))
  const run = (command: string, ...args: string[]): void => {
    const { status, stderr } = spawnSync(command, args, { encoding: 'utf8' })
    assert.equal(status, 0, `${command}: ${stderr}`)
  }
  const disk = join(work, 'disk')
  run('truncate', '-s', '200M', disk)
  run('mkfs.ext4', '-q', disk)
  const cut = new TestDaemon()
  const data = join(cut.directory, 'data')
  mkdirSync(data)
  run('mount', '-o', 'loop,commit=1', disk, data)
  try {
    await cut.start()
    await using faults = await new Faults(registry.port).listen()
    faults.rule = (_method, url) => (url.includes('/blobs/') ? { rate: 20e6 } : undefined)
    const images: MadeImage[] = []
    let copies = 0
    for (let at = 0; at < 6; at++) {
      const image = imageOf([randomLayer(3_000_000), randomLayer(3_000_000)])
      await putImage(registry.port, 'power', String(at), image)
      images.push(image)
      const pulling = pull(`${faults.name}/power:${at}`, cut)
      // what has reached the disk at some moment is what the power's going leaves; the rest of it is in memory
      for (const delay of [60, 120]) {
        await new Promise((resolve) => setTimeout(resolve, delay))
        run('cp', '--sparse=always', disk, join(work, `copy${copies++}`))
      }
      assert.equal((await pulling).error, '')
      run('cp', '--sparse=always', disk, join(work, `copy${copies++}`))
    }
    await cut.stop()
    run('umount', data)
    for (let at = 0; at < copies; at++) {
      run('mount', '-o', 'loop', join(work, `copy${at}`), data)
      try {
        await cut.start()
        const done = Math.floor(at / 3) + (at % 3 === 2 ? 1 : 0)
        const there = (await cut.call('GET', '/images/json')).body.map(({ Id }: { Id: string }) => Id) as string[]
        for (const image of images.slice(0, done)) assert.ok(there.includes(image.id), `copy ${at}: an image that was pulled is gone`)
        for (const [number, image] of images.entries()) {
          if (!there.includes(image.id)) continue
          for (const layer of image.layers) assert.equal(sha256(readFileSync(join(data, 'blobs/sha256', sha256(layer.data).slice(7)))), sha256(layer.data), `copy ${at}, image ${number}`)
        }
        const verified = await cut.call('POST', '/containers/create?name=check', { Image: images[0]!.id, Cmd: ['/none'] })
        if (there.includes(images[0]!.id)) {
          assert.equal(verified.status, 201)
          const archive = await new Promise<Buffer>((resolve, reject) => request({ socketPath: cut.socket, path: '/containers/check/export' }, (response) => {
            const chunks: Buffer[] = []
            response.on('data', (chunk: Buffer) => chunks.push(chunk))
            response.on('end', () => resolve(Buffer.concat(chunks)))
          }).on('error', reject).end())
          const { gunzipSync } = await import('node:zlib')
          for (const { data: layer } of images[0]!.layers) {
            const tar = gunzipSync(layer)
            assert.ok(archive.includes(tar.subarray(512, 512 + 3_000_000)), `copy ${at}: a file has lost its content`)
          }
        }
        assert.equal((await pull(`${registry.name}/power:5`, cut)).error, '', `copy ${at}`)
        await cut.stop()
      } finally {
        await cut.stop('SIGKILL')
        run('umount', '-l', data)
      }
    }
  } finally {
    await cut.stop('SIGKILL')
    spawnSync('umount', ['-l', data])
    await cut[Symbol.asyncDispose]()
    rmSync(work, { recursive: true, force: true })
  }
})

test('TLS: authorities and certificates of clients are those that certs.d has for the host', async () => {
  const work = mkdtempSync(join(tmpdir(), 'berth-certs-'))
  const openssl = (...args: string[]): void => assert.equal(spawnSync('openssl', args, { cwd: work }).status, 0)
  try {
    openssl('req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-keyout', 'ca.key', '-out', 'ca.pem', '-subj', '/CN=authority', '-days', '2')
    writeFileSync(join(work, 'names'), 'subjectAltName=IP:127.0.0.1')
    for (const name of ['server', 'client']) {
      openssl('req', '-newkey', 'rsa:2048', '-nodes', '-keyout', `${name}.key`, '-out', `${name}.csr`, '-subj', `/CN=${name}`)
      openssl('x509', '-req', '-in', `${name}.csr`, '-CA', 'ca.pem', '-CAkey', 'ca.key', '-CAcreateserial', '-out', `${name}.pem`, '-days', '2', '-extfile', 'names')
    }
    await using guarded = await TestRegistry.start('berth', ['--tls-cert', join(work, 'server.pem'), '--tls-key', join(work, 'server.key'), '--tls-client-ca', join(work, 'ca.pem')])
    const certificates = join(work, 'certs.d', guarded.name)
    mkdirSync(certificates, { recursive: true })
    for (const [from, to] of [['ca.pem', 'ca.crt'], ['client.pem', 'client.cert'], ['client.key', 'client.key']] as const) writeFileSync(join(certificates, to), readFileSync(join(work, from)))
    await using user = new TestDaemon()
    await user.start({}, { through: ['unshare', '-m', 'sh', '-c', `mount -t tmpfs none /etc/docker && mkdir /etc/docker/certs.d && mount --bind ${work}/certs.d /etc/docker/certs.d && exec "$@"`, 'sh'] })
    await user.importStarter()
    await user.call('POST', `/images/starter/tag?repo=${guarded.name}/s&tag=1`)
    assert.match((await push(`${guarded.name}/s`, '1', user)).digest, /^sha256:/)
    await removeAll(user)
    assert.equal((await pull(`${guarded.name}/s:1`, user)).error, '')
    assert.notEqual((await pull(`${guarded.name}/s:1`)).error, '', 'who has no certificate gets nothing')
    rmSync(join(certificates, 'client.key'))
    await user.stop()
    await user.start({}, { through: ['unshare', '-m', 'sh', '-c', `mount -t tmpfs none /etc/docker && mkdir /etc/docker/certs.d && mount --bind ${work}/certs.d /etc/docker/certs.d && exec "$@"`, 'sh'] })
    assert.match((await pull(`${guarded.name}/s:1`, user)).error, /missing key .*client\.key for client certificate/)
  } finally {
    rmSync(work, { recursive: true, force: true })
  }
})

test('an archive of OCI\'s form keeps its compressed layers, and so its digests', async () => {
  const work = mkdtempSync(join(tmpdir(), 'berth-archive-'))
  try {
    const image = imageOf([layerOf(tarOf({ a: 'a' })), layerOf(tarOf({ b: 'b' }), 'zstd')])
    await putImage(registry.port, 'archive', '1', image)
    const skopeo = (...args: string[]): void => assert.equal(spawnSync('skopeo', ['copy', '-q', '--src-tls-verify=false', ...args], { cwd: work }).status, 0)
    skopeo(`docker://${registry.name}/archive:1`, `oci-archive:${work}/archive.tar:${registry.name}/loaded:1`)
    const load = (file: string): ReturnType<typeof daemon.call> => daemon.call('POST', '/images/load', readFileSync(join(work, file)))
    assert.match((await load('archive.tar')).text, /Loaded image: 127\.0\.0\.1:\d+\/loaded:1/)
    assert.equal((await push(`${registry.name}/loaded`, '1')).digest, image.digest)
    // and by way of our own archive
    const saved = await new Promise<Buffer>((resolve, reject) => request({ socketPath: daemon.socket, path: `/images/${encodeURIComponent(`${registry.name}/loaded:1`)}/get` }, (response) => {
      const chunks: Buffer[] = []
      response.on('data', (chunk: Buffer) => chunks.push(chunk))
      response.on('end', () => resolve(Buffer.concat(chunks)))
    }).on('error', reject).end())
    writeFileSync(join(work, 'saved.tar'), saved)
    await removeAll()
    assert.match((await load('saved.tar')).text, /loaded:1/)
    assert.equal((await push(`${registry.name}/loaded`, '1')).digest, image.digest)
    await removeAll()
    // a blob that is not what it is called is none
    spawnSync('sh', ['-c', `mkdir bad && tar x -C bad -f archive.tar && echo more >> bad/blobs/sha256/${sha256(image.layers[0]!.data).slice(7)} && tar c -C bad . > bad.tar`], { cwd: work })
    assert.match((await load('bad.tar')).text, /is really sha256:/)
    assert.deepEqual(await remains(), { images: 0, layers: 0, blobs: 0, ingest: 0 })
  } finally {
    rmSync(work, { recursive: true, force: true })
  }
})
