/** Measures how images come and go, berth beside dockerd, from and to the same docker-registry, and berth's registry beside
 * that. `node bench/images.ts [--quick]`; prints medians and their ratio. Needs dockerd and docker-registry (Debian:
 * docker.io, docker-registry), busybox, and debootstrap for the Debian image. */
import { spawnSync } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Agent, request, type IncomingHttpHeaders } from 'node:http'
import { TestRegistry } from '../test/registries.ts'
import { median, quick, report, reportHead, timed } from './measure.ts'
import { Peer, debianTree, inParallel, makeTree } from './peers.ts'

const rounds = quick ? 3 : 5
const directory = mkdtempSync(join(tmpdir(), 'bench-images-'))

/** The most memory that a process has had, in MB. */
const highWater = (pid: number): number => Number(/^VmHWM:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))![1]) / 1000

const agent = new Agent({ keepAlive: true })

function ask(port: number, method: string, path: string, body?: Buffer): Promise<{ headers: IncomingHttpHeaders, length: number, status: number }> {
  return new Promise((resolve, reject) => {
    const sent = request({ host: '127.0.0.1', port, method, path, agent, headers: { 'Content-Length': body?.length ?? 0 } }, (response) => {
      let length = 0
      response.on('data', (chunk: Buffer) => (length += chunk.length))
      response.on('error', reject)
      response.on('end', () => resolve({ headers: response.headers, length, status: response.statusCode! }))
    })
    sent.on('error', reject)
    sent.end(body)
  })
}

/** Eight clients push and pull blobs of 16 MB. Returns MB a second for both, and HEAD requests a second. */
async function eightClients(registry: TestRegistry): Promise<{ push: number, pull: number, head: number }> {
  const { port } = registry
  const size = 16 << 20
  const clients = Array.from({ length: 8 }, (_, at) => {
    const data = randomBytes(size)
    return { at, data, digest: `sha256:${createHash('sha256').update(data).digest('hex')}` }
  })
  const pushed = await timed(() => inParallel(clients, 8, async ({ at, data, digest }) => {
    const begun = await ask(port, 'POST', `/v2/bench/c${at}/blobs/uploads/`)
    const url = new URL(begun.headers.location!, `http://127.0.0.1:${port}`)
    url.searchParams.set('digest', digest)
    const { status } = await ask(port, 'PUT', url.pathname + url.search, data)
    if (status !== 201) throw new Error(`push: ${status}`)
  }))
  const pulled = await timed(() => inParallel(clients, 8, async ({ at }) => {
    for (let round = 0; round < 8; round++) {
      const { length } = await ask(port, 'GET', `/v2/bench/c${at}/blobs/${clients[at]!.digest}`)
      if (length !== size) throw new Error(`pull: ${length}`)
    }
  }))
  const heads = await timed(() => inParallel(clients, 8, async ({ at, digest }) => {
    for (let round = 0; round < 200; round++) await ask(port, 'HEAD', `/v2/bench/c${at}/blobs/${digest}`)
  }))
  return { push: 8 * size / pushed / 1000, pull: 64 * size / pulled / 1000, head: 1600 / heads * 1000 }
}

async function main(): Promise<void> {
  const store = await TestRegistry.start('docker')
  const berth = new Peer('berth')
  const dockerd = new Peer('dockerd')
  const peers = [berth, dockerd]
  try {
    for (const peer of peers) await peer.start()
    const small = join(directory, 'small')
    makeTree(small, quick ? 4000 : 20_000)
    const debian = debianTree()
    spawnSync('tar', ['cf', `${small}.tar`, '-C', small, '.'])
    const trees = { ...(debian && { Debian: debian }), [`${quick ? 4000 : '20,000'} small files`]: small }
    // ten layers, each a tenth of the small files
    const parts = Array.from({ length: 10 }, (_, at) => join(directory, `part${at}`))
    parts.forEach((part) => makeTree(part, quick ? 400 : 2000))
    reportHead()
    const compare = async (name: string, measure: (peer: Peer) => Promise<number>, more = false): Promise<void> => {
      const values = new Map(peers.map((peer) => [peer, [] as number[]]))
      for (let round = 0; round < rounds; round++) for (const peer of peers) values.get(peer)!.push(await measure(peer))
      report(name, median(values.get(berth)!), median(values.get(dockerd)!), more)
    }
    const forget = async (peer: Peer, name: string): Promise<void> => {
      peer.docker('rmi', '-f', name)
      await peer.settle()
    }
    const pullAndPush = async (what: string, make: (peer: Peer, name: string) => void): Promise<void> => {
      const name = `127.0.0.1:${store.port}/${what.toLowerCase().replace(/[^a-z0-9]+/g, '-')}`
      make(dockerd, name)
      dockerd.docker('push', '-q', name)
      await forget(dockerd, name)
      await compare(`pull of ${what}, ms`, async (peer) => {
        const { ms } = peer.docker('pull', '-q', name)
        await forget(peer, name)
        return ms
      })
      let count = 0
      await compare(`push of ${what}, made here, ms`, async (peer) => {
        const own = `${name}-${peer.name}-${count++}`
        make(peer, own)
        const { ms } = peer.docker('push', '-q', own)
        await forget(peer, own)
        return ms
      })
    }
    for (const [what, tree] of Object.entries(trees))
      await pullAndPush(what, (peer, name) => {
        // nobody may have it already: each has a file of its own
        writeFileSync(join(directory, 'salt'), String(Math.random()))
        peer.shell(`cp ${tree}.tar ${directory}/salted.tar && tar rf ${directory}/salted.tar -C ${directory} salt && docker import ${directory}/salted.tar ${name} >/dev/null && rm ${directory}/salted.tar`)
      })
    await pullAndPush('an image of ten layers', (peer, name) => {
      peer.shell(`tar c -C ${parts[0]} . | docker import - ${name} >/dev/null`)
      for (const part of parts.slice(1)) {
        writeFileSync(join(part, 'bench-salt'), String(Math.random()))
        const id = peer.shellText(`docker create ${name} /none`)
        peer.shell(`tar c -C ${part} . | docker cp - ${id}:/ && docker commit ${id} ${name} >/dev/null && docker rm ${id} >/dev/null`)
      }
    })
    // the most that each has needed for all of that
    report('peak memory of the daemon, MB', berth.daemonPeak() / 1e6, dockerd.daemonPeak() / 1e6, false)
    for (const peer of peers) await peer.stop()
    console.log(`\n${''.padEnd(62)}${'berth'.padStart(9)}${'registry'.padStart(10)}${'better'.padStart(9)}`)
    const ours = await TestRegistry.start('berth')
    const figures = { ours: [] as Awaited<ReturnType<typeof eightClients>>[], theirs: [] as Awaited<ReturnType<typeof eightClients>>[] }
    for (let round = 0; round < rounds; round++) {
      figures.ours.push(await eightClients(ours))
      figures.theirs.push(await eightClients(store))
    }
    for (const [key, name] of [['push', 'push by eight clients, MB/s'], ['pull', 'pull by eight clients, MB/s'], ['head', 'HEAD of blobs by eight clients, per s']] as const)
      report(name, median(figures.ours.map((one) => one[key])), median(figures.theirs.map((one) => one[key])), true)
    report('peak memory of the registry, MB', highWater(ours.pid), highWater(store.pid), false)
    await ours[Symbol.asyncDispose]()
  } finally {
    await store[Symbol.asyncDispose]()
    rmSync(directory, { recursive: true, force: true })
  }
}

mkdirSync(directory, { recursive: true })
await main()
agent.destroy()
