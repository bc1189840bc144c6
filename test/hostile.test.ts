import assert from 'node:assert/strict'
import { readFileSync, readdirSync } from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import fc from 'fast-check'
import { emptyHostConfig } from '../src/container/body.ts'
import { TestDaemon, starterArchive } from './daemon.ts'

const daemon = new TestDaemon()
before(async () => {
  await daemon.start()
  await daemon.importStarter()
})
after(() => daemon[Symbol.asyncDispose]())

/** Sends bytes as they are, and returns what came back until the daemon, or this, hung up. `more` sends on until it is
 * refused. */
function raw(head: string, options: { more?: Buffer, limit?: number, hangUp?: boolean } = {}): Promise<string> {
  return new Promise((resolve) => {
    let answer = ''
    let sent = 0
    const socket = connect(daemon.socket)
    const more = (): void => {
      while (options.more && sent < (options.limit ?? Infinity) && !socket.destroyed) {
        sent += options.more.length
        if (!socket.write(options.more)) return
      }
      if (options.more && !socket.destroyed) socket.end()
    }
    socket.on('drain', more)
    socket.on('data', (data) => {
      answer += data
      if (answer.includes('\r\n\r\n') && options.more) socket.destroy()
    })
    socket.on('error', () => {}) // refused while there was more to send
    socket.on('close', () => resolve(answer))
    socket.write(head)
    if (options.hangUp) socket.end()
    more()
  })
}

/** Bytes of memory that the daemon holds. */
function memory(): number {
  const pid = readFileSync(join(daemon.directory, 'pid'), 'utf8')
  return Number(/^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))![1]) * 1024
}

const containers = async (): Promise<unknown[]> => (await daemon.call('GET', '/containers/json?all=1')).body
const images = async (): Promise<unknown[]> => (await daemon.call('GET', '/images/json')).body

test('a gigabyte of headers is refused early, and costs no memory', async () => {
  const before = memory()
  const gigabyte = { more: Buffer.alloc(1 << 20, 'a'), limit: 1 << 30 }
  assert.match(await raw('GET /_ping HTTP/1.1\r\nHost: x\r\nX-Filler: ', gigabyte), /^HTTP\/1.1 431 /)
  assert.match(await raw('GET /', gigabyte), /^HTTP\/1.1 (431|414|400) /)
  assert.match(await raw('GET /_ping HTTP/1.1\r\nHost: x\r\n', { more: Buffer.from('X-Y: z\r\n'.repeat(1 << 17)), limit: 1 << 30 }), /^HTTP\/1.1 (431|400) /)
  assert.ok(memory() - before < 64 << 20, 'the daemon has grown')
})

test('a gigabyte of JSON is refused, and costs no memory', async () => {
  const before = memory()
  const post = (path: string): Promise<string> => raw(`POST ${path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: ${1 << 30}\r\n\r\n`, { more: Buffer.alloc(1 << 20, '['), limit: 1 << 30 })
  assert.match(await post('/containers/create'), /^HTTP\/1.1 400 [^]*request body too large/)
  assert.match(await post('/commit?container=x'), /^HTTP\/1.1 4/)
  assert.equal((await daemon.call('POST', '/containers/create', Buffer.alloc(0))).status, 400)
  assert.ok(memory() - before < 64 << 20, 'the daemon has grown')
})

test('what is no HTTP is refused, and connections that say nothing are left alone', async () => {
  assert.match(await raw('\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n'), /^HTTP\/1.1 400 /)
  assert.match(await raw('GET /_ping HTTP/9.9\r\n\r\n'), /^HTTP\/1.1 400 /)
  assert.match(await raw('GET /_ping HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\nhello'), /^HTTP\/1.1 400 /)
  const silent = Array.from({ length: 200 }, () => connect(daemon.socket))
  assert.equal((await daemon.call('GET', '/_ping')).status, 200)
  for (const socket of silent) socket.destroy()
})

