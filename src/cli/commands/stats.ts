import type { Client } from '../../api/client.ts'
import { isKind } from '../../lib/errors.ts'
import { shortId } from '../../lib/ids.ts'
import { binarySize, humanSize } from '../../lib/units.ts'
import { command } from '../command.ts'
import { formatFlag, listingLines, type Listing, type Row } from '../format/table.ts'
import { jsonLines } from '../lines.ts'
import { containerPath } from '../targets.ts'

interface CpuStats { cpu_usage: { total_usage: number, percpu_usage?: number[] }, system_cpu_usage?: number, online_cpus?: number }
interface Sample {
  id: string, name: string, read: string, cpu_stats: CpuStats, precpu_stats: CpuStats
  memory_stats: { usage?: number, limit?: number, stats?: Record<string, number> }, pids_stats: { current?: number }
  networks?: Record<string, { rx_bytes: number, tx_bytes: number }>, blkio_stats: { io_service_bytes_recursive: { op: string, value: number }[] | null }
}

const heads = { ID: 'CONTAINER ID', CPUPerc: 'CPU %', MemUsage: 'MEM USAGE / LIMIT', MemPerc: 'MEM %', NetIO: 'NET I/O', BlockIO: 'BLOCK I/O', PIDs: 'PIDS' }
const columns = ['ID', 'Name', 'CPUPerc', 'MemUsage', 'MemPerc', 'NetIO', 'BlockIO', 'PIDs']

export const stats = command({
  usage: '[CONTAINER...]',
  args: [0, Infinity],
  flags: {
    all: { type: 'bool', short: 'a', help: 'Show all containers (default shows just running)' },
    format: formatFlag,
    'no-stream': { type: 'bool', help: 'Disable streaming stats and only pull the first result' },
    'no-trunc': { type: 'bool', help: 'Do not truncate output' },
  },
  async run({ args, flags, session, console }) {
    const client = await session.client()
    const listing: Listing = { format: flags.format || session.config.statsFormat || '', columns, heads }
    const named = async (): Promise<string[]> => (args.length ? args : (await client.json<{ Id: string }[]>('GET', '/containers/json', { query: { all: flags.all } })).map(({ Id }) => Id))
    if (flags['no-stream']) {
      const samples = await Promise.all((await named()).map(async (name) => await client.json<Sample>('GET', containerPath(name, '/stats'), { query: { stream: 0 } })))
      for (const line of listingLines(samples.map((sample) => rowOf(sample, flags['no-trunc'])), listing)) console.print(line)
      return
    }
    const latest = new Map<string, Row | undefined>()
    const follow = async (name: string): Promise<void> => {
      latest.set(name, undefined)
      for await (const sample of jsonLines<Sample>(await client.stream('GET', containerPath(name, '/stats'), { query: { stream: 1 } }))) latest.set(name, rowOf(sample, flags['no-trunc']))
      latest.delete(name)
    }
    const following = new Set<string>()
    const begin = (name: string): void => {
      if (following.has(name)) return
      following.add(name)
      void follow(name).catch((error: unknown) => {
        if (!isKind(error, 'not-found')) throw error // removed meanwhile
        latest.delete(name)
      })
    }
    const first = await named()
    for (const name of args) await client.json<unknown>('GET', containerPath(name, '/json'))
    first.forEach(begin)
    if (args.length === 0) void followNew(client, begin)
    for (;;) {
      await new Promise((resolve) => setTimeout(resolve, 500))
      const lines = listingLines([...latest.values()].filter((row) => row !== undefined), listing)
      console.stdout.write(`${console.stdout.isTTY ? '\x1b[2J\x1b[H' : ''}${lines.join('\n')}\n`)
      if (args.length > 0 && latest.size === 0) return
    }
  },
})

async function followNew(client: Client, begin: (id: string) => void): Promise<void> {
  const filters = JSON.stringify({ type: ['container'], event: ['start'] })
  for await (const { Actor } of jsonLines<{ Actor: { ID: string } }>(await client.stream('GET', '/events', { query: { filters } }))) begin(Actor.ID)
}

/** How much of one CPU was used between the two readings of a sample, in percent. */
export function cpuPercent({ cpu_stats: now, precpu_stats: before }: Pick<Sample, 'cpu_stats' | 'precpu_stats'>): number {
  const used = now.cpu_usage.total_usage - before.cpu_usage.total_usage
  const passed = (now.system_cpu_usage ?? 0) - (before.system_cpu_usage ?? 0)
  return used > 0 && passed > 0 ? used / passed * (now.online_cpus || now.cpu_usage.percpu_usage?.length || 1) * 100 : 0
}

function rowOf(sample: Sample, whole: boolean): Row {
  const { usage = 0, limit = 0, stats: memory = {} } = sample.memory_stats
  const cache = memory['total_inactive_file'] ?? memory['inactive_file'] ?? 0
  const used = cache < usage ? usage - cache : usage
  const sum = (numbers: number[]): number => numbers.reduce((total, number) => total + number, 0)
  const networks = Object.values(sample.networks ?? {})
  const blocks = (op: string): number => sum((sample.blkio_stats.io_service_bytes_recursive ?? []).filter((entry) => entry.op.toLowerCase() === op).map(({ value }) => value))
  const name = sample.name.replace(/^\//, '')
  return {
    Container: name, Name: name, ID: whole ? sample.id : shortId(sample.id), CPUPerc: `${cpuPercent(sample).toFixed(2)}%`, MemUsage: `${binarySize(used)} / ${binarySize(limit)}`,
    MemPerc: `${(limit ? used / limit * 100 : 0).toFixed(2)}%`, NetIO: `${humanSize(sum(networks.map(({ rx_bytes }) => rx_bytes)))} / ${humanSize(sum(networks.map(({ tx_bytes }) => tx_bytes)))}`,
    BlockIO: `${humanSize(blocks('read'))} / ${humanSize(blocks('write'))}`, PIDs: String(sample.pids_stats.current ?? 0),
  }
}
