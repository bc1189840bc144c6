import assert from 'node:assert/strict'
import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { GraphDB } from './graphdb.ts'

const directories: string[] = []
after(() => directories.forEach((directory) => rmSync(directory, { recursive: true, force: true })))

/** A graph with an image of two names, a layer that it has, and a container. */
function filled(): { path: string, copy: (kind: string, id: string) => string } {
  const directory = mkdtempSync(join(tmpdir(), 'berth-graph-'))
  directories.push(directory)
  const path = join(directory, 'graph.db')
  const graph = GraphDB.open(path, assert.fail)
  graph.transaction(() => {
    graph.put('layer', 'sha256:aa', { size: 1 })
    graph.put('image', 'sha256:bb', { text: '{}' })
    graph.link('sha256:bb', 'layer', 'sha256:aa')
  })
  for (const name of ['a:1', 'b:1', 'c:1']) graph.link('/tags', name, 'sha256:bb')
  graph.unlink('/tags', 'c:1')
  graph.put('container', 'cc', { state: 'created' })
  graph.put('container', 'dd', {})
  graph.remove('container', 'dd')
  graph.link('/hold/1', 'x', 'sha256:aa')
  graph.close()
  const again = GraphDB.open(path, assert.fail)
  again.putState('container', 'cc', { state: 'running' })
  again.close()
  return { path, copy: (kind, id) => join(directory, 'graph', kind, `${encodeURIComponent(id)}.json`) }
}

/** What is in a graph, and what was said when it was opened. */
function contentOf(path: string) {
  const warnings: string[] = []
  const graph = GraphDB.open(path, (message) => warnings.push(message))
  const content = { layers: graph.list('layer'), images: graph.list('image'), containers: graph.list('container'), tags: graph.edges('/tags').map(({ name }) => name), layer: graph.target('sha256:bb', 'layer'), holds: graph.edges('/hold/1').length }
  graph.close()
  return { content, warnings }
}

const whole = {
  layers: [{ id: 'sha256:aa', body: { size: 1 } }], images: [{ id: 'sha256:bb', body: { text: '{}' } }], containers: [{ id: 'cc', body: { state: 'running' } }],
  tags: ['a:1', 'b:1'], layer: 'sha256:aa', holds: 1,
}
const restored = { ...whole, containers: [{ id: 'cc', body: { state: 'created' } }], holds: 0 }

test('what is put is found again', () => {
  assert.deepEqual(contentOf(filled().path), { content: whole, warnings: [] })
})

test('a database that is damaged is put aside, and made again of the copies', () => {
  const { path } = filled()
  writeFileSync(path, 'this is no database, and long enough to be looked at'.repeat(100))
  const { content, warnings } = contentOf(path)
  assert.deepEqual(content, restored)
  assert.match(warnings.join(), /is damaged, and was put aside as .*: 3 images, layers, containers/)
  assert.equal(readdirSync(join(path, '..')).filter((name) => name.includes('.damaged-')).length, 1)
  assert.deepEqual(contentOf(path), { content: restored, warnings: [] })
})

test('a database that is lost is made again of the copies', () => {
  const { path } = filled()
  for (const suffix of ['', '-wal', '-shm']) rmSync(path + suffix, { force: true })
  assert.deepEqual(contentOf(path).content, restored)
})

test('a copy that can not be read is told, and costs only itself', () => {
  const { path, copy } = filled()
  writeFileSync(copy('image', 'sha256:bb'), '{"body":')
  rmSync(path)
  const { content, warnings } = contentOf(path)
  assert.deepEqual([content.layers, content.images, content.tags], [whole.layers, [], []])
  assert.match(warnings.join(), /the copy of image sha256:bb can't be read/)
})

test('copies that a crash left behind, or that it took, are put right', () => {
  const { path, copy } = filled()
  writeFileSync(copy('container', 'gone'), '{"body":{},"edges":[]}')
  rmSync(copy('image', 'sha256:bb'))
  assert.deepEqual(contentOf(path).content, whole)
  assert.ok(!existsSync(copy('container', 'gone')))
  assert.ok(existsSync(copy('image', 'sha256:bb')))
})