test('bodies that are cut off leave nothing', async () => {
  const before = [await containers(), await images()]
  const json = JSON.stringify({ Image: 'starter', Cmd: ['true'] })
  await raw(`POST /containers/create HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: ${json.length + 10}\r\n\r\n${json}`, { hangUp: true })
  await raw(`POST /containers/create HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n${json.length.toString(16)}\r\n${json}\r\n`, { hangUp: true })
  const archive = starterArchive()
  for (const path of ['/images/create?fromSrc=-&repo=cut', '/images/load']) {
    await raw(`POST ${path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-tar\r\nContent-Length: ${archive.length}\r\n\r\n`, { more: archive.subarray(0, 300_000), limit: 300_000 })
    const cut = await daemon.call('POST', path, archive.subarray(0, 300_000))
    assert.match(cut.text, /unexpected EOF|invalid/)
  }
  for (let tries = 0; tries < 100 && (await daemon.call('GET', '/jobs')).body.length > 0; tries++) await new Promise((resolve) => setTimeout(resolve, 20))
  assert.deepEqual([await containers(), await images()], before)
  assert.equal(readdirSync(join(daemon.directory, 'data/overlay')).filter((name) => name !== 'l').length, 1)
})

test('hostile names are not found or not allowed, whatever they are', async () => {
  const names = ['..', '../..', '%2e%2e%2f%2e%2e%2fetc', '%00', 'a%00b', '%0d%0aX: y', 'x'.repeat(5000), '%ff%fe', '☃', '-', '.', '_', '$(id)', '`id`', 'sha256:', 'sha256:zz', '*', '%2f', 'a:b:c@d', '__proto__', 'constructor', 'toString']
  for (const name of names) {
    for (const path of [`/containers/${name}/json`, `/containers/${name}/archive?path=/`, `/images/${name}/json`, `/exec/${name}/json`]) {
      const { status } = await daemon.call('GET', encodeURI(decodeURI(path.replaceAll('%', '%25')).replaceAll('%25', '%'))).catch(() => ({ status: 400 }))
      assert.ok(status === 404 || status === 400, `GET ${path.slice(0, 80)}: ${status}`)
    }
    const made = await daemon.call('POST', `/containers/create?name=${encodeURIComponent(decodeURIComponent(name.replace('%ff%fe', '')))}`, { Image: 'starter', Cmd: ['true'] })
    if (made.status === 201) assert.match(name, /^([A-Za-z0-9][\w.-]+|%ff%fe)$/)
    else assert.equal(made.status, 400, name.slice(0, 80))
    if (made.status === 201) await daemon.call('DELETE', `/containers/${made.body.Id}`)
  }
  assert.deepEqual(await containers(), [])
})

test('unknown, ambiguous and short ids are told apart', async () => {
  const ids: string[] = []
  for (let i = 0; i < 17; i++) ids.push((await daemon.call('POST', '/containers/create', { Image: 'starter', Cmd: ['true'] })).body.Id)
  const twice = ids.map((id) => id[0]!).find((first, i, all) => all.indexOf(first) !== i)! // 17 ids, 16 digits
  const ambiguous = await daemon.call('GET', `/containers/${twice}/json`)
  assert.equal(ambiguous.status, 400)
  assert.match(ambiguous.body.message, /multiple IDs found with provided prefix: /i)
  assert.equal((await daemon.call('GET', `/containers/${ids[0]!.slice(0, 40)}/json`)).body.Id, ids[0])
  assert.equal((await daemon.call('GET', `/containers/${ids[0]}0/json`)).status, 404)
  assert.equal((await daemon.call('GET', '/images/nothing/json')).status, 404)
  assert.equal((await daemon.call('POST', '/containers/create', { Image: 'nothing', Cmd: ['true'] })).status, 404)
  for (const id of ids) await daemon.call('DELETE', `/containers/${id}`)
})

