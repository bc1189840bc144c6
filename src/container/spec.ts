import { existsSync, lstatSync, readdirSync, realpathSync, statSync } from 'node:fs'
import { join, posix } from 'node:path'
import type { IdMaps } from '../lib/idmap.ts'
import { codeOf, invalid, unsupported } from '../lib/errors.ts'
import { resolveCapabilities } from '../libcontainer/capabilities.ts'
import { usualDeviceRules } from '../libcontainer/cgroups/devices.ts'
import { defaultSeccomp, parseSeccomp, type Seccomp, type SeccompContext } from '../libcontainer/seccomp/profile.ts'
import type { Device, DeviceRule, Mount, Namespace, Resources, Spec } from '../libcontainer/spec.ts'
import { splitDevice } from '../sys/fs.ts'
import { machine } from '../sys/syscalls.ts'
import type { HostConfig } from './body.ts'
import { parseBind, type BindMount } from './mounts.ts'
import type { ContainerRecord } from './record.ts'
import type { ResolvedUser } from './user.ts'

/** What the host offers, found out once. */
export interface HostFacts {
  kernel: string
  cgroupVersion: 1 | 2
  apparmor: boolean
  /** The profile of containers that ask for no other, where the kernel has it. */
  apparmorProfile?: string | undefined
  selinux: boolean
  cpus: number
}

/** Docker's list, which grew with the holes found in it. */
export const defaultMaskedPaths: readonly string[] = [
  '/proc/asound', '/proc/acpi', '/proc/interrupts', '/proc/kcore', '/proc/keys', '/proc/latency_stats', '/proc/timer_list', '/proc/timer_stats',
  '/proc/sched_debug', '/proc/scsi', '/sys/firmware', '/sys/devices/virtual/powercap',
]
export const defaultReadonlyPaths: readonly string[] = ['/proc/bus', '/proc/fs', '/proc/irq', '/proc/sys', '/proc/sysrq-trigger']

const PATH = 'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'

/** The container's environment: Docker's own, then what image and client say, the last of a name winning. */
export function environmentOf(record: ContainerRecord, home: string): string[] {
  const { config } = record
  const base = [PATH, `HOSTNAME=${hostnameOf(record)}`, ...(config.Tty ? ['TERM=xterm'] : [])]
  const merged = mergeEnvironment(base, config.Env)
  if (!merged.some((entry) => entry.startsWith('HOME='))) merged.push(`HOME=${home}`)
  return merged
}

/** Later entries replace earlier ones of the same name; a name without `=` takes the variable away. */
export function mergeEnvironment(base: readonly string[], more: readonly string[]): string[] {
  const merged = new Map<string, string | undefined>()
  for (const entry of [...base, ...more]) {
    const equals = entry.indexOf('=')
    merged.set(equals < 0 ? entry : entry.slice(0, equals), equals < 0 ? undefined : entry)
  }
  return [...merged.values()].filter((entry) => entry !== undefined)
}

export function hostnameOf({ id, config, host }: ContainerRecord): string {
  if (config.Hostname) return config.Hostname
  return host.UTSMode === 'host' || host.NetworkMode === 'host' ? '' : id.slice(0, 12)
}

/** Security options, taken apart. */
export interface SecurityOptions { seccomp?: string, apparmor?: string, labels: string[], noNewPrivileges: boolean, unmasked: boolean, writableCgroups: boolean }

