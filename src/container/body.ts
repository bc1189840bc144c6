import * as v from 'valibot'
import { flag, integer, list, map, parseBody as parse, string, text, whole } from '../api/body.ts'
import { unsupported } from '../lib/errors.ts'

/** What a client sends to create, update, or execute in a container: the API's ContainerConfig and HostConfig. */
const optionalWhole = v.nullish(integer)
const set = v.nullish(v.record(string, v.nullish(v.object({}), {})), {})
const command = v.nullish(v.union([v.array(string), v.pipe(string, v.transform((word) => [word]))]))

const health = v.object({ Test: list, Interval: whole, Timeout: whole, Retries: whole, StartPeriod: whole, StartInterval: whole, /** Not Docker's. */ OnFailure: text })

const containerConfig = {
  Hostname: text, Domainname: text, User: text, AttachStdin: flag, AttachStdout: flag, AttachStderr: flag, ExposedPorts: set, Tty: flag,
  OpenStdin: flag, StdinOnce: flag, Env: list, Cmd: command, Healthcheck: v.nullish(health), ArgsEscaped: flag, Image: text, Volumes: set,
  WorkingDir: text, Entrypoint: command, NetworkDisabled: flag, MacAddress: text, OnBuild: v.nullish(v.array(string)), Labels: map,
  StopSignal: text, StopTimeout: optionalWhole, Shell: v.nullish(v.array(string)),
}

const weight = v.object({ Path: string, Weight: whole })
const throttle = v.object({ Path: string, Rate: whole })
const device = v.object({ PathOnHost: text, PathInContainer: text, CgroupPermissions: text })
const request = v.looseObject({ Driver: text })
const ulimit = v.object({ Name: string, Soft: whole, Hard: whole })
const port = v.object({ HostIp: text, HostPort: text })
const mount = v.looseObject({
  Type: text, Source: text, Target: text, ReadOnly: flag, Consistency: text,
  BindOptions: v.nullish(v.object({ Propagation: text, NonRecursive: flag, CreateMountpoint: flag, ReadOnlyNonRecursive: flag, ReadOnlyForceRecursive: flag })),
  VolumeOptions: v.nullish(v.object({ NoCopy: flag, Labels: map, Subpath: text, DriverConfig: v.nullish(v.object({ Name: text, Options: map })) })),
  ImageOptions: v.nullish(v.object({ Subpath: text })),
  TmpfsOptions: v.nullish(v.object({ SizeBytes: whole, Mode: whole, Options: v.nullish(v.array(v.array(string))) })),
})

const resources = {
  CpuShares: whole, Memory: whole, CgroupParent: text, BlkioWeight: whole, BlkioWeightDevice: v.nullish(v.array(weight)),
  BlkioDeviceReadBps: v.nullish(v.array(throttle)), BlkioDeviceWriteBps: v.nullish(v.array(throttle)),
  BlkioDeviceReadIOps: v.nullish(v.array(throttle)), BlkioDeviceWriteIOps: v.nullish(v.array(throttle)),
  CpuPeriod: whole, CpuQuota: whole, CpuRealtimePeriod: whole, CpuRealtimeRuntime: whole, CpusetCpus: text, CpusetMems: text,
  Devices: v.nullish(v.array(device), []), DeviceCgroupRules: v.nullish(v.array(string)), DeviceRequests: v.nullish(v.array(request)),
  MemoryReservation: whole, MemorySwap: whole, MemorySwappiness: optionalWhole, NanoCpus: whole, OomKillDisable: v.nullish(v.boolean()),
  Init: v.nullish(v.boolean()), PidsLimit: optionalWhole, Ulimits: v.nullish(v.array(ulimit)), CpuCount: whole, CpuPercent: whole,
  IOMaximumIOps: whole, IOMaximumBandwidth: whole,
}
const restartPolicy = v.nullish(v.object({ Name: text, MaximumRetryCount: whole }), { Name: 'no', MaximumRetryCount: 0 })

const hostConfig = {
  ...resources,
  Binds: v.nullish(v.array(string)), ContainerIDFile: text, LogConfig: v.nullish(v.object({ Type: text, Config: map }), { Type: '', Config: {} }),
  NetworkMode: text, PortBindings: v.nullish(v.record(string, v.nullish(v.array(port), [])), {}), RestartPolicy: restartPolicy, AutoRemove: flag,
  VolumeDriver: text, VolumesFrom: v.nullish(v.array(string)), Mounts: v.nullish(v.array(mount)), ConsoleSize: v.nullish(v.tuple([v.number(), v.number()]), [0, 0]),
  Annotations: v.nullish(v.record(string, string)), CapAdd: v.nullish(v.array(string)), CapDrop: v.nullish(v.array(string)),
  CgroupnsMode: text, Dns: list, DnsOptions: list, DnsSearch: list, ExtraHosts: v.nullish(v.array(string)), GroupAdd: v.nullish(v.array(string)),
  IpcMode: text, Cgroup: text, Links: v.nullish(v.array(string)), OomScoreAdj: whole, PidMode: text, Privileged: flag, PublishAllPorts: flag,
  ReadonlyRootfs: flag, SecurityOpt: v.nullish(v.array(string)), StorageOpt: v.nullish(v.record(string, string)),
  Tmpfs: v.nullish(v.record(string, string)), UTSMode: text, UsernsMode: text, ShmSize: whole, Sysctls: v.nullish(v.record(string, string)),
  Runtime: text, Isolation: text, MaskedPaths: v.nullish(v.array(string)), ReadonlyPaths: v.nullish(v.array(string)),
}

