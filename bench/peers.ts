import { spawn, spawnSync, type ChildProcess } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, openSync, readFileSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { http } from '../src/lib/http.ts'
import { makeStarter } from '../test/daemon.ts'
import { timed } from './measure.ts'

const root = new URL('..', import.meta.url).pathname

/** An engine under measurement, with a socket and a data root of its own. */
export class Peer {
  readonly name: string
  readonly directory = mkdtempSync(join(tmpdir(), 'bench-'))
  readonly socket = join(this.directory, 'engine.sock')
  /** What a container's keeper is called: the process that stays beside it. */
  readonly keeper: RegExp
  #process: ChildProcess | undefined
  readonly #agent = new http.Agent({ keepAlive: true, maxSockets: 16 })

  readonly #networks: boolean

  /** With `networks` an engine has those that it usually has, in a network namespace of its own; else it has none. */
  constructor(name: 'berth' | 'dockerd', options: { networks?: boolean } = {}) {
    this.name = name
    this.#networks = options.networks ?? false
    this.keeper = name === 'berth' ? /^berth-monitor$/ : /^containerd-shim/
  }

  async start(): Promise<void> {
    const at = (file: string): string => join(this.directory, file)
    const common = ['-H', `unix://${this.socket}`, '--data-root', at('data'), '--exec-root', at('run'), '-p', at('pid'), '-l', 'error']
    const log = openSync(at('log'), 'w')
    const program = this.name === 'berth' ? [process.env['BERTH'] ?? join(root, 'bin/berth'), 'daemon', ...common] : ['dockerd', ...common]
    const alone = ['--bridge=none', ...(this.name === 'dockerd' ? ['--iptables=false', '--ip-forward=false', '--ip-masq=false'] : [])]
    const [command = '', ...args] = this.#networks ? ['unshare', '-n', 'sh', '-c', 'ip link set lo up && exec "$@"', 'sh', ...program] : [...program, ...alone]
    this.#process = spawn(command, args, { stdio: ['ignore', log, log] })
    for (let tries = 0; tries < 600; tries++) {
      await new Promise((resolve) => setTimeout(resolve, 50))
      if (existsSync(this.socket) && (await this.call('GET', '/_ping').catch(() => undefined))?.status === 200) return
    }
    throw new Error(`${this.name} does not answer: ${readFileSync(at('log'), 'utf8').slice(-500)}`)
  }

  async stop(): Promise<void> {
    const child = this.#process
    this.#agent.destroy()
    if (child && child.exitCode === null && child.signalCode === null) {
      const ended = new Promise((resolve) => child.once('exit', resolve))
      child.kill()
      await ended
    }
    spawnSync('sh', ['-c', `awk '$5 ~ "^${this.directory}" {print $5}' /proc/self/mountinfo | sort -r | xargs -r umount -l`])
    rmSync(this.directory, { recursive: true, force: true })
  }

  get pid(): number {
    return Number(readFileSync(join(this.directory, 'pid'), 'utf8'))
  }

  /** The real docker CLI on this engine. Returns how long it took, in ms, and its output. */
  docker(...args: string[]): { ms: number, out: string } {
    const begun = performance.now()
    const { status, stdout, stderr } = spawnSync('docker', args, { env: { ...process.env, DOCKER_HOST: `unix://${this.socket}` }, maxBuffer: 1 << 30 })
    const ms = performance.now() - begun
    if (status !== 0) throw new Error(`${this.name}: docker ${args.join(' ')}: ${stderr.toString()}`)
    return { ms, out: stdout.toString() }
  }

  /** A shell command with DOCKER_HOST set. Returns how long it took, in ms. */
  shell(line: string): number {
    const begun = performance.now()
    const { status, stderr } = spawnSync('sh', ['-c', line], { env: { ...process.env, DOCKER_HOST: `unix://${this.socket}` }, maxBuffer: 1 << 30 })
    if (status !== 0) throw new Error(`${this.name}: ${line}: ${stderr.toString()}`)
    return performance.now() - begun
  }

  call(method: string, path: string, body?: object): Promise<{ status: number, body: any }> {
    return new Promise((resolve, reject) => {
      const data = body && JSON.stringify(body)
      const sent = http.request({ socketPath: this.socket, agent: this.#agent, method, path, headers: data ? { 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(data) } : {} }, (response) => {
        const chunks: Buffer[] = []
        response.on('data', (chunk: Buffer) => chunks.push(chunk))
        response.on('error', reject)
        response.on('end', () => {
          const text = Buffer.concat(chunks).toString()
          resolve({ status: response.statusCode!, body: text.startsWith('{') || text.startsWith('[') ? JSON.parse(text) : text })
        })
      })
      sent.on('error', reject)
      sent.end(data)
    })
  }

  /** As `call`, but throws unless the answer is a success. */
  async must(method: string, path: string, body?: object): Promise<any> {
    const answer = await this.call(method, path, body)
    if (answer.status >= 300 && answer.status !== 304) throw new Error(`${this.name}: ${method} ${path}: ${answer.status} ${JSON.stringify(answer.body)}`)
    return answer.body
  }

  async create(command: readonly string[], host: object = {}): Promise<string> {
    return (await this.must('POST', '/containers/create', { Image: 'bench', Cmd: command, HostConfig: { NetworkMode: 'none', ...host } })).Id
  }

  run(id: string): Promise<void> {
    return this.must('POST', `/containers/${id}/start`)
  }

