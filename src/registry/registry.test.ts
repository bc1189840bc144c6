import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { unavailable, notFound } from '../lib/errors.ts'
import { parseChallenges } from './challenge.ts'
import { HostSet, LOOPBACK, certificatesOf, hostsOf, parseMirror, type RegistryOptions } from './hosts.ts'
import { retry } from './retry.ts'

test('challenges are read as servers write them', () => {
  assert.deepEqual(parseChallenges('Bearer realm="https://auth.example/token",service="reg",scope="repository:a/b:pull,push"'), [{ scheme: 'bearer', parameters: { realm: 'https://auth.example/token', service: 'reg', scope: 'repository:a/b:pull,push' } }])
  assert.deepEqual(parseChallenges('Negotiate, Basic realm="a \\"b\\"", BEARER realm = x , service=y'), [{ scheme: 'basic', parameters: { realm: 'a "b"' } }, { scheme: 'bearer', parameters: { realm: 'x', service: 'y' } }])
  assert.deepEqual(parseChallenges(''), [])
})

test('mirrors are of docker.io, or of the registry that they name', () => {
  assert.deepEqual(parseMirror('https://mirror.example'), { domain: 'docker.io', url: 'https://mirror.example/' })
  assert.deepEqual(parseMirror('quay.io=http://10.0.0.1:5000/quay'), { domain: 'quay.io', url: 'http://10.0.0.1:5000/quay/' })
  assert.deepEqual(parseMirror('localhost:5000=http://m'), { domain: 'localhost:5000', url: 'http://m/' })
  for (const text of ['mirror', 'ftp://x', 'https://x/?a=b', 'https://u:p@x/']) assert.throws(() => parseMirror(text), /invalid mirror/)
  assert.throws(() => parseMirror('https://u:secret@x/'), (error: Error) => !error.message.includes('secret'))
})

test('hosts are insecure by name, by address, and by the address that their name has', async () => {
  const set = new HostSet([...LOOPBACK, 'registry.lan:5000', '10.1.0.0/16', 'fd00::/8'])
  for (const name of ['127.0.0.1:5000', 'localhost', 'localhost:5000', '[::1]:5000', 'registry.lan:5000', '10.1.2.3', '[fd00::1]:80']) assert.ok(await set.has(name), name)
  for (const name of ['registry.lan', '10.2.0.1:5000', '[2001:db8::1]']) assert.ok(!await set.has(name), name)
  for (const entry of ['https://x', '10.0.0.0/99', 'a b']) assert.throws(() => new HostSet([entry]), /registry/)
})

test('mirrors are asked first, and docker.io is registry-1.docker.io', async () => {
  const options: RegistryOptions = { mirrors: new Map([['docker.io', ['http://m:5000/v2/', 'https://n/hub/']]]), insecure: [], certificates: [], proxy: {}, userAgent: '', idle: 1 }
  const hosts = await hostsOf('docker.io', options, new HostSet(LOOPBACK))
  assert.deepEqual(hosts.map(({ name, scheme, prefix, mirror }) => [name, scheme, prefix, mirror]), [['m:5000', 'http', '', true], ['n', 'https', '/hub', true], ['registry-1.docker.io', undefined, '', false]])
})

test('certificates are those of a host, and a client\'s need both halves', () => {
  const root = mkdtempSync(join(tmpdir(), 'berth-certs-'))
  try {
    mkdirSync(join(root, 'host:5000'))
    const put = (name: string): void => writeFileSync(join(root, 'host:5000', name), name)
    put('ca.crt')
    put('client.cert')
    assert.throws(() => certificatesOf('host:5000', [root]), /missing key .*client\.key/)
    put('client.key')
    assert.deepEqual(certificatesOf('host:5000', [root]), { ca: ['ca.crt'], cert: 'client.cert', key: 'client.key' })
    assert.deepEqual(certificatesOf('other', [root]), { ca: [] })
  } finally {
    rmSync(root, { recursive: true })
  }
})

test('what may be better the next time is tried again, as often as told, and no longer than anybody waits', async () => {
  let tries = 0
  const failing = (error: Error, attempts = 3): Promise<never> => {
    tries = 0
    return retry(() => {
      tries++
      return Promise.reject(error)
    }, { attempts, delay: 1 })
  }
  await assert.rejects(failing(unavailable('busy')), /busy/)
  assert.equal(tries, 3)
  await assert.rejects(failing(notFound('nothing')), /nothing/)
  assert.equal(tries, 1)
  await assert.rejects(failing(unavailable('later', { status: 429, codes: [], retryAfter: 3600_000 })), /later/)
  assert.equal(tries, 1)
  await assert.rejects(failing(unavailable('too many', { status: 429, codes: [], retryAfter: 1 }), 9), /too many/)
  assert.equal(tries, 3)
  const abort = new AbortController()
  setTimeout(() => abort.abort(new Error('enough')), 20)
  await assert.rejects(retry(() => Promise.reject(unavailable('busy')), { attempts: 9, delay: 60_000, signal: abort.signal }), /enough/)
})
