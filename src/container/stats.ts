import { readFileSync } from 'node:fs'
import { availableParallelism, totalmem } from 'node:os'
import { codeOf } from '../lib/errors.ts'
import type { CgroupStats } from '../libcontainer/cgroups/files.ts'
import type { Container } from './container.ts'

interface CpuStats { cpu_usage: { total_usage: number, percpu_usage?: number[], usage_in_kernelmode: number, usage_in_usermode: number }, system_cpu_usage?: number, online_cpus?: number, throttling_data: { periods: number, throttled_periods: number, throttled_time: number } }

/** One reading of a container's figures, in the API's form. */
export interface Sample { read: string, cpu: CpuStats }

export const noSample: Sample = {
  read: '0001-01-01T00:00:00Z',
  cpu: { cpu_usage: { total_usage: 0, usage_in_kernelmode: 0, usage_in_usermode: 0 }, throttling_data: { periods: 0, throttled_periods: 0, throttled_time: 0 } },
}

/** Nanoseconds of processor time of the whole machine since it started (proc(5), /proc/stat). */
function systemUsage(): number {
  const fields = readFileSync('/proc/stat', 'utf8').split('\n')[0]!.trim().split(/\s+/).slice(1, 9).map(Number)
  return fields.reduce((sum, ticks) => sum + ticks, 0) * 10_000_000
}

/** The API's ContainerStatsResponse from one reading and the one before. */
export function statsOf(container: Container, before: Sample, version: 1 | 2): { sample: Sample, answer: object } {
  const { record } = container
  const stats: CgroupStats | undefined = container.running ? container.cgroup?.stats() : undefined
  if (!stats) {
    return { sample: noSample, answer: { id: record.id, name: `/${record.name}`, os_type: 'linux', read: noSample.read, preread: before.read, pids_stats: {}, blkio_stats: blkioOf(null), num_procs: 0, storage_stats: {}, cpu_stats: noSample.cpu, precpu_stats: before.cpu, memory_stats: {} } }
  }
  const { cpu, memory, pids, blkio } = stats
  const sample: Sample = {
    read: new Date().toISOString(),
    cpu: {
      cpu_usage: { total_usage: cpu.total, ...(cpu.perCpu.length && { percpu_usage: cpu.perCpu }), usage_in_kernelmode: cpu.kernel, usage_in_usermode: cpu.user },
      system_cpu_usage: systemUsage(), online_cpus: availableParallelism(),
      throttling_data: { periods: cpu.periods, throttled_periods: cpu.throttledPeriods, throttled_time: cpu.throttledTime },
    },
  }
  const entry = ({ major, minor, op, value }: { major: number, minor: number, op: string, value: number }) => ({ major, minor, op, value })
  const answer = {
    id: record.id, name: `/${record.name}`, os_type: 'linux', read: sample.read, preread: before.read,
    pids_stats: { current: pids.current, ...(Number.isSafeInteger(pids.limit) && { limit: pids.limit }) }, num_procs: 0, storage_stats: {},
    blkio_stats: blkioOf(version === 1 ? [] : null, { io_service_bytes_recursive: blkio.serviceBytes.map(entry), ...(version === 1 && { io_serviced_recursive: blkio.serviced.map(entry) }) }),
    cpu_stats: sample.cpu, precpu_stats: before.cpu,
    memory_stats: {
      usage: memory.usage, ...(version === 1 && { max_usage: memory.maxUsage, failcnt: memory.failures }), stats: memory.stats, limit: Math.min(memory.limit, totalmem()),
    },
    ...(container.process && record.host.NetworkMode !== 'host' && networksOf(container.process.pid)),
  }
  return { sample, answer }
}

/** All of blkio_stats; what a cgroup version does not count is null, and what this kernel does not is an empty list. */
const blkioOf = (all: object[] | null, counted: { io_service_bytes_recursive?: object[], io_serviced_recursive?: object[] } = {}): object => ({
  io_service_bytes_recursive: all, io_serviced_recursive: all, io_queue_recursive: all, io_service_time_recursive: all, io_wait_time_recursive: all,
  io_merged_recursive: all, io_time_recursive: all, sectors_recursive: all, ...counted,
})

function networksOf(pid: number): object {
  const networks: Record<string, object> = {}
  let text: string
  try {
    text = readFileSync(`/proc/${pid}/net/dev`, 'utf8')
  } catch (error) {
    if (codeOf(error) === 'ENOENT' || codeOf(error) === 'EINVAL') return {}
    throw error
  }
  for (const line of text.split('\n').slice(2)) {
    const [name, rest] = line.split(':')
    if (!rest || name!.trim() === 'lo') continue
    const n = rest.trim().split(/\s+/).map(Number)
    networks[name!.trim()] = { rx_bytes: n[0], rx_packets: n[1], rx_errors: n[2], rx_dropped: n[3], tx_bytes: n[8], tx_packets: n[9], tx_errors: n[10], tx_dropped: n[11] }
  }
  return Object.keys(networks).length ? { networks } : {}
}
