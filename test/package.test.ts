import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { TestDaemon } from './daemon.ts'

const root = new URL('..', import.meta.url).pathname
const directory = mkdtempSync(join(tmpdir(), 'berth-package-'))
after(() => rmSync(directory, { recursive: true, force: true }))

/** Puts what npm packs where npm puts it: beside the packages that it needs, which are the checkout's. */
function install(): string {
  const modules = join(directory, 'node_modules')
  mkdirSync(join(modules, '.bin'), { recursive: true })
  execFileSync('npm', ['pack', '--silent', '--pack-destination', directory], { cwd: root, stdio: ['ignore', 'ignore', 'inherit'] })
  const archive = readdirSync(directory).find((name) => name.endsWith('.tgz'))!
  execFileSync('tar', ['xzf', join(directory, archive), '-C', modules])
  execFileSync('mv', [join(modules, 'package'), join(modules, 'berth')])
  for (const name of readdirSync(join(root, 'node_modules')).filter((name) => !name.startsWith('.'))) symlinkSync(join(root, 'node_modules', name), join(modules, name))
  for (const [name, target] of [['node', join(root, 'node_modules/.bin/node')], ['berth', '../berth/bin/berth']] as const) symlinkSync(target, join(modules, '.bin', name))
  return join(modules, '.bin/berth')
}

test('what npm installs is a daemon and a client, without TypeScript', async () => {
  const berth = install()
  const installed = join(directory, 'node_modules/berth')
  assert.deepEqual(readdirSync(installed).toSorted(), ['CHANGELOG.md', 'README.md', 'bin', 'dist', 'docs', 'native', 'package.json'])
  assert.match(spawnSync(berth, ['--version']).stdout.toString(), /^berth version \d/)
  await using daemon = new TestDaemon()
  await daemon.start({}, { program: berth })
  await daemon.importStarter() // by the worker that unpacks
  const { status, stdout, stderr } = spawnSync(berth, ['run', '--rm', 'starter', 'echo', 'installed'], { env: { ...process.env, DOCKER_HOST: `unix://${daemon.socket}` } })
  assert.deepEqual([status, stdout.toString(), stderr.toString()], [0, 'installed\n', ''])
})