test('parameters of the wrong kind are refused', async () => {
  const { body: { Id } } = await daemon.call('POST', '/containers/create', { Image: 'starter', Cmd: ['true'] })
  const refused = ['/containers/json?limit=many', '/containers/json?filters=x', '/containers/json?filters={"nope":["x"]}', '/containers/json?filters={"status":["odd"]}', '/containers/json?filters=[1]', `/containers/${Id}/logs`,
    `/containers/${Id}/logs?stdout=1&tail=x&since=never`, '/events?since=x', '/events?filters={"type":5}', `/containers/${Id}/archive`, `/containers/${Id}/archive?path=`, '/images/json?filters={"dangling":["perhaps"]}', '/v1.99/info', '/v1.2/info']
  for (const path of refused) {
    const { status, body } = await daemon.call('GET', encodeURI(path))
    assert.equal(status, 400, path)
    assert.ok(body.message, path)
  }
  for (const path of [`/containers/${Id}/stop?t=soon`, `/containers/${Id}/kill?signal=SIGNOPE`, `/containers/${Id}/wait?condition=never`, `/containers/${Id}/rename?name=a/b`, `/containers/${Id}/rename`, '/containers/prune?filters=x'])
    assert.equal((await daemon.call('POST', path)).status, 400, path)
  await daemon.call('DELETE', `/containers/${Id}`)
})

const words = fc.oneof(fc.constantFrom('', '\0', '/', '..', 'container:', 'host', '-1', 'a=b', 'a:b', '/x:/y', '/tmp:/x:ro', 'x'.repeat(300), 'ALL', 'seccomp=x', 'net.x', '*', '0-99999999', '☃'), fc.string({ maxLength: 20 }))
const anything = fc.oneof(words, fc.constantFrom(null, true, -1, 1e300, 2 ** 53, 0.5, {}, [], [null], [{}], { a: null }), fc.array(words, { maxLength: 3 }), fc.dictionary(words, words, { maxKeys: 3 }))

/** Mostly values of a field's own type, which get further. */
function odd(usual: unknown): fc.Arbitrary<unknown> {
  const own = typeof usual === 'number' ? fc.oneof(fc.integer(), fc.constantFrom(2 ** 31, 2 ** 40, 2 ** 53, -(2 ** 31), 1)) : typeof usual === 'boolean' ? fc.boolean() : typeof usual === 'string' ? words
    : Array.isArray(usual) || usual === null || usual === undefined ? fc.array(words, { maxLength: 3 }) : fc.dictionary(words, words, { maxKeys: 3 })
  return fc.oneof({ weight: 4, arbitrary: own }, { weight: 1, arbitrary: anything })
}

const config = { Hostname: '', Domainname: '', User: '', Env: [], Cmd: [], Entrypoint: [], Image: '', Volumes: {}, WorkingDir: '', Labels: {}, StopSignal: '', StopTimeout: 0, ExposedPorts: {}, Healthcheck: {}, Tty: false, Shell: [], MacAddress: '' }
const fields = (of: object): fc.Arbitrary<object> => fc.array(fc.constantFrom(...Object.entries(of)).chain(([name, usual]) => odd(usual).map((value) => [name, value] as const)), { maxLength: 3 }).map((entries) => Object.fromEntries(entries))

test('whatever a body says, the answer is an answer, and not that of a bug', { timeout: 110_000 }, async () => {
  await fc.assert(fc.asyncProperty(fields(config), fields(emptyHostConfig()), async (own, host) => {
    const created = await daemon.call('POST', '/containers/create', { Image: 'starter', Cmd: ['true'], ...own, HostConfig: { NetworkMode: 'none', AutoRemove: false, ...host } })
    assert.ok([201, 400, 404, 409, 501].includes(created.status), `${created.status} ${created.text}`)
    if (created.status !== 201) return
    const started = await daemon.call('POST', `/containers/${created.body.Id}/start`)
    assert.ok(started.status < 500 || started.body.message.startsWith('failed to create task'), `${started.status} ${started.text}`)
    const kept = 'AutoRemove' in host && host.AutoRemove ? [200, 404] : [200]
    assert.ok(kept.includes((await daemon.call('GET', `/containers/${created.body.Id}/json`)).status))
    assert.equal((await daemon.call('GET', '/containers/json?all=1&size=1')).status, 200)
    const removed = await daemon.call('DELETE', `/containers/${created.body.Id}?force=1`)
    assert.ok(removed.status === 204 || removed.status === 404 || removed.status === 409, `${removed.status} ${removed.text}`)
  }), { numRuns: 1500 })
  assert.deepEqual(readdirSync(join(daemon.directory, 'run/containers')), [])
})

test('after all that the daemon still runs containers', async () => {
  assert.equal((await daemon.run({ Cmd: ['sh', '-c', 'exit 3'] })).status, 3)
})
