import type { Console } from '../console.ts'
import { ExitError, type Invocation } from '../command.ts'
import { readEnvironment, readLabels } from '../environment.ts'
import { terminalSize } from '../terminal.ts'
import type { createFlags } from './flags.ts'
import { limitsOf, restartPolicyOf } from './limits.ts'
import { parseDevice, parseExpose, parseMap, parseMount, parseNetwork, parsePublish, parseSecurityOpt, parseThrottle, parseUlimit, parseVolume, parseWeight } from './words.ts'

type CreateFlags = Invocation<typeof createFlags>['flags']

export interface Attachment { stdin: boolean, stdout: boolean, stderr: boolean }

/** Which streams a foreground run attaches to. */
export function attachmentOf(flags: CreateFlags, detach: boolean): Attachment {
  if (flags.attach.length) {
    const asked = flags.attach.map((name) => name.toLowerCase())
    const unknown = asked.find((name) => !['stdin', 'stdout', 'stderr'].includes(name))
    if (unknown !== undefined) throw new ExitError(125, `invalid argument ${JSON.stringify(unknown)} for "-a, --attach" flag: valid streams are STDIN, STDOUT and STDERR`)
    if (detach) throw new ExitError(125, 'conflicting options: cannot specify both --attach and --detach')
    return { stdin: asked.includes('stdin'), stdout: asked.includes('stdout'), stderr: asked.includes('stderr') }
  }
  return { stdin: flags.interactive && !detach, stdout: !detach, stderr: !detach }
}

/** The API's body of a create. */
export function createBody(image: string, command: readonly string[], { flags, given, attachment, env, console }: { flags: CreateFlags, given: ReadonlySet<string>, attachment: Attachment, env: NodeJS.ProcessEnv, console: Console }): Record<string, unknown> {
  const { exposed, bindings } = parsePublish(flags.publish)
  const volumes = flags.volume.map(parseVolume)
  return {
    Image: image, Cmd: command.length ? command : null, Entrypoint: given.has('entrypoint') ? [flags.entrypoint] : null,
    Hostname: flags.hostname, Domainname: flags.domainname, User: flags.user, WorkingDir: flags.workdir, Tty: flags.tty, OpenStdin: flags.interactive, StdinOnce: flags.interactive && attachment.stdin,
    AttachStdin: attachment.stdin, AttachStdout: attachment.stdout, AttachStderr: attachment.stderr,
    Env: readEnvironment(flags['env-file'], flags.env, env), Labels: readLabels(flags['label-file'], flags.label),
    ExposedPorts: { ...parseExpose(flags.expose), ...exposed }, Volumes: Object.fromEntries(volumes.flatMap((volume) => ('volume' in volume ? [[volume.volume, {}]] : []))),
    ...(flags['stop-signal'] && { StopSignal: flags['stop-signal'] }), ...(given.has('stop-timeout') && { StopTimeout: flags['stop-timeout'] }), ...healthOf(flags, given),
    HostConfig: { ...hostConfigOf(flags, given), Binds: volumes.flatMap((volume) => ('bind' in volume ? [volume.bind] : [])), PortBindings: bindings, ConsoleSize: terminalSize(console) },
    NetworkingConfig: { EndpointsConfig: endpointsOf(flags) },
  }
}

function healthOf(flags: CreateFlags, given: ReadonlySet<string>): object {
  if (flags['no-healthcheck']) {
    if ([...given].some((name) => name.startsWith('health-'))) throw new ExitError(125, '--no-healthcheck conflicts with --health-* options')
    return { Healthcheck: { Test: ['NONE'] } }
  }
  if (![...given].some((name) => name.startsWith('health-'))) return {}
  return { Healthcheck: {
    ...(flags['health-cmd'] && { Test: ['CMD-SHELL', flags['health-cmd']] }), Interval: flags['health-interval'], Timeout: flags['health-timeout'], Retries: flags['health-retries'],
    StartPeriod: flags['health-start-period'], StartInterval: flags['health-start-interval'], ...(flags['health-on-failure'] && { OnFailure: flags['health-on-failure'] }),
  } }
}

function networksOf(flags: CreateFlags) {
  const names = [...flags.network, ...flags.net]
  return (names.length ? names : ['default']).map(parseNetwork)
}

