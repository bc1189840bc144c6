import assert from 'node:assert/strict'
import { spawn, spawnSync, type ChildProcess } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync, copyFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { freePort, starterArchive } from './daemon.ts'

const berth = new URL('../bin/berth', import.meta.url).pathname
const directory = mkdtempSync(join(tmpdir(), 'berth-tls-'))
const at = (name: string): string => join(directory, name)
let daemon: ChildProcess
let port = 0

function openssl(...args: string[]): void {
  const { status, stderr } = spawnSync('openssl', args, { cwd: directory })
  if (status !== 0) throw new Error(stderr.toString())
}

function client(args: string[], options: { input?: string | Buffer, certificates?: string, verify?: string } = {}) {
  const env = { ...process.env, DOCKER_HOST: `tcp://127.0.0.1:${port}`, DOCKER_TLS_VERIFY: options.verify ?? '1', DOCKER_CERT_PATH: options.certificates ?? at('client') }
  const { status, stdout, stderr } = spawnSync(berth, args, { env, input: options.input ?? '', timeout: 20_000 })
  return { code: status, out: stdout.toString(), err: stderr.toString() }
}

before(async () => {
  openssl('req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-keyout', 'ca-key.pem', '-out', 'ca.pem', '-days', '2', '-subj', '/CN=berth test')
  writeFileSync(at('extensions'), 'subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth,clientAuth\n')
  for (const name of ['server', 'client']) {
    mkdirSync(at(name))
    openssl('req', '-newkey', 'rsa:2048', '-nodes', '-keyout', `${name}/key.pem`, '-out', `${name}.csr`, '-subj', '/CN=localhost')
    openssl('x509', '-req', '-in', `${name}.csr`, '-CA', 'ca.pem', '-CAkey', 'ca-key.pem', '-CAcreateserial', '-out', `${name}/cert.pem`, '-days', '2', '-extfile', 'extensions')
    copyFileSync(at('ca.pem'), at(`${name}/ca.pem`))
  }
  port = await freePort()
  daemon = spawn(berth, ['daemon', '-H', `tcp://127.0.0.1:${port}`, '--tlsverify', '--data-root', at('data'), '--exec-root', at('run'), '-p', at('pid'), '-l', 'error'], { stdio: 'inherit', env: { ...process.env, DOCKER_CERT_PATH: at('server') } })
  for (let tries = 0; client(['ps']).code !== 0; tries++) assert.ok(tries < 50, client(['ps']).err)
})

after(async () => {
  const ended = new Promise((resolve) => daemon.once('exit', resolve))
  daemon.kill()
  await ended
  rmSync(directory, { recursive: true, force: true })
})

test('a client with a certificate runs containers over TLS, with their input and output', () => {
  assert.equal(client(['import', '-', 'starter'], { input: starterArchive() }).code, 0)
  assert.deepEqual(client(['run', '--rm', 'starter', 'sh', '-c', 'echo out; exit 3']), { code: 3, out: 'out\n', err: '' })
  assert.deepEqual(client(['run', '-i', '--rm', 'starter', 'cat'], { input: 'in' }), { code: 0, out: 'in', err: '' })
})

test('a client without a certificate, and one without TLS, get nothing', () => {
  mkdirSync(at('none'))
  copyFileSync(at('ca.pem'), at('none/ca.pem'))
  assert.notEqual(client(['ps'], { certificates: at('none') }).code, 0)
  assert.notEqual(client(['ps'], { verify: '' }).code, 0)
})
