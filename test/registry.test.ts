import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { request } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import bcrypt from 'bcryptjs'
import { SignJWT } from 'jose'
import { createPrivateKey } from 'node:crypto'
import { Faults, TestRegistry, ask, imageOf, layerOf, putBlob, putImage, sha256, tarOf } from './registries.ts'

const work = mkdtempSync(join(tmpdir(), 'berth-tools-'))
const env = { ...process.env, STORAGE_DRIVER: 'vfs', BUILDAH_ISOLATION: 'chroot', REGISTRY_AUTH_FILE: join(work, 'auth.json'), HOME: work, TMPDIR: work }
const berth = new URL('../bin/berth', import.meta.url).pathname

/** Runs a tool of somebody else's. */
function tool(command: string, ...args: string[]): string {
  const storage = command === 'buildah' ? ['--root', join(work, 'storage'), '--runroot', join(work, 'run')] : []
  const { status, stdout, stderr } = spawnSync(command, [...storage, ...args], { env, cwd: work, encoding: 'utf8', maxBuffer: 64 << 20 })
  assert.equal(status, 0, `${command} ${args.join(' ')}: ${stderr}`)
  return stdout.trim()
}

const digestIn = (registry: TestRegistry, name: string): string => sha256(spawnSync('skopeo', ['inspect', '--raw', '--tls-verify=false', `docker://${registry.name}/${name}`], { env }).stdout)

before(() => writeFileSync(env.REGISTRY_AUTH_FILE, '{}'))
after(() => rmSync(work, { recursive: true, force: true }))

test('what buildah, umoci, skopeo and oras push has the digest there that it had here, and in docker-registry', async () => {
  await using ours = await TestRegistry.start('berth')
  await using theirs = await TestRegistry.start('docker')
  const both = [ours, theirs]
  const container = tool('buildah', 'from', 'scratch')
  writeFileSync(join(work, 'hello'), 'hello')
  tool('buildah', 'copy', container, 'hello', '/hello')
  tool('buildah', 'config', '--label', 'org.opencontainers.image.description=says hello', container)
  for (const format of ['oci', 'docker']) {
    tool('buildah', 'commit', '-q', '--format', format, container, `hello:${format}`)
    for (const registry of both) tool('buildah', 'push', '-q', '--tls-verify=false', `hello:${format}`, `docker://${registry.name}/hello:${format}`)
    assert.equal(digestIn(ours, `hello:${format}`), digestIn(theirs, `hello:${format}`))
  }
  tool('buildah', 'manifest', 'create', 'many')
  for (const architecture of ['amd64', 'arm64']) {
    const one = tool('buildah', 'from', '--arch', architecture, 'scratch')
    tool('buildah', 'copy', one, 'hello', `/${architecture}`)
    tool('buildah', 'config', '--arch', architecture, one)
    tool('buildah', 'commit', '-q', one, `hello:${architecture}`)
    tool('buildah', 'manifest', 'add', 'many', `hello:${architecture}`)
  }
  for (const registry of both) tool('buildah', 'manifest', 'push', '-q', '--all', '--tls-verify=false', 'many', `docker://${registry.name}/hello:many`)
  assert.equal(digestIn(ours, 'hello:many'), digestIn(theirs, 'hello:many'))
  tool('umoci', 'init', '--layout', 'layout')
  tool('umoci', 'new', '--image', 'layout:many')
  for (let at = 0; at < 20; at++) {
    writeFileSync(join(work, 'layer.tar'), tarOf({ [`file${at}`]: String(at) }))
    tool('umoci', 'raw', 'add-layer', '--image', 'layout:many', 'layer.tar')
  }
  tool('skopeo', 'copy', '-q', '--dest-tls-verify=false', 'oci:layout:many', `docker://${ours.name}/deep/er:many`)
  tool('skopeo', 'copy', '-q', '--src-tls-verify=false', `docker://${ours.name}/deep/er:many`, 'oci:back:many')
  const digestOf = (layout: string): string => (JSON.parse(readFileSync(join(work, layout, 'index.json'), 'utf8')) as { manifests: { digest: string }[] }).manifests.at(-1)!.digest
  assert.equal(digestOf('back'), digestOf('layout'))
  // all of an index, from one registry to the other and back
  tool('skopeo', 'copy', '-q', '--all', '--src-tls-verify=false', '--dest-tls-verify=false', `docker://${theirs.name}/hello:many`, `docker://${ours.name}/copied:many`)
  assert.equal(digestIn(ours, 'copied:many'), digestIn(theirs, 'hello:many'))
  // referrers
  writeFileSync(join(work, 'sbom.json'), '{}')
  tool('oras', 'attach', '--plain-http', '--artifact-type', 'text/x-sbom', `${ours.name}/hello:oci`, 'sbom.json:application/json')
  tool('oras', 'attach', '--plain-http', '--artifact-type', 'text/x-other', `${ours.name}/hello:oci`, 'sbom.json:application/json')
  const listed = await ask(ours.port, 'GET', `/v2/hello/referrers/${digestIn(ours, 'hello:oci')}?artifactType=text/x-sbom`)
  assert.equal(listed.headers['oci-filters-applied'], 'artifactType')
  assert.deepEqual((JSON.parse(listed.body.toString()) as { manifests: { artifactType: string }[] }).manifests.map(({ artifactType }) => artifactType), ['text/x-sbom'])
  tool('oras', 'copy', '-r', '--from-plain-http', '--to-plain-http', `${ours.name}/hello:oci`, `${ours.name}/moved:oci`)
  assert.match(tool('oras', 'discover', '--plain-http', `${ours.name}/moved:oci`), /text\/x-sbom/)
  assert.match(tool('oras', 'repo', 'ls', '--plain-http', ours.name), /copied\ndeep\/er\nhello\nmoved/)
  // and search, which Docker's registry has not had for long
  const found = JSON.parse((await ask(ours.port, 'GET', '/v1/search?q=hello')).body.toString()) as { results: { name: string, description: string }[] }
  assert.deepEqual(found.results.map(({ name }) => name), ['hello'])
})

