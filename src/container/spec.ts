import { existsSync } from 'node:fs'
import { posix } from 'node:path'
import type { IdMaps } from '../lib/idmap.ts'
import { invalid } from '../lib/errors.ts'
import type { Mount, NamespaceType, Spec } from '../libcontainer/spec.ts'
import { machine } from '../sys/syscalls.ts'
import type { HostConfig } from './body.ts'
import type { HostFacts } from './deps.ts'
import { devicesOf } from './devices.ts'
import { resourcesOf } from './limits.ts'
import { tmpfsMount } from './mounts.ts'
import { hostnameOf, processOf } from './process.ts'
import type { ContainerRecord } from './record.ts'
import type { ResolvedUser } from './user.ts'

/** Docker's list, which grew with the holes found in it. */
export const defaultMaskedPaths: readonly string[] = [
  '/proc/asound', '/proc/acpi', '/proc/interrupts', '/proc/kcore', '/proc/keys', '/proc/latency_stats', '/proc/timer_list', '/proc/timer_stats',
  '/proc/sched_debug', '/proc/scsi', '/sys/firmware', '/sys/devices/virtual/powercap',
]
export const defaultReadonlyPaths: readonly string[] = ['/proc/bus', '/proc/fs', '/proc/irq', '/proc/sys', '/proc/sysrq-trigger']

/** What another container lends: its namespaces, by the pid of its init. */
export interface Joined { pid?: number, ipc?: number, network?: number, user?: number }

export interface SpecInput {
  record: ContainerRecord
  user: ResolvedUser
  facts: HostFacts
  joined: Joined
  /** The maps of the container's user namespace. */
  remap: IdMaps | undefined
  /** Host paths of the files that are mounted on /etc/hosts and the like, by path in the container. */
  files: Record<string, string>
  /** What is mounted for it beside what all have. */
  mounts: readonly Mount[]
  cgroupPath: string
  /** berth's own init, for `--init`. */
  initPath: string
}

/** The OCI spec of a container: all of Docker's defaults, and what image and client asked for. */
export function buildSpec(input: SpecInput): Spec {
  const { record, user, facts, joined } = input
  const { config, host } = record
  const { process, seccomp, security } = processOf(record, user, facts)
  const cgroupsWritable = host.Privileged || security.writableCgroups
  const found = devicesOf(host)
  // in a user namespace nobody makes device nodes: the host's are bound
  const devices = input.remap ? [] : found.map(({ device }) => device)
  const sysctl = sysctlsOf(host, input.remap)
  return {
    ociVersion: '1.2.0',
    hostname: hostnameOf(record),
    ...(config.Domainname && { domainname: config.Domainname }),
    root: { path: 'rootfs', readonly: host.ReadonlyRootfs },
    process: { ...process, ...(host.Init && { args: ['/sbin/docker-init', '--', ...process.args!] }) },
    mounts: [...mountsOf(input, cgroupsWritable), ...(input.remap ? found.map(({ device, source }): Mount => ({ destination: device.path, type: 'bind', source, options: ['bind'] })) : [])],
    linux: {
      namespaces: namespacesOf(host, input.remap).map((type) => {
        const lender = type in joined ? joined[type as keyof Joined] : undefined
        return lender === undefined ? { type } : { type, path: `/proc/${lender}/ns/${type === 'network' ? 'net' : type}` }
      }),
      ...(input.remap && { uidMappings: [...input.remap.uids], gidMappings: [...input.remap.gids] }),
      cgroupsPath: input.cgroupPath,
      resources: resourcesOf(host, found),
      devices,
      sysctl,
      ...(seccomp && { seccomp }),
      ...(!host.Privileged && !security.unmasked && {
        maskedPaths: host.MaskedPaths ?? [...defaultMaskedPaths, ...thermalThrottles(facts.cpus)],
        readonlyPaths: host.ReadonlyPaths ?? [...defaultReadonlyPaths],
      }),
    },
    ...(host.Annotations && { annotations: host.Annotations }),
  }
}

function thermalThrottles(cpus: number): string[] {
  return machine === 'x86_64' ? Array.from({ length: Math.min(cpus, 64) }, (_, i) => `/sys/devices/system/cpu/cpu${i}/thermal_throttle`) : []
}

/** The namespaces that a container has for itself, or shares with another container rather than the host. */
export function namespacesOf(host: HostConfig, remap: IdMaps | undefined): NamespaceType[] {
  const namespaces: NamespaceType[] = ['mount']
  if (host.UTSMode !== 'host') namespaces.push('uts')
  if (host.IpcMode !== 'host') namespaces.push('ipc')
  if (host.PidMode !== 'host') namespaces.push('pid')
  if (host.NetworkMode !== 'host') namespaces.push('network')
  if (host.CgroupnsMode === 'private') namespaces.push('cgroup')
  if (remap) namespaces.push('user')
  return namespaces
}

