import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after } from 'node:test'
import { CachedLog } from './cached.ts'
import { logDriverConformance } from './conformance.ts'
import type { LogInfo } from './driver.ts'
import { logOpener } from './drivers.ts'
import { localLog } from './local.ts'

const root = mkdtempSync(join(tmpdir(), 'berth-logs-'))
after(() => rmSync(root, { recursive: true, force: true }))

const warn = (message: string): void => {
  throw new Error(message)
}
const openLog = logOpener(warn)
function infoOf(kind: string, log: string): LogInfo {
  const directory = join(root, kind, log)
  mkdirSync(directory, { recursive: true })
  return { id: 'a'.repeat(64), name: log, imageId: 'sha256:b', imageName: 'image', command: 'true', created: new Date(0).toISOString(), labels: {}, env: [], directory }
}

for (const name of ['json-file', 'local']) logDriverConformance(name, (log) => openLog(name, infoOf(name, log), {}))
logDriverConformance('local, compressed and rotated', (log) => openLog('local', infoOf('rotated', log), { 'max-size': '32k', 'max-file': '50' }))
logDriverConformance('json-file, rotated', (log) => openLog('json-file', infoOf('rotated-json', log), { 'max-size': '32k', 'max-file': '50', compress: 'true' }))
// what a log that can't be read keeps beside it
logDriverConformance('beside another', (log) => {
  const info = infoOf('cached', log)
  return new CachedLog({ name: 'silent', write: () => true, drained: (then) => then(), close() {} }, localLog(info, {}, warn, 'container-cached.log'))
})