test('either registry takes over the other\'s directory', async () => {
  await using ours = await TestRegistry.start('berth')
  await using theirs = await TestRegistry.start('docker')
  const image = imageOf([layerOf(tarOf({ a: 'a' }))])
  for (const [from, to] of [[ours, theirs], [theirs, ours]] as const) {
    await putImage(from.port, 'a/b', '1', image)
    await from.stop()
    await to.stop()
    await to.start(join(from.directory, 'data'))
    const manifest = await ask(to.port, 'GET', '/v2/a/b/manifests/1', { headers: { Accept: image.mediaType } })
    assert.equal(sha256(manifest.body), image.digest)
    const blob = await ask(to.port, 'GET', `/v2/a/b/blobs/${sha256(image.layers[0]!.data)}`)
    assert.equal(sha256(blob.body), sha256(image.layers[0]!.data))
    await to.stop()
    await from.start()
    await to.start()
  }
})

test('uploads come whole, in chunks, and go on after the registry was killed', async () => {
  await using registry = await TestRegistry.start('berth')
  const { port } = registry
  const data = randomBytes(300_000)
  const digest = sha256(data)
  const whole = await ask(port, 'POST', `/v2/x/blobs/uploads/?digest=${digest}`, { body: data })
  assert.equal(whole.status, 201)
  assert.equal(whole.headers['location'], `/v2/x/blobs/${digest}`)
  const begun = await ask(port, 'POST', '/v2/y/blobs/uploads/', { headers: { 'Content-Length': 0 } })
  assert.equal(begun.status, 202)
  const path = String(begun.headers.location)
  const chunk = (start: number, end: number): ReturnType<typeof ask> => ask(port, 'PATCH', path, { headers: { 'Content-Range': `${start}-${end - 1}`, 'Content-Type': 'application/octet-stream' }, body: data.subarray(start, end) })
  assert.equal((await chunk(0, 100_000)).headers['range'], '0-99999')
  const gap = await chunk(150_000, 200_000)
  assert.equal(gap.status, 416)
  assert.equal(gap.headers['range'], '0-99999')
  assert.equal((await ask(port, 'PATCH', path, { headers: { 'Content-Range': '100000-100001' }, body: 'abc' })).status, 400)
  await registry.stop('SIGKILL')
  await registry.start()
  assert.equal((await ask(port, 'GET', path)).headers['range'], '0-99999')
  assert.equal((await chunk(100_000, 200_000)).status, 202)
  // a connection that breaks in a chunk: what came stays
  const broken = request({ host: '127.0.0.1', port, method: 'PATCH', path, headers: { 'Content-Length': 100_000 } })
  broken.on('error', () => {})
  broken.write(data.subarray(200_000, 250_000))
  await new Promise((resolve) => setTimeout(resolve, 200))
  broken.destroy()
  for (let tries = 0; (await ask(port, 'GET', path)).headers['range'] !== '0-249999'; tries++) {
    assert.ok(tries < 100, 'what came before the break is gone')
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
  const wrong = await ask(port, 'PUT', `${path}?digest=${sha256('other')}`, { headers: { 'Content-Range': '250000-299999' }, body: data.subarray(250_000) })
  assert.equal(wrong.status, 400)
  assert.match(wrong.body.toString(), /DIGEST_INVALID/)
  assert.equal((await ask(port, 'HEAD', `/v2/y/blobs/${digest}`)).status, 404)
  assert.equal((await ask(port, 'PUT', `${path}?digest=${digest}`, { headers: { 'Content-Length': 0 } })).status, 201)
  assert.equal((await ask(port, 'GET', path)).status, 404)
  const big = `sha512:${(await import('node:crypto')).createHash('sha512').update(data).digest('hex')}`
  assert.equal((await ask(port, 'POST', `/v2/x/blobs/uploads/?digest=${big}`, { body: data })).status, 201)
  assert.deepEqual((await ask(port, 'GET', `/v2/x/blobs/${big}`)).body, data)
  const mounted = await ask(port, 'POST', `/v2/z/blobs/uploads/?mount=${digest}&from=y`, { headers: { 'Content-Length': 0 } })
  assert.equal(mounted.status, 201)
  assert.equal((await ask(port, 'POST', `/v2/z/blobs/uploads/?mount=${digest}&from=nowhere`, { headers: { 'Content-Length': 0 } })).status, 202)
})

test('blobs and manifests answer to ranges and conditions, and errors have their codes', async () => {
  await using registry = await TestRegistry.start('berth')
  const { port } = registry
  const image = imageOf([layerOf(tarOf({ a: 'a'.repeat(1000) }), 'plain')])
  await putImage(port, 'r', 'one', image)
  await putImage(port, 'r', 'two', image)
  const { data } = image.layers[0]!
  const url = `/v2/r/blobs/${sha256(data)}`
  const get = (headers: Record<string, string>): ReturnType<typeof ask> => ask(port, 'GET', url, { headers })
  for (const [range, start, end] of [['bytes=5-9', 5, 10], ['bytes=100-', 100, data.length], ['bytes=-7', data.length - 7, data.length], ['bytes=0-999999', 0, data.length]] as const) {
    const part = await get({ Range: range })
    assert.equal(part.status, 206)
    assert.equal(part.headers['content-range'], `bytes ${start}-${end - 1}/${data.length}`)
    assert.deepEqual(part.body, data.subarray(start, end))
  }
  const beyond = await get({ Range: `bytes=${data.length}-` })
  assert.deepEqual([beyond.status, beyond.headers['content-range']], [416, `bytes */${data.length}`])
  assert.equal((await get({ Range: 'bytes=1-2', 'If-Range': '"other"' })).status, 200)
  assert.equal((await get({ 'If-None-Match': `"${sha256(data)}"` })).status, 304)
  assert.equal((await ask(port, 'GET', '/v2/r/manifests/one', { headers: { 'If-None-Match': `"${image.digest}"` } })).status, 304)
  const head = await ask(port, 'HEAD', '/v2/r/manifests/one')
  assert.deepEqual([head.headers['docker-content-digest'], head.headers['content-type'], Number(head.headers['content-length'])], [image.digest, image.mediaType, image.manifest.length])
  const code = async (method: string, path: string, options: Parameters<typeof ask>[3] = {}): Promise<string> => {
    const { status, body } = await ask(port, method, path, options)
    return `${status} ${(JSON.parse(body.toString()) as { errors: { code: string }[] }).errors[0]!.code}`
  }
  assert.equal(await code('GET', '/v2/r/manifests/three'), '404 MANIFEST_UNKNOWN')
  assert.equal(await code('GET', '/v2/none/tags/list'), '404 NAME_UNKNOWN')
  assert.equal(await code('GET', `/v2/r/blobs/${sha256('')}`), '404 BLOB_UNKNOWN')
  assert.equal(await code('GET', '/v2/r/blobs/sha256:xyz'), '400 DIGEST_INVALID')
  assert.equal(await code('GET', '/v2/UPPER/manifests/x'), '400 NAME_INVALID')
  assert.equal(await code('GET', '/v2/a...b/manifests/x'), '400 NAME_INVALID')
  assert.equal(await code('POST', '/v2/r/tags/list'), '405 UNSUPPORTED')
  assert.equal(await code('PATCH', '/v2/r/blobs/uploads/00000000-0000-0000-0000-000000000000', { body: 'x' }), '404 BLOB_UPLOAD_UNKNOWN')
  const put = (manifest: string, tag = 'bad', type = image.mediaType): Promise<string> => code('PUT', `/v2/r/manifests/${tag}`, { headers: { 'Content-Type': type }, body: manifest })
  assert.equal(await put('{'), '400 MANIFEST_INVALID')
  assert.equal(await put(image.manifest, 'bad', 'application/vnd.docker.distribution.manifest.v2+json'), '400 MANIFEST_INVALID')
  assert.equal(await put(image.manifest, sha256('other')), '400 DIGEST_INVALID')
  assert.equal(await put(imageOf([layerOf(tarOf({ b: 'not here' }))]).manifest), '404 MANIFEST_BLOB_UNKNOWN')
  assert.equal(await put(imageOf(image.layers, { change: (manifest) => ({ ...manifest, layers: [{ ...manifest.layers[0], size: 5 }] }) }).manifest), '400 MANIFEST_INVALID')
  assert.equal(await put(`{"schemaVersion":2,"pad":"${'x'.repeat(5 << 20)}"}`), '413 MANIFEST_INVALID')
  const page = await ask(port, 'GET', '/v2/r/tags/list?n=1')
  assert.deepEqual(JSON.parse(page.body.toString()), { name: 'r', tags: ['one'] })
  assert.equal(page.headers['link'], '</v2/r/tags/list?last=one&n=1>; rel="next"')
  const last = await ask(port, 'GET', '/v2/r/tags/list?last=one&n=1')
  assert.deepEqual([JSON.parse(last.body.toString()).tags, last.headers['link']], [['two'], undefined])
  assert.equal((await ask(port, 'DELETE', '/v2/r/manifests/one')).status, 202)
  assert.deepEqual(JSON.parse((await ask(port, 'GET', '/v2/r/tags/list')).body.toString()).tags, ['two'])
  assert.equal((await ask(port, 'DELETE', `/v2/r/manifests/${image.digest}`)).status, 202)
  assert.equal(await code('GET', '/v2/r/manifests/two'), '404 MANIFEST_UNKNOWN')
  assert.equal((await ask(port, 'DELETE', url)).status, 202)
  assert.equal((await get({})).status, 404)
})

test('garbage goes while others push, and what they push stays', async () => {
  await using registry = await TestRegistry.start('berth')
  const { port } = registry
  const old = imageOf([layerOf(tarOf({ old: randomBytes(1000) }))])
  const shared = layerOf(tarOf({ shared: 'shared' }))
  await putImage(port, 'g', 'old', old)
  await putImage(port, 'g', 'kept', imageOf([shared]))
  await ask(port, 'DELETE', `/v2/g/manifests/${old.digest}`)
  await registry.stop()
  const dry = spawnSync(berth, ['registry', 'gc', '--root', join(registry.directory, 'data'), '--grace', '0', '--dry-run'], { encoding: 'utf8' })
  assert.match(dry.stdout, /^Would delete 3 blobs/)
  await registry.start()
  const refused = spawnSync(berth, ['registry', 'gc', '--root', join(registry.directory, 'data')], { encoding: 'utf8' })
  assert.match(refused.stderr, /in use by another registry/)
  // within the grace nothing goes, and who pushes meanwhile finds all
  const pushes = Array.from({ length: 20 }, (_, at) => putImage(port, 'g', `t${at}`, imageOf([shared, layerOf(tarOf({ [`f${at}`]: String(at) }))])))
  process.kill(registry.pid, 'SIGUSR1')
  await Promise.all(pushes)
  for (let tries = 0; !/Collected 0 blobs/.test(registry.said); tries++) {
    assert.ok(tries < 100, registry.said)
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
  await registry.stop()
  const collected = spawnSync(berth, ['registry', 'gc', '--root', join(registry.directory, 'data'), '--grace', '0'], { encoding: 'utf8' })
  assert.match(collected.stdout, /^Deleted 3 blobs/)
  await registry.start()
  for (let at = 0; at < 20; at++) {
    const { layers } = JSON.parse((await ask(port, 'GET', `/v2/g/manifests/t${at}`)).body.toString()) as { layers: { digest: string }[] }
    for (const { digest } of layers) assert.equal(sha256((await ask(port, 'GET', `/v2/g/blobs/${digest}`)).body), digest)
  }
  assert.equal((await ask(port, 'HEAD', `/v2/g/blobs/${sha256(old.layers[0]!.data)}`)).status, 404)
})

test('names and passwords, and who may do what', async () => {
  const passwords = join(work, 'htpasswd')
  const rights = join(work, 'rights.json')
  writeFileSync(passwords, `alice:${bcrypt.hashSync('secret', 4)}\nbob:${bcrypt.hashSync('hidden', 4).replace('$2b$', '$2y$')}\n`)
  writeFileSync(rights, JSON.stringify([{ users: ['alice'], repositories: ['**'], actions: ['pull', 'push', 'delete'] }, { users: ['*'], repositories: ['public/**'], actions: ['pull'] }]))
  await using registry = await TestRegistry.start('berth', ['--htpasswd', passwords, '--rights', rights])
  const { port } = registry
  const as = (name: string, password: string): Record<string, string> => ({ Authorization: `Basic ${Buffer.from(`${name}:${password}`).toString('base64')}` })
  const nobody = await ask(port, 'GET', '/v2/')
  assert.deepEqual([nobody.status, nobody.headers['www-authenticate']], [401, 'Basic realm="berth registry"'])
  assert.equal((await ask(port, 'GET', '/v2/', { headers: as('alice', 'wrong') })).status, 401)
  assert.equal((await ask(port, 'GET', '/v2/', { headers: as('carol', 'secret') })).status, 401)
  assert.equal((await ask(port, 'GET', '/v2/', { headers: as('bob', 'hidden') })).status, 200)
  for (const repository of ['public/x', 'secret/x']) await putBlob(port, repository, Buffer.from('data'), as('alice', 'secret'))
  const status = async (name: string, password: string, path: string, method = 'GET'): Promise<number> => (await ask(port, method, path, { headers: { ...as(name, password), 'Content-Length': 0 } })).status
  const blob = `blobs/${sha256('data')}`
  assert.equal(await status('bob', 'hidden', `/v2/public/x/${blob}`), 200)
  assert.equal(await status('bob', 'hidden', `/v2/secret/x/${blob}`), 403)
  assert.equal(await status('bob', 'hidden', '/v2/public/x/blobs/uploads/', 'POST'), 403)
  assert.equal(await status('bob', 'hidden', `/v2/public/x/${blob}`, 'DELETE'), 403)
  const catalog = await ask(port, 'GET', '/v2/_catalog', { headers: as('bob', 'hidden') })
  assert.deepEqual(JSON.parse(catalog.body.toString()), { repositories: ['public/x'] })
  // nobody gets at a blob by way of a mount from where they may not look
  writeFileSync(rights, '[')
  const bad = spawnSync(berth, ['registry', 'serve', '--addr', '127.0.0.1:0', '--root', join(work, 'x'), '--rights', rights], { encoding: 'utf8' })
  assert.match(bad.stderr, /the file of rights .*rights\.json: /)
  assert.equal(bad.status, 1)
  writeFileSync(passwords, '')
  assert.equal(await status('alice', 'secret', '/v2/'), 401, 'a changed file is read again')
})

test('tokens are taken from whom the registry trusts, for what they say', async () => {
  const openssl = (...args: string[]): void => assert.equal(spawnSync('openssl', args, { cwd: work }).status, 0)
  openssl('req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-keyout', 'token.key', '-out', 'token.crt', '-subj', '/CN=tokens', '-days', '2')
  openssl('req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-keyout', 'other.key', '-out', 'other.crt', '-subj', '/CN=others', '-days', '2')
  await using registry = await TestRegistry.start('berth', ['--token-realm', 'http://127.0.0.1:9/token', '--token-service', 'reg', '--token-issuer', 'tokens', '--token-roots', join(work, 'token.crt')])
  const { port } = registry
  const challenge = await ask(port, 'POST', '/v2/a/blobs/uploads/', { headers: { 'Content-Length': 0 } })
  assert.equal(challenge.headers['www-authenticate'], 'Bearer realm="http://127.0.0.1:9/token",service="reg",scope="repository:a:pull,push"')
  const token = (file: string, access: object[], change: { audience?: string, issuer?: string, expires?: string, x5c?: boolean } = {}): Promise<string> => {
    const certificate = readFileSync(join(work, `${file}.crt`), 'utf8').replace(/-----[^-]+-----|\s/g, '')
    return new SignJWT({ access }).setProtectedHeader({ alg: 'RS256', ...(change.x5c !== false && { x5c: [certificate] }) }).setIssuer(change.issuer ?? 'tokens').setAudience(change.audience ?? 'reg').setExpirationTime(change.expires ?? '5m').setSubject('alice').sign(createPrivateKey(readFileSync(join(work, `${file}.key`), 'utf8')))
  }
  const status = async (text: string, path = '/v2/a/blobs/uploads/'): Promise<number> => (await ask(port, 'POST', path, { headers: { 'Content-Length': 0, Authorization: `Bearer ${text}` } })).status
  const push = [{ type: 'repository', name: 'a', actions: ['pull', 'push'] }]
  assert.equal(await status(await token('token', push)), 202)
  assert.equal(await status(await token('token', push, { x5c: false })), 202)
  assert.equal(await status(await token('token', push), '/v2/b/blobs/uploads/'), 401)
  assert.equal(await status(await token('token', [{ type: 'repository', name: 'a', actions: ['pull'] }])), 401)
  for (const bad of [await token('other', push), await token('other', push, { x5c: false }), await token('token', push, { audience: 'x' }), await token('token', push, { issuer: 'x' }), await token('token', push, { expires: '-5m' }), 'nonsense', `${Buffer.from('{"alg":"none"}').toString('base64url')}.${Buffer.from('{"iss":"tokens","aud":"reg"}').toString('base64url')}.`])
    assert.equal(await status(bad), 401)
})

test('a pull-through cache asks once, serves while it fetches, and goes on without the other', async () => {
  await using upstream = await TestRegistry.start('docker')
  await using faults = await new Faults(upstream.port).listen()
  await using cache = await TestRegistry.start('berth', ['--proxy', `http://${faults.name}`, '--metrics', '127.0.0.1:0'])
  const image = imageOf([layerOf(tarOf({ big: randomBytes(3 << 20) }))])
  const digest = sha256(image.layers[0]!.data)
  await putImage(upstream.port, 'library/x', '1', image)
  const pull = async (): Promise<void> => {
    const manifest = await ask(cache.port, 'GET', '/v2/library/x/manifests/1')
    assert.equal(sha256(manifest.body), image.digest)
    assert.equal(sha256((await ask(cache.port, 'GET', `/v2/library/x/blobs/${digest}`)).body), digest)
  }
  faults.rule = (method, url, count) => (url.includes('/blobs/') && method === 'GET' ? { ...(count === 0 && { cut: 1_000_000 }), rate: 20e6 } : undefined)
  await Promise.all(Array.from({ length: 8 }, pull)).catch((error: unknown) => assert.fail(`${String(error)}: ${cache.said}`))
  assert.equal(faults.gets(`blobs/${digest}`), 2, 'one, and one more after the break')
  assert.ok(faults.seen.some(({ range }) => range?.startsWith('bytes=')))
  const part = await ask(cache.port, 'GET', `/v2/library/x/blobs/${digest}`, { headers: { Range: 'bytes=10-19' } })
  assert.deepEqual(part.body, image.layers[0]!.data.subarray(10, 20))
  assert.equal((await ask(cache.port, 'GET', '/v2/library/x/manifests/none')).status, 404)
  assert.equal((await ask(cache.port, 'POST', '/v2/library/x/blobs/uploads/', { headers: { 'Content-Length': 0 } })).status, 405)
  // a tag that moves is seen to move
  const moved = imageOf([layerOf(tarOf({ moved: 'moved' }))])
  await putImage(upstream.port, 'library/x', '1', moved)
  assert.equal(sha256((await ask(cache.port, 'GET', '/v2/library/x/manifests/1')).body), moved.digest)
  await upstream.stop()
  assert.equal(sha256((await ask(cache.port, 'GET', '/v2/library/x/manifests/1')).body), moved.digest)
  assert.equal(sha256((await ask(cache.port, 'GET', `/v2/library/x/blobs/${digest}`)).body), digest)
  assert.equal((await ask(cache.port, 'GET', `/v2/library/x/blobs/${sha256(moved.layers[0]!.data)}`)).status, 404)
  assert.deepEqual(JSON.parse((await ask(cache.port, 'GET', '/v2/library/x/tags/list')).body.toString()).tags, ['1'])
})

test('limits: so many pulls, so many requests, so many bytes; and what Prometheus sees', async () => {
  const { freePort } = await import('./daemon.ts')
  const metrics = await freePort()
  await using registry = await TestRegistry.start('berth', ['--pull-limit', '2/1h', '--max-blob-size', '1000', '--metrics', `127.0.0.1:${metrics}`])
  const { port } = registry
  const image = imageOf([layerOf(tarOf({ a: '' }))])
  await putImage(port, 'x', '1', image)
  const pulls = [await ask(port, 'GET', '/v2/x/manifests/1'), await ask(port, 'GET', '/v2/x/manifests/1'), await ask(port, 'GET', '/v2/x/manifests/1')]
  assert.deepEqual(pulls.map(({ status, headers }) => [status, headers['ratelimit-remaining']]), [[200, '1;w=3600'], [200, '0;w=3600'], [429, '0;w=3600']])
  assert.ok(Number(pulls[2]!.headers['retry-after']) > 1000)
  assert.equal((await ask(port, 'HEAD', '/v2/x/manifests/1')).status, 200)
  const large = await ask(port, 'POST', `/v2/x/blobs/uploads/?digest=${sha256('')}`, { body: Buffer.alloc(2000) })
  assert.deepEqual([large.status, JSON.parse(large.body.toString()).errors[0].code], [413, 'SIZE_INVALID'])
  const text = (await ask(metrics, 'GET', '/metrics')).body.toString()
  assert.match(text, /registry_http_requests_total\{method="GET",route="manifest",code="429"\} 1/)
  assert.match(text, /registry_blob_bytes_total\{direction="in"\} [1-9]/)
  await using busy = await TestRegistry.start('berth', ['--rate-limit', '5/1h'])
  const statuses: number[] = []
  for (let at = 0; at < 8; at++) statuses.push((await ask(busy.port, 'GET', '/v2/')).status)
  assert.deepEqual(statuses.slice(-4), [429, 429, 429, 429])
})

test('two gigabytes pass in bounded memory', async () => {
  await using registry = await TestRegistry.start('berth')
  const { port } = registry
  const size = 2 * 2 ** 30
  const piece = Buffer.alloc(1 << 20, 'x')
  const hash = (await import('node:crypto')).createHash('sha256')
  const begun = await ask(port, 'POST', '/v2/big/blobs/uploads/', { headers: { 'Content-Length': 0 } })
  const path = String(begun.headers.location)
  await new Promise<void>((resolve, reject) => {
    const sent = request({ host: '127.0.0.1', port, method: 'PATCH', path, headers: { 'Content-Length': size } }, (response) => {
      response.resume()
      response.once('end', resolve)
    })
    sent.on('error', reject)
    let left = size / piece.length
    const more = (): void => {
      for (; left > 0; left--) {
        hash.update(piece)
        if (!sent.write(piece)) {
          left--
          return void sent.once('drain', more)
        }
      }
      sent.end()
    }
    more()
  })
  const digest = `sha256:${hash.digest('hex')}`
  assert.equal((await ask(port, 'PUT', `${path}?digest=${digest}`, { headers: { 'Content-Length': 0 } })).status, 201)
  const got = await new Promise<number>((resolve, reject) => request({ host: '127.0.0.1', port, path: `/v2/big/blobs/${digest}` }, (response) => {
    let length = 0
    response.on('data', (chunk: Buffer) => (length += chunk.length))
    response.on('error', reject)
    response.on('end', () => resolve(length))
  }).end())
  assert.equal(got, size)
  const peak = Number(/VmHWM:\s+(\d+)/.exec(readFileSync(`/proc/${registry.pid}/status`, 'utf8'))![1]) >> 10
  assert.ok(peak < 256, `${peak} MB`)
})

test('the docker CLI and dockerd push, pull and search', async () => {
  await using registry = await TestRegistry.start('berth')
  const directory = mkdtempSync(join(tmpdir(), 'berth-dockerd-'))
  const host = `unix://${directory}/sock`
  const daemon = spawn('dockerd', ['-H', host, '--data-root', join(directory, 'data'), '--exec-root', join(directory, 'run'), '-p', join(directory, 'pid'), '--bridge', 'none', '--iptables=false'], { stdio: 'ignore' })
  const docker = (...args: string[]): { status: number | null, out: string } => {
    const { status, stdout, stderr } = spawnSync('docker', ['-H', host, ...args], { encoding: 'utf8', env: { ...process.env, DOCKER_CONFIG: directory } })
    return { status, out: stdout + stderr }
  }
  try {
    for (let tries = 0; docker('version').status !== 0; tries++) {
      assert.ok(tries < 300, 'dockerd does not answer')
      await new Promise((resolve) => setTimeout(resolve, 100))
    }
    const image = imageOf([layerOf(tarOf({ a: 'a' })), layerOf(tarOf({ b: 'b' }))], { kind: 'docker' })
    await putImage(registry.port, 'lib/x', '1', image)
    const pulled = docker('pull', `${registry.name}/lib/x:1`)
    assert.match(pulled.out, new RegExp(`Digest: ${image.digest}\nStatus: Downloaded newer image`))
    docker('tag', `${registry.name}/lib/x:1`, `${registry.name}/lib/y:2`)
    assert.match(docker('push', `${registry.name}/lib/y:2`).out, /Mounted from lib\/x[^]*2: digest: sha256:/)
    assert.match(docker('search', `${registry.name}/lib`).out, /lib\/x\s[^]*lib\/y\s/)
    assert.match(docker('manifest', 'inspect', '--insecure', `${registry.name}/lib/x:1`).out, /schemaVersion/)
  } finally {
    daemon.kill()
    await new Promise((resolve) => daemon.once('exit', resolve))
    rmSync(directory, { recursive: true, force: true })
  }
})