function mountsOf(input: SpecInput, cgroupsWritable: boolean): Mount[] {
  const { record, files, facts } = input
  const { host } = record
  const readonlySys = host.Privileged ? 'rw' : 'ro'
  const mounts: Mount[] = [
    { destination: '/proc', type: 'proc', source: 'proc', options: ['nosuid', 'noexec', 'nodev'] },
    { destination: '/dev', type: 'tmpfs', source: 'tmpfs', options: ['nosuid', 'strictatime', 'mode=755', 'size=65536k'] },
    { destination: '/dev/pts', type: 'devpts', source: 'devpts', options: ['nosuid', 'noexec', 'newinstance', 'ptmxmode=0666', 'mode=0620', 'gid=5'] },
    { destination: '/sys', type: 'sysfs', source: 'sysfs', options: ['nosuid', 'noexec', 'nodev', readonlySys] },
    { destination: '/sys/fs/cgroup', type: facts.cgroupVersion === 2 ? 'cgroup2' : 'cgroup', source: 'cgroup', options: [cgroupsWritable ? 'rw' : 'ro', 'nosuid', 'noexec', 'nodev'] },
  ]
  if (host.NetworkMode === 'host') mounts[3] = { destination: '/sys', type: 'bind', source: '/sys', options: ['rbind', 'nosuid', 'noexec', 'nodev', readonlySys] }
  if (host.IpcMode === 'host') {
    mounts.push({ destination: '/dev/shm', type: 'bind', source: '/dev/shm', options: ['rbind'] })
    // root of a user namespace may not mount the queues of the host's IPC namespace
    if (!input.remap) mounts.push(mqueue)
    else if (existsSync('/dev/mqueue')) mounts.push({ destination: '/dev/mqueue', type: 'bind', source: '/dev/mqueue', options: ['rbind'] })
  } else {
    mounts.push(mqueue)
    if (input.joined.ipc !== undefined) mounts.push({ destination: '/dev/shm', type: 'bind', source: `/proc/${input.joined.ipc}/root/dev/shm`, options: ['bind'] })
    else if (host.IpcMode !== 'none') mounts.push(shm(input))
  }
  const own: Mount[] = []
  for (const [destination, source] of Object.entries(files)) own.push({ destination, type: 'bind', source, options: ['rbind', 'rprivate', ...(host.ReadonlyRootfs ? ['ro'] : [])] })
  own.push(...input.mounts)
  for (const [destination, options] of Object.entries(host.Tmpfs ?? {})) own.push(tmpfsMount(destination, options))
  if (host.Init) own.push({ destination: '/sbin/docker-init', type: 'bind', source: input.initPath, options: ['bind', 'ro'] })
  // a mount must not hide one that is below it
  own.sort((a, b) => depth(a.destination) - depth(b.destination))
  const taken = new Set(own.map(({ destination }) => posix.resolve('/', destination)))
  return [...mounts.filter(({ destination }) => !taken.has(destination)), ...own]
}

const mqueue: Mount = { destination: '/dev/mqueue', type: 'mqueue', source: 'mqueue', options: ['nosuid', 'noexec', 'nodev'] }

const depth = (path: string): number => path.split('/').filter(Boolean).length

function shm({ record }: SpecInput): Mount {
  return { destination: '/dev/shm', type: 'tmpfs', source: 'shm', options: ['nosuid', 'noexec', 'nodev', 'mode=1777', `size=${record.host.ShmSize || 64 << 20}`] }
}

function sysctlsOf(host: HostConfig, remap: SpecInput['remap']): Record<string, string> {
  const sysctls: Record<string, string> = {}
  for (const [name, value] of Object.entries(host.Sysctls ?? {})) {
    const ipc = /^(kernel\.(msgmax|msgmnb|msgmni|sem|shmall|shmmax|shmmni|shm_rmid_forced)|fs\.mqueue\..*)$/.test(name)
    if (!ipc && !name.startsWith('net.')) throw invalid(`invalid --sysctl: '${name}' is not allowed: only namespaced keys may be set`)
    if (name.includes('/') || name.includes('..')) throw invalid(`invalid sysctl name: ${JSON.stringify(name)}`)
    if (name.startsWith('net.') && host.NetworkMode === 'host') throw invalid(`sysctl ${JSON.stringify(name)} not allowed in host network namespace`)
    if (ipc && host.IpcMode === 'host') throw invalid(`sysctl ${JSON.stringify(name)} is not allowed in the hosts ipc namespace`)
    sysctls[name] = value
  }
  // Docker's defaults: any user may open low ports and send pings
  if (host.NetworkMode !== 'host' && !host.NetworkMode.startsWith('container:')) {
    sysctls['net.ipv4.ip_unprivileged_port_start'] ??= '0'
    const groups = remap ? Math.max(...remap.gids.map(({ containerID, size }) => containerID + size)) : 2 ** 31
    sysctls['net.ipv4.ping_group_range'] ??= `0 ${groups - 1}`
  }
  return sysctls
}
