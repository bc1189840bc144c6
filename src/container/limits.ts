import { realpathSync, statSync } from 'node:fs'
import { availableParallelism, totalmem } from 'node:os'
import { invalid } from '../lib/errors.ts'
import { readIfThere } from '../lib/files.ts'
import type { Resources } from '../libcontainer/spec.ts'
import { splitDevice } from '../sys/fs.ts'
import type { HostConfig } from './body.ts'
import { deviceRulesOf, type FoundDevice } from './devices.ts'

const MIN_MEMORY = 6 << 20

/** Docker's checks of limits, in its words. */
export function checkLimits(host: Pick<HostConfig, 'Memory' | 'MemorySwap' | 'MemoryReservation' | 'MemorySwappiness' | 'NanoCpus' | 'CpuPeriod' | 'CpuQuota' | 'CpuShares' | 'PidsLimit' | 'BlkioWeight' | 'OomKillDisable' | 'CpusetCpus' | 'CpusetMems'>, warnings: string[]): void {
  if (host.Memory < 0 || (host.Memory > 0 && host.Memory < MIN_MEMORY)) throw invalid('Minimum memory limit allowed is 6MB')
  if (host.Memory > 0 && host.MemorySwap > 0 && host.MemorySwap < host.Memory) throw invalid('Minimum memoryswap limit should be larger than memory limit, see usage')
  if (host.Memory === 0 && host.MemorySwap > 0) throw invalid('You should always set the Memory limit when using Memoryswap limit, see usage')
  if (typeof host.MemorySwappiness === 'number' && (host.MemorySwappiness < -1 || host.MemorySwappiness > 100)) throw invalid(`Invalid value: ${host.MemorySwappiness}, valid memory swappiness range is 0-100`)
  if (host.MemoryReservation > 0 && host.MemoryReservation < MIN_MEMORY) throw invalid('Minimum memory reservation allowed is 6MB')
  if (host.Memory > 0 && host.MemoryReservation > host.Memory) throw invalid('Minimum memory limit can not be less than memory reservation limit, see usage')
  if (host.Memory > totalmem()) warnings.push(`the memory limit is above what this machine has: ${totalmem()} bytes`)
  if (host.OomKillDisable && host.Memory === 0) warnings.push('OOM killer is disabled for the container, but no memory limit is set, this can result in the system running out of resources.')
  if (host.NanoCpus < 0 || host.NanoCpus > availableParallelism() * 1e9) throw invalid(`Range of CPUs is from 0.01 to ${availableParallelism()}.00, as there are only ${availableParallelism()} CPUs available`)
  if (host.NanoCpus > 0 && host.CpuPeriod > 0) throw invalid('Conflicting options: Nano CPUs and CPU Period cannot both be set')
  if (host.NanoCpus > 0 && host.CpuQuota > 0) throw invalid('Conflicting options: Nano CPUs and CPU Quota cannot both be set')
  if (host.CpuPeriod !== 0 && (host.CpuPeriod < 1000 || host.CpuPeriod > 1_000_000)) throw invalid('CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)')
  if (host.CpuQuota > 0 && host.CpuQuota < 1000) throw invalid('CPU cfs quota can not be less than 1ms (i.e. 1000)')
  if (host.CpuShares < 0) throw invalid(`invalid CPU shares (${host.CpuShares}): value must be a positive integer`)
  if (host.BlkioWeight !== 0 && (host.BlkioWeight < 10 || host.BlkioWeight > 1000)) throw invalid('Range of blkio weight is from 10 to 1000')
  for (const [what, list] of [['cpus', host.CpusetCpus], ['mems', host.CpusetMems]] as const)
    if (list && !/^\d+(-\d+)?(,\d+(-\d+)?)*$/.test(list)) throw invalid(`Invalid value ${list} for cpuset ${what}`)
  if (highest(host.CpusetCpus) >= availableParallelism()) throw invalid(`Requested CPUs are not available - requested ${host.CpusetCpus}, available: 0-${availableParallelism() - 1}`)
  if (host.CpusetMems) {
    const available = readIfThere('/sys/devices/system/node/has_memory')?.trim() ?? '0'
    if (highest(host.CpusetMems) > highest(available)) throw invalid(`Requested memory nodes are not available - requested ${host.CpusetMems}, available: ${available}`)
  }
}

