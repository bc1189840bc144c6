import { join } from 'node:path'
import { read, readKeyed, readNumber, type CgroupStats, type IoEntry, type Write } from './files.ts'
import type { DeviceRule, Resources } from '../spec.ts'

type Directories = ReadonlyMap<string, string>

/** The control files of cgroup version 1 for `resources` (kernel: admin-guide/cgroup-v1). */
export function writeV1(directories: Directories, resources: Resources): Write[] {
  const writes: Write[] = []
  const put = (controller: string, file: string, value: number | string | undefined, optional = false): void => {
    const directory = directories.get(controller)
    if (directory && value !== undefined) writes.push({ path: join(directory, file), value: String(value), ...(optional && { optional }) })
  }
  const { memory, cpu, pids, blockIO } = resources
  put('memory', 'memory.limit_in_bytes', memory?.limit)
  put('memory', 'memory.memsw.limit_in_bytes', memory?.swap, true)
  put('memory', 'memory.soft_limit_in_bytes', memory?.reservation)
  put('memory', 'memory.kmem.tcp.limit_in_bytes', memory?.kernelTCP, true)
  put('memory', 'memory.swappiness', memory?.swappiness)
  if (memory?.disableOOMKiller !== undefined) put('memory', 'memory.oom_control', memory.disableOOMKiller ? 1 : 0)
  put('cpu', 'cpu.shares', cpu?.shares)
  put('cpu', 'cpu.cfs_period_us', cpu?.period)
  put('cpu', 'cpu.cfs_quota_us', cpu?.quota)
  put('cpu', 'cpu.cfs_burst_us', cpu?.burst)
  put('cpu', 'cpu.idle', cpu?.idle)
  put('cpu', 'cpu.rt_period_us', cpu?.realtimePeriod)
  put('cpu', 'cpu.rt_runtime_us', cpu?.realtimeRuntime)
  put('cpuset', 'cpuset.cpus', cpu?.cpus || undefined)
  put('cpuset', 'cpuset.mems', cpu?.mems || undefined)
  if (pids) put('pids', 'pids.max', pids.limit > 0 ? pids.limit : 'max')
  if (blockIO?.weight) put('blkio', 'blkio.bfq.weight', blockIO.weight, true)
  for (const { major, minor, weight } of blockIO?.weightDevice ?? []) put('blkio', 'blkio.bfq.weight_device', `${major}:${minor} ${weight}`, true)
  const throttles = [
    ['blkio.throttle.read_bps_device', blockIO?.throttleReadBpsDevice],
    ['blkio.throttle.write_bps_device', blockIO?.throttleWriteBpsDevice],
    ['blkio.throttle.read_iops_device', blockIO?.throttleReadIOPSDevice],
    ['blkio.throttle.write_iops_device', blockIO?.throttleWriteIOPSDevice],
  ] as const
  for (const [file, list] of throttles)
    for (const { major, minor, rate } of list ?? []) put('blkio', file, `${major}:${minor} ${rate}`)
  for (const { pageSize, limit } of resources.hugepageLimits ?? []) put('hugetlb', `hugetlb.${pageSize}.limit_in_bytes`, limit)
  for (const rule of resources.devices ?? []) put('devices', rule.allow ? 'devices.allow' : 'devices.deny', deviceLine(rule))
  return writes
}

/** A line of devices.allow: `c 1:3 rwm`, or `a` for everything. */
function deviceLine(rule: DeviceRule): string {
  if ((rule.type ?? 'a') === 'a') return 'a *:* rwm'
  return `${rule.type} ${number(rule.major)}:${number(rule.minor)} ${rule.access ?? 'rwm'}`
}

const number = (n: number | undefined): string => (n === undefined || n < 0 ? '*' : String(n))

function ioEntries(path: string): IoEntry[] {
  const entries: IoEntry[] = []
  for (const line of read(path).split('\n')) {
    const match = /^(\d+):(\d+) (\w+) (\d+)$/.exec(line)
    if (match) entries.push({ major: Number(match[1]), minor: Number(match[2]), op: match[3]!, value: Number(match[4]) })
  }
  return entries
}

const TICK = 10_000_000 // nanoseconds in a USER_HZ

/** Reads a container's figures from version 1 files. */
export function statsV1(directories: Directories): CgroupStats {
  const file = (controller: string, name: string): string => join(directories.get(controller) ?? '/nonexistent', name)
  const memoryStat = readKeyed(file('memory', 'memory.stat'))
  const cpuStat = readKeyed(file('cpu', 'cpu.stat'))
  const acct = readKeyed(file('cpuacct', 'cpuacct.stat'))
  return {
    memory: {
      usage: readNumber(file('memory', 'memory.usage_in_bytes')),
      maxUsage: readNumber(file('memory', 'memory.max_usage_in_bytes')),
      limit: readNumber(file('memory', 'memory.limit_in_bytes')),
      failures: readNumber(file('memory', 'memory.failcnt')),
      stats: memoryStat,
    },
    cpu: {
      total: readNumber(file('cpuacct', 'cpuacct.usage')),
      kernel: (acct['system'] ?? 0) * TICK,
      user: (acct['user'] ?? 0) * TICK,
      perCpu: read(file('cpuacct', 'cpuacct.usage_percpu')).trim().split(' ').filter(Boolean).map(Number),
      periods: cpuStat['nr_periods'] ?? 0,
      throttledPeriods: cpuStat['nr_throttled'] ?? 0,
      throttledTime: cpuStat['throttled_time'] ?? 0,
    },
    pids: { current: readNumber(file('pids', 'pids.current')), limit: readNumber(file('pids', 'pids.max')) },
    blkio: {
      serviceBytes: ioEntries(file('blkio', 'blkio.throttle.io_service_bytes_recursive')),
      serviced: ioEntries(file('blkio', 'blkio.throttle.io_serviced_recursive')),
    },
  }
}
