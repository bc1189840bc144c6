import assert from 'node:assert/strict'
import { globSync, readFileSync } from 'node:fs'
import { dirname, join, normalize } from 'node:path'
import { test } from 'node:test'

const root = import.meta.dirname
/** Rooms from the lowest up: each may import those before it, and itself. */
const order = ['lib', 'netlink', 'sys', 'api', 'reference', 'manifest', 'registry', 'archive', 'graphdb', 'logdriver', 'volumedriver', 'graphdriver', 'libcontainer', 'runtime', 'execdriver', 'networkdriver', 'engine', 'server', 'libnetwork', 'volume', 'layer', 'image', 'distribution', 'container', 'registryserver', 'daemon', 'cli']
const files = globSync('**/*.ts', { cwd: root }).filter((file) => !file.endsWith('.test.ts'))
const imports = new Map(files.map((file) => [file, [...readFileSync(join(root, file), 'utf8').matchAll(/(import type|import|export)\s[^'"]*?from '(\.[^']+)'|()import\('(\.[^']+)'\)/g)]
  .map((match) => ({ to: normalize(join(dirname(file), (match[2] ?? match[4])!)), type: match[1] === 'import type' }))]))

test('imports go one way, from the daemon down', () => {
  for (const [file, targets] of imports)
    for (const { to } of targets) {
      const [from, into] = [file.split('/')[0]!, to.split('/')[0]!]
      if (from === 'cli') assert.ok(['lib', 'netlink', 'sys', 'api', 'reference', 'archive', 'runtime', 'cli'].includes(into) || file === 'cli/runtime.ts' && into === 'libcontainer' || file === 'cli/main.ts' && to === 'daemon/main.ts' || file === 'cli/commands/serve.ts' && into === 'registryserver', `the client's ${file} imports ${to}`)
      assert.ok(order.indexOf(into) <= order.indexOf(from), `${file} imports ${to}`)
      if (to.endsWith('drivers.ts') && from !== into) assert.ok(['daemon/compose.ts', 'daemon/network.ts', 'daemon/system.ts', 'cli/commands/serve.ts'].includes(file), `${file} imports a table of drivers`)
    }
})

test('no file imports itself by way of others', () => {
  const done = new Set<string>()
  const visit = (file: string, way: readonly string[]): void => {
    assert.ok(!way.includes(file), [...way, file].join(' → '))
    if (done.has(file)) return
    for (const { to, type } of imports.get(file) ?? []) if (!type) visit(to, [...way, file])
    done.add(file)
  }
  for (const file of files) visit(file, [])
})
