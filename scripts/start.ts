/** `npm start`: a first look without registry or network. Starts an engine on a private socket and data root, makes a
 * starter image, runs containers in front of the reader, and says how to go on. */
import { spawn, spawnSync } from 'node:child_process'
import { cpSync, existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { text } from 'node:stream/consumers'
import { Client } from '../src/api/client.ts'

const root = new URL('..', import.meta.url).pathname
if (process.getuid?.() !== 0) {
  console.error('berth makes containers from namespaces, cgroups and mounts: run this as root')
  process.exit(1)
}
const directory = mkdtempSync(join(tmpdir(), 'berth-'))
const socketPath = join(directory, 'berth.sock')
const at = (name: string): string => join(directory, name)

const client = new Client({ host: `unix://${socketPath}`, version: '' })

/** A root file system with one static program: busybox where there is one, else a greeting compiled with cc. */
function starter(): { archive: Buffer, command: string[] } {
  const tree = at('starter')
  for (const name of ['bin', 'etc', 'proc', 'sys', 'dev', 'tmp']) mkdirSync(join(tree, name), { recursive: true })
  const busybox = ['/bin/busybox', '/usr/bin/busybox'].find((path) => existsSync(path) && spawnSync(path, ['true']).status === 0)
  if (busybox) {
    cpSync(busybox, join(tree, 'bin/busybox'), { dereference: true })
  } else {
    writeFileSync(at('hello.c'), '#include <unistd.h>\n#include <stdio.h>\nint main(void){char h[64];gethostname(h,64);printf("hello from process %d on %s\\n",getpid(),h);return 0;}\n')
    if (spawnSync('cc', ['-O2', '-static', '-o', join(tree, 'bin/hello'), at('hello.c')], { stdio: 'inherit' }).status !== 0) throw new Error('a C compiler with a static libc is needed')
  }
  const { stdout } = spawnSync('tar', ['c', '-C', tree, '.'], { maxBuffer: 64 << 20 })
  return { archive: stdout, command: busybox ? ['/bin/busybox', 'sh', '-c', 'echo "hello from process $$ on $(busybox hostname)"'] : ['/bin/hello'] }
}

const daemon = spawn(join(root, 'bin/berth'), ['daemon', '-H', `unix://${socketPath}`, '--data-root', at('data'), '--exec-root', at('run'), '-p', at('pid'), '--bridge', 'none', '-l', 'error'], { stdio: 'inherit' })
const ended = new Promise((resolve) => daemon.once('exit', resolve))
try {
  while (!existsSync(socketPath)) await new Promise((resolve) => setTimeout(resolve, 20))
  const { archive, command } = starter()
  const imported = await text(await client.stream('POST', '/images/create', { query: { fromSrc: '-', repo: 'starter' }, body: Readable.from([archive]) }))
  if (imported.includes('"error"')) throw new Error(imported)
  console.log('an engine runs, and an image: starter\n')
  for (let i = 1; i <= 5; i++) {
    const begun = performance.now()
    const { Id } = await client.json<{ Id: string }>('POST', '/containers/create', { body: { Image: 'starter', Cmd: command, HostConfig: { NetworkMode: 'none' } } })
    await client.json('POST', `/containers/${Id}/start`)
    await client.json('POST', `/containers/${Id}/wait`)
    const took = performance.now() - begun
    const logs = await text(await client.stream('GET', `/containers/${Id}/logs`, { query: { stdout: true, stderr: true } }))
    console.log(`container ${i}: ${logs.slice(8).trim()}    (create, start, run, exit: ${took.toFixed(1)} ms)`)
    await client.json('DELETE', `/containers/${Id}`)
  }
  console.log(`\nTo go on, start the daemon, and use its client, or docker's with DOCKER_HOST=unix:///var/run/berth.sock:\n  ${join(root, 'bin/berth')} daemon &\n  tar c -C ROOTFS . | ${join(root, 'bin/berth')} import - mine\n  ${join(root, 'bin/berth')} run --rm mine COMMAND`)
} finally {
  daemon.kill('SIGTERM')
  await ended
  rmSync(directory, { recursive: true, force: true })
}