/** Reads `--security-opt` in its forms, `=` or the old `:`. */
export function parseSecurityOptions(options: readonly string[]): SecurityOptions {
  const parsed: SecurityOptions = { labels: [], noNewPrivileges: false, unmasked: false, writableCgroups: false }
  for (const option of options) {
    if (option === 'no-new-privileges') {
      parsed.noNewPrivileges = true
      continue
    }
    if (option === 'disable') {
      parsed.labels.push(option)
      continue
    }
    const match = /^([a-z-]+)[=:](.*)$/s.exec(option)
    if (!match) throw invalid(`invalid --security-opt 1: ${JSON.stringify(option)}`)
    const [, name, value = ''] = match
    switch (name) {
      case 'seccomp': parsed.seccomp = value; break
      case 'apparmor': parsed.apparmor = value; break
      case 'label': parsed.labels.push(value); break
      case 'no-new-privileges': {
        if (value !== 'true' && value !== 'false') throw invalid(`invalid --security-opt 2: ${JSON.stringify(option)}`)
        parsed.noNewPrivileges = value === 'true'
        break
      }
      case 'systempaths': {
        if (value !== 'unconfined') throw invalid(`invalid --security-opt 2: ${JSON.stringify(option)}`)
        parsed.unmasked = true
        break
      }
      case 'writable-cgroups': parsed.writableCgroups = value === 'true'; break
      default: throw invalid(`invalid --security-opt 2: ${JSON.stringify(option)}`)
    }
  }
  return parsed
}

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
  cgroupPath: string
  /** berth's own init, for `--init`. */
  initPath: string
}

/** The OCI spec of a container: all of Docker's defaults, and what image and client asked for. */
export function buildSpec(input: SpecInput): Spec {
  const { record, user, facts } = input
  const { config, host } = record
  const security = parseSecurityOptions(host.SecurityOpt ?? [])
  const capabilities = resolveCapabilities(host.CapAdd ?? [], host.CapDrop ?? [], host.Privileged)
  const isRoot = user.uid === 0
  const args = [record.path, ...record.args]
  const cgroupsWritable = host.Privileged || security.writableCgroups
  const found = devicesOf(host)
  // in a user namespace nobody makes device nodes: the host's are bound
  const devices = input.remap ? [] : found.map(({ device }) => device)
  const sysctl = sysctlsOf(host, input.remap)
  const spec: Spec = {
    ociVersion: '1.2.0',
    hostname: hostnameOf(record),
    ...(config.Domainname && { domainname: config.Domainname }),
    root: { path: 'rootfs', readonly: host.ReadonlyRootfs },
    process: {
      terminal: config.Tty,
      user: { uid: user.uid, gid: user.gid, additionalGids: user.groups },
      args: host.Init ? ['/sbin/docker-init', '--', ...args] : args,
      env: environmentOf(record, user.home),
      cwd: config.WorkingDir || '/',
      capabilities: { bounding: capabilities, permitted: isRoot ? capabilities : [], effective: isRoot ? capabilities : [], inheritable: [], ambient: [] },
      rlimits: (host.Ulimits ?? []).map(({ Name, Soft, Hard }) => ({ type: `RLIMIT_${Name.toUpperCase()}`, soft: Soft, hard: Hard })),
      noNewPrivileges: security.noNewPrivileges,
      ...(host.OomScoreAdj && { oomScoreAdj: host.OomScoreAdj }),
      ...labelsOf(security, host, facts),
    },
    mounts: [...mountsOf(input, cgroupsWritable), ...(input.remap ? found.map(({ device, source }): Mount => ({ destination: device.path, type: 'bind', source, options: ['bind'] })) : [])],
    linux: {
      namespaces: namespacesOf(input),
      ...(input.remap && { uidMappings: [...input.remap.uids], gidMappings: [...input.remap.gids] }),
      cgroupsPath: input.cgroupPath,
      resources: resourcesOf(host, found),
      devices,
      sysctl,
      ...(!host.Privileged && !security.unmasked && {
        maskedPaths: host.MaskedPaths ?? [...defaultMaskedPaths, ...thermalThrottles(facts.cpus)],
        readonlyPaths: host.ReadonlyPaths ?? [...defaultReadonlyPaths],
      }),
    },
    ...(host.Annotations && { annotations: host.Annotations }),
  }
  const seccomp = seccompOf(security, host, { capabilities, architecture: machine, kernel: facts.kernel })
  if (seccomp) spec.linux!.seccomp = seccomp
  return spec
}

function thermalThrottles(cpus: number): string[] {
  return machine === 'x86_64' ? Array.from({ length: Math.min(cpus, 64) }, (_, i) => `/sys/devices/system/cpu/cpu${i}/thermal_throttle`) : []
}