  /** Starts a container, measures what is done to it, and removes it. */
  async withContainer(command: readonly string[], work: (id: string) => Promise<number> | number): Promise<number> {
    const id = await this.create(command)
    await this.run(id)
    try {
      return await work(id)
    } finally {
      await this.call('DELETE', `/containers/${id}?force=1`)
    }
  }

  /** Requests a second, eight at a time, for a second. */
  async rate(path: string): Promise<number> {
    let count = 0
    const end = performance.now() + 1000
    const took = await timed(() => Promise.all(Array.from({ length: 8 }, async () => {
      while (performance.now() < end) {
        await this.call('GET', path)
        count++
      }
    })))
    return count / took * 1000
  }

  async removeAll(): Promise<void> {
    const list: { Id: string }[] = await this.must('GET', '/containers/json?all=1')
    await inParallel(list, 8, ({ Id }) => this.call('DELETE', `/containers/${Id}?force=1&v=1`))
  }

  /** Waits until what was deleted is deleted, and what was written is on the disk. */
  async settle(): Promise<void> {
    const trash = join(this.directory, 'data/trash')
    while (existsSync(trash) && readdirSync(trash).length > 0) await new Promise((resolve) => setTimeout(resolve, 20))
    spawnSync('sync')
  }

  /** Proportional set size of the keepers of all containers, in bytes (proc_pid_smaps_rollup(5)). */
  keepersPss(): number {
    let total = 0
    for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
      try {
        if (!this.keeper.test(readFileSync(`/proc/${pid}/comm`, 'utf8').trim())) continue
        total += Number(/^Pss:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8'))?.[1] ?? 0) * 1024
      } catch {
        // it has ended meanwhile
      }
    }
    return total
  }

  /** As `shell`, for what it says. */
  shellText(line: string): string {
    const { status, stdout, stderr } = spawnSync('sh', ['-c', line], { env: { ...process.env, DOCKER_HOST: `unix://${this.socket}` } })
    if (status !== 0) throw new Error(`${this.name}: ${line}: ${stderr.toString()}`)
    return stdout.toString().trim()
  }

  /** Processor time that the daemon, and what it cannot do without, has had, in ms. */
  daemonTime(): number {
    const ticks = (pid: number): number => {
      const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').replace(/^.*\) /, '').split(' ')
      return Number(fields[11]) + Number(fields[12])
    }
    return this.#processes().reduce((sum, pid) => sum + ticks(pid), 0) * 10
  }

  /** The most memory that the daemon, and what it cannot do without, has had, in bytes. */
  daemonPeak(): number {
    return this.#daemonMemory('VmHWM')
  }

  /** Resident set size of the daemon, and of what it cannot do without, in bytes. */
  daemonRss(): number {
    return this.#daemonMemory('VmRSS')
  }

  #daemonMemory(field: 'VmRSS' | 'VmHWM'): number {
    const rss = (pid: number): number => Number(new RegExp(`^${field}:\\s+(\\d+)`, 'm').exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0) * 1024
    return this.#processes().reduce((sum, pid) => sum + rss(pid), 0)
  }

  #processes(): number[] {
    const children = spawnSync('pgrep', ['-P', String(this.pid)]).stdout.toString().split('\n').filter(Boolean).map(Number)
    return [this.pid, ...children]
  }
}

/** Starts both engines, with an image `bench` of busybox; `applets` are more of those. */
export async function startPeers(scratch: string, applets: readonly string[] = []): Promise<readonly [Peer, Peer]> {
  const peers = [new Peer('berth'), new Peer('dockerd')] as const
  try {
    for (const peer of peers) await peer.start()
    const starter = join(scratch, 'starter')
    makeStarter(starter)
    spawnSync('sh', ['-c', `cd ${starter}/bin && for a in ${applets.join(' ')}; do ln -s busybox $a; done; tar cf ${starter}.tar -C ${starter} .`])
    for (const peer of peers) peer.docker('import', `${starter}.tar`, 'bench')
  } catch (error) {
    await stopPeers(peers)
    throw error
  }
  return peers
}

export async function stopPeers(peers: readonly Peer[]): Promise<void> {
  for (const peer of peers) await peer.stop()
}

/** Runs `work` over items, at most `width` at a time. */
export async function inParallel<T>(items: readonly T[], width: number, work: (item: T) => Promise<unknown>): Promise<void> {
  const queue = [...items]
  await Promise.all(Array.from({ length: width }, async () => {
    for (let item = queue.shift(); item !== undefined; item = queue.shift()) await work(item)
  }))
}

/** Makes the directory of a file system to import. */
export function makeTree(directory: string, files: number): void {
  mkdirSync(directory, { recursive: true })
  spawnSync('sh', ['-c', `cd "$0" && mkdir -p $(seq -f d%g 1 ${Math.ceil(files / 200)}) && for i in $(seq ${files}); do echo "$i some content of a small file" > d$((i % ${Math.ceil(files / 200)} + 1))/f$i; done`, directory])
}

/** A Debian root file system, made once and kept for the next run; undefined without debootstrap. */
export function debianTree(): string | undefined {
  const kept = '/var/tmp/berth-bench/debian'
  if (existsSync(`${kept}.tar`)) return kept
  if (spawnSync('debootstrap', ['--version']).status !== 0) return undefined
  mkdirSync(kept, { recursive: true })
  const made = spawnSync('sh', ['-c', `debootstrap --variant=minbase bookworm ${kept} >/dev/null 2>&1 && tar cf ${kept}.tar -C ${kept} . && rm -rf ${kept}`])
  return made.status === 0 ? kept : undefined
}
