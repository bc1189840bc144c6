import assert from 'node:assert/strict'
import { spawn, spawnSync, type ChildProcess } from 'node:child_process'
import { chmodSync, cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { request } from 'node:http'
import { createServer, type AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { encodeEntry, paddedSize } from '../src/archive/tar.ts'
import { isMonitor } from '../src/execdriver/native.ts'

const root = new URL('..', import.meta.url).pathname

/** A TCP port of 127.0.0.1 that nobody listens on. */
export function freePort(): Promise<number> {
  return new Promise((resolve) => {
    const server = createServer().listen(0, '127.0.0.1', () => {
      const { port } = server.address() as AddressInfo
      server.close(() => resolve(port))
    })
  })
}

/** An answer of the API: its status and its body, parsed where it is JSON. */
export interface Answer { status: number, body: any, text: string }

/** What a command said, and its exit code. */
export interface Said { code: number, out: string, err: string }

/** The output of a command that must have succeeded. */
export function succeeded({ code, out, err }: Said, command: readonly string[]): string {
  assert.equal(code, 0, `${command.join(' ')}: ${err}`)
  return out
}

/** Waits until there is what `find` looks for, for ten seconds. */
export async function until<T>(what: string, find: () => T | Promise<T>): Promise<Exclude<T, false | null | undefined>> {
  for (let tries = 0; tries < 400; tries++) {
    const found = await find()
    if (found) return found as Exclude<T, false | null | undefined>
    await sleep(25)
  }
  return assert.fail(`not within ten seconds: ${what}`)
}

/** A daemon of a test's own, on a private socket and data root. */
export class TestDaemon {
  readonly directory = mkdtempSync(join(tmpdir(), 'berth-test-'))
  readonly socket = join(this.directory, 'berth.sock')
  #process: ChildProcess | undefined

  /** `flags` are more of the daemon's; `through` is a command that executes the rest of its arguments; `program` is the
   * daemon where it is not the checkout's. */
  async start(env: NodeJS.ProcessEnv = {}, { flags = [], through = [], program: daemon = join(root, 'bin/berth') }: { flags?: readonly string[], through?: readonly string[], program?: string } = {}): Promise<void> {
    const at = (name: string): string => join(this.directory, name)
    const [program = '', ...args] = [...through, daemon, 'daemon', '-H', `unix://${this.socket}`, '--data-root', at('data'), '--exec-root', at('run'), '-p', at('pid'), '-l', 'error', ...flags]
    this.#process = spawn(program, args, { env: { ...process.env, ...env }, stdio: ['ignore', 'inherit', 'inherit'] })
    for (let tries = 0; tries < 2000; tries++) { // an emulated machine takes its time
      await sleep(25)
      if (this.#process.exitCode !== null || this.#process.signalCode !== null) throw new Error('the daemon has ended')
      if (existsSync(this.socket) && (await this.call('GET', '/_ping').catch(() => undefined))?.status === 200) return
    }
    throw new Error('the daemon does not answer')
  }

  /** The daemon's process. */
  get pid(): number {
    return this.#process?.pid ?? 0
  }

  /** Ends the daemon by a signal and waits for its end. */
  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
    const child = this.#process
    if (!child || child.exitCode !== null || child.signalCode !== null) return
    const ended = new Promise((resolve) => child.once('exit', resolve))
    child.kill(signal)
    await ended
  }

  /** Waits until the daemon has ended by itself. */
  async ended(): Promise<void> {
    const child = this.#process!
    if (child.exitCode === null && child.signalCode === null) await new Promise((resolve) => child.once('exit', resolve))
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop()
    rmSync(this.directory, { recursive: true, force: true })
  }

  call(method: string, path: string, body?: unknown): Promise<Answer> {
    return new Promise((resolve, reject) => {
      const data = body === undefined ? undefined : Buffer.isBuffer(body) ? body : Buffer.from(JSON.stringify(body))
      const type = Buffer.isBuffer(body) ? 'application/x-tar' : 'application/json'
      const sent = request({ socketPath: this.socket, method, path, headers: data ? { 'Content-Type': type, 'Content-Length': data.length } : {} }, (response) => {
        const chunks: Buffer[] = []
        response.on('data', (chunk: Buffer) => chunks.push(chunk))
        response.on('error', reject)
        response.on('end', () => {
          const text = Buffer.concat(chunks).toString('utf8')
          let parsed: unknown
          try {
            parsed = JSON.parse(text)
          } catch {
            parsed = undefined // not every answer is JSON
          }
          resolve({ status: response.statusCode!, body: parsed, text })
        })
      })
      sent.on('error', reject)
      sent.end(data)
    })
  }

  /** Runs the client on this daemon. */
  cli(args: readonly string[], options: { input?: string | Buffer, env?: NodeJS.ProcessEnv } = {}): Said {
    const { status, stdout, stderr } = spawnSync(join(root, 'bin/berth'), args, { env: { ...process.env, DOCKER_HOST: `unix://${this.socket}`, DOCKER_CONFIG: this.directory, ...options.env }, input: options.input ?? '', maxBuffer: 256 << 20, timeout: 60_000 })
    return { code: status ?? -1, out: stdout.toString(), err: stderr.toString() }
  }

  /** As `cli`, while this process goes on. */
  async cliBeside(args: readonly string[], input?: string): Promise<Said> {
    const child = spawn(join(root, 'bin/berth'), args, { env: { ...process.env, DOCKER_HOST: `unix://${this.socket}`, DOCKER_CONFIG: this.directory }, stdio: ['pipe', 'pipe', 'pipe'], timeout: 60_000 })
    child.stdin.on('error', () => {}) // who ends without reading it
    child.stdin.end(input)
    const [out, err] = ['', ''].map(() => [] as Buffer[])
    child.stdout.on('data', (chunk: Buffer) => out!.push(chunk))
    child.stderr.on('data', (chunk: Buffer) => err!.push(chunk))
    const code = await new Promise<number | null>((resolve) => child.once('close', resolve))
    return { code: code ?? -1, out: Buffer.concat(out!).toString(), err: Buffer.concat(err!).toString() }
  }

  /** Runs the client, which must succeed; returns its output, trimmed. */
  readonly ok = (...args: string[]): string => succeeded(this.cli(args), args).trim()

  /** Runs the client, which must fail; returns what it says of that. */
  readonly refused = (...args: string[]): string => {
    const { code, err } = this.cli(args)
    assert.notEqual(code, 0, args.join(' '))
    return err
  }

  /** How many containers' processes run, by the kernel's word. */
  monitors(): number {
    const containers = join(this.directory, 'run/containers')
    if (!existsSync(containers)) return 0 // nothing has run yet
    return readdirSync(containers).filter((id) => {
      try {
        return isMonitor(Number(readFileSync(join(containers, id, 'pid'), 'utf8').split(' ')[0]))
      } catch {
        return false // it is gone
      }
    }).length
  }

  /** Imports a root file system of busybox as image `starter`. */
  async importStarter(): Promise<void> {
    const answer = await this.call('POST', '/images/create?fromSrc=-&repo=starter', starterArchive())
    if (answer.status !== 200) throw new Error(answer.text)
  }

  /** Creates and starts a container, waits for its end, and returns its exit code and output. */
  async run(body: object, name = ''): Promise<{ id: string, status: number, logs: string }> {
    const created = await this.call('POST', `/containers/create${name && `?name=${name}`}`, { Image: 'starter', Tty: false, ...body })
    if (created.status !== 201) throw new Error(created.text)
    const id: string = created.body.Id
    const started = await this.call('POST', `/containers/${id}/start`)
    if (started.status !== 204) throw new Error(started.text)
    const waited = await this.call('POST', `/containers/${id}/wait`)
    const logs = await this.call('GET', `/containers/${id}/logs?stdout=1&stderr=1`)
    return { id, status: waited.body.StatusCode, logs: logs.text.replace(/[\x00-\x02]\0\0\0[^]{4}/g, '') }
  }
}

const applets = ['sh', 'echo', 'cat', 'true', 'sleep', 'id', 'tail', 'head', 'dd', 'ls', 'false', 'date', 'mount', 'readlink', 'hostname', 'ps', 'stty', 'tty', 'touch', 'rm', 'mkdir', 'ln', 'seq', 'kill', 'env', 'pwd', 'sha256sum', 'wc', 'grep', 'stat', 'chmod', 'mknod', 'umount', 'ip', 'ping', 'nc', 'nslookup', 'httpd']

/** A file as an archive has it. */
export function fileEntry(name: string, content: string): Buffer {
  const head = encodeEntry({ type: 'file', name, linkName: '', mode: 0o644, uid: 0, gid: 0, userName: '', groupName: '', size: content.length, mtime: { seconds: 1, nanoseconds: 0 }, major: 0, minor: 0, attributes: new Map() })
  return Buffer.concat([head, Buffer.from(content.padEnd(paddedSize(content.length), '\0'))])
}

/** Fills a directory with a root file system of busybox. */
export function makeStarter(tree: string): void {
  mkdirSync(tree, { recursive: true })
  chmodSync(tree, 0o755)
  for (const name of ['bin', 'etc', 'tmp', 'proc', 'sys', 'dev']) mkdirSync(join(tree, name), { recursive: true })
  cpSync('/bin/busybox', join(tree, 'bin/busybox'), { dereference: true })
  for (const applet of applets) symlinkSync('busybox', join(tree, 'bin', applet))
  writeFileSync(join(tree, 'etc/passwd'), 'root:x:0:0:root:/root:/bin/sh\nbob:x:1000:1000:Bob:/home/bob:/bin/sh\n')
  writeFileSync(join(tree, 'etc/group'), 'root:x:0:\nbob:x:1000:\nwheel:x:10:bob\n')
}

/** A tar archive of that. */
export function starterArchive(): Buffer {
  const tree = mkdtempSync(join(tmpdir(), 'berth-starter-'))
  try {
    makeStarter(tree)
    const { stdout } = spawnSync('tar', ['c', '-C', tree, '.'], { maxBuffer: 64 << 20 })
    return stdout
  } finally {
    rmSync(tree, { recursive: true })
  }
}