function endpointsOf(flags: CreateFlags): Record<string, object> {
  const networks = networksOf(flags)
  return Object.fromEntries(networks.map((network, at) => {
    const aliases = [...network.aliases, ...(at === 0 ? flags['network-alias'] : [])]
    const [ip, ip6, mac] = [network.ip ?? (at === 0 ? flags.ip : ''), network.ip6 ?? (at === 0 ? flags.ip6 : ''), network.macAddress ?? (at === 0 ? flags['mac-address'] : '')]
    return [network.name, {
      ...(aliases.length && { Aliases: aliases }), ...(mac && { MacAddress: mac }), ...(Object.keys(network.driverOpts).length && { DriverOpts: network.driverOpts }), ...(network.priority !== undefined && { GwPriority: network.priority }),
      ...((ip || ip6 || network.linkLocal.length) && { IPAMConfig: { ...(ip && { IPv4Address: ip }), ...(ip6 && { IPv6Address: ip6 }), ...(network.linkLocal.length && { LinkLocalIPs: network.linkLocal }) } }),
    }]
  }))
}

function hostConfigOf(flags: CreateFlags, given: ReadonlySet<string>): Record<string, unknown> {
  if (flags.rm && given.has('restart') && flags.restart !== 'no') throw new ExitError(125, 'conflicting options: cannot specify both --restart and --rm')
  const security = flags['security-opt'].map(parseSecurityOpt)
  const systemPaths = security.some((option) => /^systempaths[=:]unconfined$/.test(option))
  return {
    ...limitsOf(flags, given),
    AutoRemove: flags.rm, Privileged: flags.privileged, ReadonlyRootfs: flags['read-only'], PublishAllPorts: flags['publish-all'], RestartPolicy: restartPolicyOf(flags.restart),
    NetworkMode: networksOf(flags)[0]!.name, PidMode: flags.pid, IpcMode: flags.ipc, UTSMode: flags.uts, UsernsMode: flags.userns, CgroupnsMode: flags.cgroupns, CgroupParent: flags['cgroup-parent'],
    CapAdd: flags['cap-add'], CapDrop: flags['cap-drop'], GroupAdd: flags['group-add'], SecurityOpt: security.filter((option) => !/^systempaths[=:]unconfined$/.test(option)), ...(systemPaths && { MaskedPaths: [], ReadonlyPaths: [] }),
    Dns: flags.dns, DnsOptions: flags['dns-option'], DnsSearch: flags['dns-search'], ExtraHosts: flags['add-host'], Links: flags.link,
    Devices: flags.device.map(parseDevice), DeviceCgroupRules: flags['device-cgroup-rule'], ...(flags.gpus && { DeviceRequests: [gpuRequest(flags.gpus)] }),
    BlkioWeightDevice: flags['blkio-weight-device'].map(parseWeight),
    BlkioDeviceReadBps: flags['device-read-bps'].map((text) => parseThrottle('device-read-bps', text, 'bytes')), BlkioDeviceWriteBps: flags['device-write-bps'].map((text) => parseThrottle('device-write-bps', text, 'bytes')),
    BlkioDeviceReadIOps: flags['device-read-iops'].map((text) => parseThrottle('device-read-iops', text, 'operations')), BlkioDeviceWriteIOps: flags['device-write-iops'].map((text) => parseThrottle('device-write-iops', text, 'operations')),
    Mounts: flags.mount.map(parseMount), Tmpfs: Object.fromEntries(flags.tmpfs.map((text) => [text.split(':')[0]!, text.includes(':') ? text.slice(text.indexOf(':') + 1) : ''])), VolumesFrom: flags['volumes-from'], VolumeDriver: flags['volume-driver'],
    LogConfig: { Type: flags['log-driver'], Config: parseMap(flags['log-opt']) }, StorageOpt: flags['storage-opt'].length ? parseMap(flags['storage-opt'], 'storage-opt') : undefined, Sysctls: parseMap(flags.sysctl), Annotations: parseMap(flags.annotation),
    ShmSize: flags['shm-size'], Ulimits: flags.ulimit.map(parseUlimit), OomKillDisable: flags['oom-kill-disable'], OomScoreAdj: flags['oom-score-adj'], Runtime: flags.runtime, Isolation: flags.isolation,
    ...(given.has('memory-swappiness') && { MemorySwappiness: flags['memory-swappiness'] }), ...(given.has('init') && { Init: flags.init }), ContainerIDFile: flags.cidfile,
  }
}

/** --gpus: `all`, a count, or `device=…`. */
function gpuRequest(text: string): object {
  const count = text === 'all' ? -1 : /^\d+$/.test(text) ? Number(text) : 0
  return { Driver: '', Count: count, DeviceIDs: text.startsWith('device=') ? text.slice(7).split(',') : null, Capabilities: [['gpu']], Options: {} }
}