const profiles = new Map<string, Seccomp>()

/** Compiling a policy takes a millisecond: equal ones are one object, by which its filter is found again. */
function seccompOf(security: SecurityOptions, host: HostConfig, context: SeccompContext): Seccomp | undefined {
  if (security.seccomp === 'unconfined' || (host.Privileged && security.seccomp === undefined)) return undefined
  const key = `${security.seccomp ?? ''}\n${context.capabilities.join()}`
  let profile = profiles.get(key)
  if (!profile) {
    profile = security.seccomp === undefined || security.seccomp === 'builtin' ? defaultSeccomp(context) : parseSeccomp(security.seccomp, context)
    if (profiles.size > 100) profiles.clear()
    profiles.set(key, profile)
  }
  return profile
}

/** What the security modules of the kernel are told of a container. */
export function labelsOf({ apparmor, labels }: Pick<SecurityOptions, 'apparmor' | 'labels'>, host: HostConfig, facts: HostFacts): { apparmorProfile?: string, selinuxLabel?: string } {
  if (apparmor && apparmor !== 'unconfined' && !facts.apparmor) throw unsupported(`AppArmor profile ${JSON.stringify(apparmor)} was asked for, but AppArmor is not enabled in this kernel`)
  const wanted = labels.filter((label) => label !== 'disable')
  if (wanted.length && !facts.selinux) throw unsupported(`SELinux label ${JSON.stringify(wanted.join())} was asked for, but SELinux is not enabled in this kernel`)
  const profile = apparmor ?? (host.Privileged ? undefined : facts.apparmorProfile)
  if (facts.apparmor && profile && profile !== 'unconfined') return { apparmorProfile: profile }
  if (!wanted.length) return {}
  const part = (name: string, otherwise: string): string => wanted.find((label) => label.startsWith(`${name}:`))?.slice(name.length + 1) ?? otherwise
  return { selinuxLabel: `${part('user', 'system_u')}:${part('role', 'system_r')}:${part('type', 'container_t')}:${part('level', 's0')}` }
}

