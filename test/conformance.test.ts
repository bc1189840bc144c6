import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import { globSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { TestHost } from './hosts.ts'

// Other people's libraries, in a package of their own, with services as Debian packs them.

const root = new URL('..', import.meta.url).pathname
const host = new TestHost()
before(async () => {
  const tree = join(host.directory, 'services')
  const made = spawnSync('debootstrap', ['--variant=minbase', '--include=postgresql,redis-server,nginx-light,curl', 'bookworm', tree, 'http://deb.debian.org/debian'], { encoding: 'utf8' })
  assert.equal(made.status, 0, made.stdout.slice(-2000) + made.stderr)
  assert.equal(spawnSync('tar', ['-C', tree, '-cf', `${tree}.tar`, '.']).status, 0)
  rmSync(tree, { recursive: true })
  await host.start()
  assert.equal(host.cli(['import', `${tree}.tar`, 'services']).code, 0)
  rmSync(`${tree}.tar`)
}, { timeout: 600_000 })
after(() => host[Symbol.asyncDispose]())

for (const file of globSync('*.test.ts', { cwd: join(root, 'conformance') }))
  test(`conformance/${file}`, async () => {
    const child = spawn('nsenter', ['-n', '-t', String(host.keeper), process.execPath, '--disable-warning=ExperimentalWarning', '--test', '--test-reporter=tap', join(root, 'conformance', file)], {
      stdio: ['ignore', 'pipe', 'pipe'], timeout: 100_000, env: { PATH: process.env['PATH'], HOME: host.directory, DOCKER_HOST: `unix://${host.socket}`, TESTCONTAINERS_RYUK_DISABLED: 'true' }, // its reaper is an image of Docker Hub's
    })
    let said = ''
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk: Buffer) => (said += chunk.toString()))
    const code = await new Promise((resolve) => child.once('close', resolve))
    assert.equal(code, 0, said)
    assert.match(said, /^# pass [1-9]\d*$/m)
    assert.match(said, /^# skipped 0$/m)
    assert.equal(host.cli(['ps', '-q']).out, '', 'nothing runs on')
  })
