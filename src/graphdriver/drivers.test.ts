import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after } from 'node:test'
import { Trash } from '../lib/trash.ts'
import { graphDriverConformance } from './conformance.ts'
import { openGraphDriver } from './drivers.ts'

for (const name of ['overlay', 'vfs'])
  graphDriverConformance(name, () => {
    const root = mkdtempSync(join(tmpdir(), 'berth-graph-'))
    after(() => rmSync(root, { recursive: true, force: true }))
    const trash = new Trash(join(root, 'trash'), (message, error) => {
      throw new Error(message, { cause: error })
    })
    return { driver: openGraphDriver(name, root, trash), settle: () => trash.settled() }
  })