function namespacesOf({ record, joined, remap }: SpecInput): Namespace[] {
  const { host } = record
  const namespaces: Namespace[] = [{ type: 'mount' }]
  const add = (type: Namespace['type'], mode: string, pid: number | undefined, file: string): void => {
    if (mode === 'host') return
    namespaces.push(pid === undefined ? { type } : { type, path: `/proc/${pid}/ns/${file}` })
  }
  add('uts', host.UTSMode || (host.NetworkMode === 'host' ? 'private' : ''), undefined, 'uts')
  add('ipc', host.IpcMode, joined.ipc, 'ipc')
  add('pid', host.PidMode, joined.pid, 'pid')
  add('network', host.NetworkMode, joined.network, 'net')
  if (host.CgroupnsMode === 'private') namespaces.push({ type: 'cgroup' })
  if (remap) add('user', '', joined.user, 'user')
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
  for (const [destination, source] of Object.entries(files)) own.push({ destination, type: 'bind', source, options: ['rbind', 'rprivate'] })
  for (const bind of bindsOf(host)) own.push(bindMount(bind))
  for (const [destination, options] of Object.entries(host.Tmpfs ?? {})) own.push(tmpfs(destination, options))
  for (const mount of host.Mounts ?? [])
    if (mount.Type === 'tmpfs') {
      const { SizeBytes, Mode, Options } = mount.TmpfsOptions ?? { SizeBytes: 0, Mode: 0, Options: [] }
      const options = [mount.ReadOnly ? 'ro' : '', SizeBytes ? `size=${SizeBytes}` : '', Mode ? `mode=${Mode.toString(8)}` : '', ...(Options ?? []).map((pair) => pair.join('='))]
      own.push(tmpfs(mount.Target, options.filter(Boolean).join(',')))
    }
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

function tmpfs(destination: string, options: string): Mount {
  return { destination, type: 'tmpfs', source: 'tmpfs', options: ['noexec', 'nosuid', 'nodev', ...options.split(',').filter(Boolean)] }
}

/** The host paths that a container gets, from both ways to ask for them. */
export function bindsOf(host: HostConfig): BindMount[] {
  const binds = (host.Binds ?? []).map(parseBind)
  for (const mount of host.Mounts ?? []) {
    if (mount.Type !== 'bind') continue
    const { Propagation = '', NonRecursive = false, ReadOnlyNonRecursive = false } = mount.BindOptions ?? {}
    binds.push({
      source: mount.Source, destination: mount.Target, readonly: mount.ReadOnly, recursive: !NonRecursive, readonlyRecursive: !ReadOnlyNonRecursive,
      propagation: Propagation || 'rprivate', mode: '', createSource: mount.BindOptions?.CreateMountpoint ?? false,
    })
  }
  return binds
}

function bindMount(bind: BindMount): Mount {
  const options = [bind.recursive ? 'rbind' : 'bind', bind.propagation]
  if (bind.readonly) options.push('ro', ...(bind.recursive && bind.readonlyRecursive ? ['rro'] : []))
  return { destination: bind.destination, type: 'bind', source: bind.source, options }
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

/** A device in the container, and its node on the host. */
interface FoundDevice { device: Device, source: string, access: string }

function devicesOf(host: HostConfig): FoundDevice[] {
  const devices = host.Privileged ? everyDevice().map((device) => ({ device, source: device.path, access: 'rwm' })) : []
  for (const { PathOnHost, PathInContainer, CgroupPermissions } of host.Devices) {
    let found: Device[]
    try {
      found = statSync(PathOnHost).isDirectory() ? everyDevice(PathOnHost) : [describeDevice(PathOnHost)]
    } catch (error) {
      if (codeOf(error) !== undefined) throw invalid(`error gathering device information while adding custom device ${JSON.stringify(PathOnHost)}: no such file or directory`, error)
      throw error
    }
    const base = PathInContainer || PathOnHost
    devices.push(...found.map((device) => ({ device: { ...device, path: join(base, posix.relative(PathOnHost, device.path)) }, source: device.path, access: CgroupPermissions || 'rwm' })))
  }
  return devices
}

function describeDevice(path: string): Device {
  const status = statSync(path)
  if (!status.isCharacterDevice() && !status.isBlockDevice()) throw invalid(`error gathering device information while adding custom device ${JSON.stringify(path)}: not a device node`)
  return { type: status.isBlockDevice() ? 'b' : 'c', path, ...splitDevice(status.rdev), fileMode: status.mode & 0o777, uid: status.uid, gid: status.gid }
}

const notCopied = new Set(['pts', 'shm', 'fd', 'mqueue', 'console', '.lxc', '.lxd-mounts', '.udev', 'ptmx', 'tty', 'null', 'zero', 'full', 'random', 'urandom'])

function everyDevice(directory = '/dev'): Device[] {
  return readdirSync(directory).filter((name) => directory !== '/dev' || !notCopied.has(name)).flatMap((name) => {
    const path = join(directory, name)
    const status = lstatSync(path)
    if (status.isDirectory()) return everyDevice(path)
    return status.isCharacterDevice() || status.isBlockDevice() ? [describeDevice(path)] : []
  })
}

function deviceRulesOf(host: HostConfig, devices: readonly FoundDevice[]): DeviceRule[] {
  if (host.Privileged) return [{ allow: true, access: 'rwm' }]
  const rules: DeviceRule[] = [{ allow: false, access: 'rwm' }, ...usualDeviceRules]
  for (const { device, access } of devices) rules.push({ allow: true, type: device.type, major: device.major!, minor: device.minor!, access })
  for (const rule of host.DeviceCgroupRules ?? []) {
    const match = /^([acb]) (\d+|\*):(\d+|\*) ([rwm]{1,3})$/.exec(rule)
    if (!match) throw invalid(`invalid device cgroup rule format: '${rule}'`)
    const number = (text: string): number => (text === '*' ? -1 : Number(text))
    rules.push({ allow: true, type: match[1]!, major: number(match[2]!), minor: number(match[3]!), access: match[4]! })
  }
  return rules
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