const endpoint = v.object({
  IPAMConfig: v.nullish(v.object({ IPv4Address: text, IPv6Address: text, LinkLocalIPs: v.nullish(v.array(string)) })), Links: v.nullish(v.array(string)), Aliases: v.nullish(v.array(string)),
  MacAddress: text, DriverOpts: v.nullish(v.record(string, string)), GwPriority: whole,
})
export type EndpointBody = v.InferOutput<typeof endpoint>

const createBody = v.object({
  ...containerConfig,
  HostConfig: v.nullish(v.object(hostConfig)),
  NetworkingConfig: v.nullish(v.object({ EndpointsConfig: v.nullish(v.record(string, v.nullish(endpoint))) })),
})

export type ContainerConfig = Omit<v.InferOutput<typeof createBody>, 'HostConfig' | 'NetworkingConfig'>
export type HostConfig = v.InferOutput<v.ObjectSchema<typeof hostConfig, undefined>>
export type CreateBody = v.InferOutput<typeof createBody>

const ports = v.nullish(v.record(string, v.nullish(v.array(port), [])), {})
/** The API's; ports to be published and withdrawn; mounts to be added and removed. */
const updateBody = v.object({ ...resources, PublishAdd: ports, PublishRm: ports, MountAdd: v.nullish(v.array(mount), []), MountRm: list, RestartPolicy: v.nullish(v.object({ Name: text, MaximumRetryCount: whole })) })
export type UpdateBody = v.InferOutput<typeof updateBody>

const execBody = v.object({
  AttachStdin: flag, AttachStdout: flag, AttachStderr: flag, DetachKeys: text, Tty: flag, Env: list, Cmd: command, Privileged: flag, User: text,
  WorkingDir: text, ConsoleSize: v.nullish(v.tuple([v.number(), v.number()])),
})
export type ExecBody = v.InferOutput<typeof execBody>

const execStartBody = v.object({ Detach: flag, Tty: flag, ConsoleSize: v.nullish(v.tuple([v.number(), v.number()])) })

const connectBody = v.object({ Container: string, EndpointConfig: v.nullish(endpoint) })
const disconnectBody = v.object({ Container: string, Force: flag })

const impairBody = v.object({ Container: string, Rate: whole, Delay: whole, Jitter: whole, Loss: v.nullish(v.pipe(v.number(), v.minValue(0), v.maxValue(1)), 0) })
export const parseImpairBody = (body: unknown): v.InferOutput<typeof impairBody> => parse(impairBody, body)
export const parseConnectBody = (body: unknown): v.InferOutput<typeof connectBody> => parse(connectBody, body)
export const parseDisconnectBody = (body: unknown): v.InferOutput<typeof disconnectBody> => parse(disconnectBody, body)
export const parseCreateBody = (body: unknown): CreateBody => parse(createBody, body)
export const parseUpdateBody = (body: unknown): UpdateBody => parse(updateBody, body)
export const parseExecBody = (body: unknown): ExecBody => parse(execBody, body)
export const parseExecStartBody = (body: unknown): v.InferOutput<typeof execStartBody> => parse(execStartBody, body ?? {})
/** A HostConfig with every default. */
export const emptyHostConfig = (): HostConfig => parse(v.object(hostConfig), {})

/** Refuses, by name, what is understood but can't be done. */
export function refuseUnsupported(host: HostConfig): void {
  const asked: [boolean, string][] = [
    [!!host.DeviceRequests?.length, `could not select device driver ${JSON.stringify(host.DeviceRequests?.[0]?.Driver ?? '')} with capabilities: [[gpu]]`],
    [!!host.Isolation && host.Isolation !== 'default', `invalid isolation '${host.Isolation}' on linux`],
    [!!host.Runtime && !['runc', 'berth', 'io.containerd.runc.v2'].includes(host.Runtime), `unknown or invalid runtime name: ${host.Runtime}`],
    [!!host.CpuRealtimePeriod || !!host.CpuRealtimeRuntime, 'HostConfig.CpuRealtimeRuntime: the kernel does not schedule real-time tasks by cgroup'],
  ]
  for (const [is, message] of asked) if (is) throw unsupported(message)
}
