/** Makes dist/, what npm's package has in the place of src/: Node runs no TypeScript below node_modules. What a command
 * does not need stays in files that it does not load. */
import { rmSync } from 'node:fs'
import { build } from 'esbuild'

const root = new URL('..', import.meta.url).pathname
rmSync(`${root}dist`, { recursive: true, force: true })
await build({
  absWorkingDir: root, entryPoints: { main: 'src/cli/main.ts', 'archive-worker': 'src/archive/worker.ts' }, outdir: 'dist', bundle: true, splitting: true, format: 'esm', platform: 'node', target: 'node26', packages: 'external', logLevel: 'warning',
})
