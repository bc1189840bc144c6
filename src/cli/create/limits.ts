import { ExitError, type Flags, type Invocation } from '../command.ts'

/** The limits that both `run` and `update` set. */
export const limitFlags = {
  'blkio-weight': { type: 'int', word: 'uint16', help: 'Block IO (relative weight), between 10 and 1000, or 0 to disable', otherwise: 0 },
  'cpu-period': { type: 'int', help: 'Limit CPU CFS (Completely Fair Scheduler) period' },
  'cpu-quota': { type: 'int', help: 'Limit CPU CFS (Completely Fair Scheduler) quota' },
  'cpu-rt-period': { type: 'int', help: 'Limit CPU real-time period in microseconds' },
  'cpu-rt-runtime': { type: 'int', help: 'Limit CPU real-time runtime in microseconds' },
  'cpu-shares': { type: 'int', short: 'c', help: 'CPU shares (relative weight)' },
  cpus: { type: 'cpus', help: 'Number of CPUs' },
  'cpuset-cpus': { type: 'string', help: 'CPUs in which to allow execution (0-3, 0,1)' },
  'cpuset-mems': { type: 'string', help: 'MEMs in which to allow execution (0-3, 0,1)' },
  memory: { type: 'bytes', short: 'm', help: 'Memory limit' },
  'memory-reservation': { type: 'bytes', help: 'Memory soft limit' },
  'memory-swap': { type: 'bytes', help: "Swap limit equal to memory plus swap: '-1' to enable unlimited swap" },
  'pids-limit': { type: 'int', help: 'Tune container pids limit (set -1 for unlimited)' },
} as const satisfies Flags

/** The API's Resources of those flags; what was not given is left to the engine. */
export function limitsOf(flags: Invocation<typeof limitFlags>['flags'], given: ReadonlySet<string>): Record<string, unknown> {
  return {
    BlkioWeight: flags['blkio-weight'], CpuPeriod: flags['cpu-period'], CpuQuota: flags['cpu-quota'], CpuRealtimePeriod: flags['cpu-rt-period'], CpuRealtimeRuntime: flags['cpu-rt-runtime'],
    CpuShares: flags['cpu-shares'], NanoCpus: flags.cpus, CpusetCpus: flags['cpuset-cpus'], CpusetMems: flags['cpuset-mems'], Memory: flags.memory, MemoryReservation: flags['memory-reservation'],
    MemorySwap: flags['memory-swap'], ...(given.has('pids-limit') && { PidsLimit: flags['pids-limit'] }),
  }
}

/** `no`, `always`, `unless-stopped`, `on-failure[:times]`. */
export function restartPolicyOf(text: string): { Name: string, MaximumRetryCount: number } {
  const [Name = '', times, ...more] = text.split(':')
  if (more.length) throw new ExitError(125, 'invalid restart policy format: maximum retry count must be an integer')
  if (times !== undefined && !/^-?\d+$/.test(times)) throw new ExitError(125, 'invalid restart policy format: maximum retry count must be an integer')
  return { Name, MaximumRetryCount: Number(times ?? 0) }
}