/** The last of a list such as `0-3,7`; -1 of an empty one. */
function highest(list: string): number {
  return Math.max(-1, ...list.split(/[,-]/).filter(Boolean).map(Number))
}

type Limits = Pick<HostConfig, 'Memory' | 'MemoryReservation' | 'MemorySwap' | 'MemorySwappiness' | 'OomKillDisable' | 'CpuShares' | 'CpuPeriod' | 'CpuQuota' | 'NanoCpus'
  | 'CpusetCpus' | 'CpusetMems' | 'PidsLimit' | 'BlkioWeight' | 'BlkioWeightDevice' | 'BlkioDeviceReadBps' | 'BlkioDeviceWriteBps' | 'BlkioDeviceReadIOps' | 'BlkioDeviceWriteIOps'>

/** The limits that a client asked for, as cgroup values. */
export function resourcesOf(host: Limits & Partial<Pick<HostConfig, 'Privileged' | 'Devices' | 'DeviceCgroupRules'>>, devices?: readonly FoundDevice[]): Resources {
  const { NanoCpus } = host
  const memory = {
    ...(host.Memory && { limit: host.Memory }), ...(host.MemoryReservation && { reservation: host.MemoryReservation }),
    ...(host.MemorySwap ? { swap: host.MemorySwap } : host.Memory > 0 ? { swap: host.Memory * 2 } : {}),
    ...(typeof host.MemorySwappiness === 'number' && host.MemorySwappiness >= 0 && { swappiness: host.MemorySwappiness }),
    ...(host.OomKillDisable && { disableOOMKiller: true }),
  }
  const cpu = {
    ...(host.CpuShares && { shares: host.CpuShares }),
    ...(NanoCpus ? { period: 100_000, quota: Math.floor(NanoCpus / 10_000) } : { ...(host.CpuPeriod && { period: host.CpuPeriod }), ...(host.CpuQuota && { quota: host.CpuQuota }) }),
    ...(host.CpusetCpus && { cpus: host.CpusetCpus }), ...(host.CpusetMems && { mems: host.CpusetMems }),
  }
  const throttles = (list: HostConfig['BlkioDeviceReadBps']) => (list ?? []).map(({ Path, Rate }) => ({ ...deviceNumbers(Path), rate: Rate }))
  return {
    ...(Object.keys(memory).length && { memory }), ...(Object.keys(cpu).length && { cpu }),
    ...(typeof host.PidsLimit === 'number' && host.PidsLimit !== 0 && { pids: { limit: host.PidsLimit } }),
    blockIO: {
      ...(host.BlkioWeight && { weight: host.BlkioWeight }),
      weightDevice: (host.BlkioWeightDevice ?? []).map(({ Path, Weight }) => ({ ...deviceNumbers(Path), weight: Weight })),
      throttleReadBpsDevice: throttles(host.BlkioDeviceReadBps), throttleWriteBpsDevice: throttles(host.BlkioDeviceWriteBps),
      throttleReadIOPSDevice: throttles(host.BlkioDeviceReadIOps), throttleWriteIOPSDevice: throttles(host.BlkioDeviceWriteIOps),
    },
    ...(devices && { devices: deviceRulesOf(host as HostConfig, devices) }),
  }
}

function deviceNumbers(path: string): { major: number, minor: number } {
  try {
    return splitDevice(statSync(realpathSync(path)).rdev)
  } catch (error) {
    throw invalid(`${path} is not a device on this host`, error)
  }
}
