import { join } from 'node:path'
import { read, readKeyed, readNumber, type CgroupStats, type IoEntry, type Write } from './files.ts'
import type { Resources } from '../spec.ts'

/** The control files of cgroup version 2 for `resources`, whose units are version 1's (kernel:
 * admin-guide/cgroup-v2; the conversions are those of the OCI runtime specification and runc). Device rules are not
 * files there: see devices.ts. */
export function writeV2(directory: string, resources: Resources): Write[] {
  const writes: Write[] = []
  const put = (file: string, value: number | string | undefined, optional = false): void => {
    if (value !== undefined) writes.push({ path: join(directory, file), value: String(value), ...(optional && { optional }) })
  }
  const { memory, cpu, pids, blockIO } = resources
  put('memory.max', memory?.limit === undefined ? undefined : maximum(memory.limit))
  if (memory?.swap !== undefined) put('memory.swap.max', memory.swap < 0 ? 'max' : memory.swap - Math.max(memory.limit ?? 0, 0), true)
  put('memory.low', memory?.reservation === undefined ? undefined : maximum(memory.reservation))
  if (cpu?.shares) put('cpu.weight', weightOfShares(cpu.shares))
  if (cpu?.quota !== undefined || cpu?.period !== undefined) put('cpu.max', `${cpu.quota === undefined || cpu.quota <= 0 ? 'max' : cpu.quota} ${cpu.period || 100_000}`)
  put('cpu.max.burst', cpu?.burst)
  put('cpu.idle', cpu?.idle)
  put('cpuset.cpus', cpu?.cpus || undefined)
  put('cpuset.mems', cpu?.mems || undefined)
  if (pids) put('pids.max', pids.limit > 0 ? pids.limit : 'max')
  // one file or the other, by the scheduler of the disks; the second has a range of its own
  if (blockIO?.weight) {
    put('io.bfq.weight', blockIO.weight, true)
    put('io.weight', ioWeightOf(blockIO.weight), true)
  }
  for (const { major, minor, weight } of blockIO?.weightDevice ?? []) put('io.bfq.weight', `${major}:${minor} ${weight}`, true)
  const throttles = [
    ['rbps', blockIO?.throttleReadBpsDevice], ['wbps', blockIO?.throttleWriteBpsDevice],
    ['riops', blockIO?.throttleReadIOPSDevice], ['wiops', blockIO?.throttleWriteIOPSDevice],
  ] as const
  for (const [key, list] of throttles)
    for (const { major, minor, rate } of list ?? []) put('io.max', `${major}:${minor} ${key}=${rate}`)
  for (const { pageSize, limit } of resources.hugepageLimits ?? []) put(`hugetlb.${pageSize}.max`, limit)
  for (const [file, value] of Object.entries(resources.unified ?? {})) put(file, value)
  return writes
}

const maximum = (bytes: number): number | string => (bytes < 0 ? 'max' : bytes)

/** cpu.weight (1–10000, default 100) for cpu.shares (2–262144, default 1024): runc's formula since 1.3, which maps the
 * default to the default. */
export function weightOfShares(shares: number): number {
  if (shares <= 2) return 1
  if (shares >= 262_144) return 10_000
  const l = Math.log2(shares)
  return Math.ceil(10 ** ((l * l + 125 * l) / 612 - 7 / 34))
}

/** io.weight (1–10000) for blkio.weight (10–1000), as runc and crun convert it. */
export function ioWeightOf(weight: number): number {
  return 1 + Math.floor((weight - 10) * 9999 / 990)
}

/** Reads a container's figures from version 2 files. */
export function statsV2(directory: string): CgroupStats {
  const memoryStat = readKeyed(join(directory, 'memory.stat'))
  const cpu = readKeyed(join(directory, 'cpu.stat'))
  const events = readKeyed(join(directory, 'memory.events'))
  const serviceBytes: IoEntry[] = []
  const serviced: IoEntry[] = []
  for (const line of read(join(directory, 'io.stat')).split('\n')) {
    const match = /^(\d+):(\d+) (.*)$/.exec(line)
    if (!match) continue
    const fields = Object.fromEntries(match[3]!.split(' ').map((pair) => pair.split('='))) as Record<string, string>
    const device = { major: Number(match[1]), minor: Number(match[2]) }
    serviceBytes.push({ ...device, op: 'read', value: Number(fields['rbytes'] ?? 0) }, { ...device, op: 'write', value: Number(fields['wbytes'] ?? 0) })
    serviced.push({ ...device, op: 'read', value: Number(fields['rios'] ?? 0) }, { ...device, op: 'write', value: Number(fields['wios'] ?? 0) })
  }
  return {
    memory: {
      usage: readNumber(join(directory, 'memory.current')), maxUsage: readNumber(join(directory, 'memory.peak')),
      limit: readNumber(join(directory, 'memory.max')), failures: events['max'] ?? 0, stats: memoryStat,
    },
    cpu: {
      total: (cpu['usage_usec'] ?? 0) * 1000, kernel: (cpu['system_usec'] ?? 0) * 1000, user: (cpu['user_usec'] ?? 0) * 1000, perCpu: [],
      periods: cpu['nr_periods'] ?? 0, throttledPeriods: cpu['nr_throttled'] ?? 0, throttledTime: (cpu['throttled_usec'] ?? 0) * 1000,
    },
    pids: { current: readNumber(join(directory, 'pids.current')), limit: readNumber(join(directory, 'pids.max')) },
    blkio: { serviceBytes, serviced },
  }
}
