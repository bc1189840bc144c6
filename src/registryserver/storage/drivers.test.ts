import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { storageConformance } from './conformance.ts'
import { openStorage } from './drivers.ts'

for (const name of ['filesystem', 'memory'])
  storageConformance(name, () => {
    const root = mkdtempSync(join(tmpdir(), 'berth-storage-'))
    after(() => rmSync(root, { recursive: true, force: true }))
    return openStorage(name, root)
  })

test('there is no other storage', () => {
  assert.throws(() => openStorage('tape', ''), /unknown storage driver "tape"/)
})
