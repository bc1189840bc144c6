import { mkdirSync } from 'node:fs'
import { randomId } from '../lib/ids.ts'
import { invalid, notFound } from '../lib/errors.ts'
import { maskOf, resolveCapabilities } from '../libcontainer/capabilities.ts'
import type { Health, Image, ImageConfig } from '../image/image.ts'
import { formatPlatform, matchesPlatform, parsePlatform, platformOf } from '../image/platform.ts'
import type { CreateBody, ContainerConfig, HostConfig } from './body.ts'
import { emptyHostConfig, refuseUnsupported } from './body.ts'
import { checkTmpfsOptions, mountPointsOf } from './mounts.ts'
import { containerDirectory, remapOf, type ContainerDeps } from './deps.ts'
import { actionOf, checkHealth } from './healthcheck.ts'
import { checkLimits } from './limits.ts'
import { logOf } from './logs.ts'
import { generateName } from './names.ts'
import { writeNameFiles } from './namefiles.ts'
import { membershipsOf, named } from './network.ts'
import { NEVER, type ContainerRecord } from './record.ts'
import { discardedLabels, hostnameOf, mergeEnvironment, parseSecurityOptions } from './process.ts'
import { claimVolumes, fillVolumes, releaseVolumes } from './volumes.ts'
import type { Container } from './container.ts'
import { isSignal } from '../lib/signals.ts'
import { parseSize } from '../lib/units.ts'

export interface CreateInput { name?: string, body: CreateBody, platform?: string }
export interface Created { id: string, warnings: string[] }

/** Makes a container: checks all that was asked, then its layer, its files, its record. Nothing is left of a failure. */
export async function createContainer(deps: ContainerDeps, input: CreateInput): Promise<Created> {
  const { HostConfig: askedHost, NetworkingConfig: networking, ...askedConfig } = input.body
  const host = withDefaults(askedHost ?? emptyHostConfig(), deps)
  if (!askedConfig.Image) throw invalid('no image specified')
  const image = deps.images.resolve(askedConfig.Image)
  const config = mergeConfig(askedConfig, image.config)
  if (host.NetworkMode === 'default' && !deps.networks.find('bridge')) host.NetworkMode = 'none' // the daemon was told to do without
  const warnings = [...checkPlatform(image, askedConfig.Image, input.platform), ...checkAll(deps, config, host)]
  const mounts = mountPointsOf(config, host, (name) => named(() => deps.containers.resolve(name)).record.mounts)
  const networks = membershipsOf(deps, config, host, networking?.EndpointsConfig ?? {}, warnings)
  const name = input.name ? deps.containers.checkName(input.name) : generateName((free) => deps.containers.nameIsFree(free))
  const entrypoint = config.Entrypoint ?? []
  const command = [...entrypoint, ...(config.Cmd ?? [])]
  if (command.length === 0 || (command.length === 1 && command[0] === '')) throw invalid('no command specified')
  const id = randomId()
  const record: ContainerRecord = {
    id, name, created: new Date().toISOString(), image: image.id, ...(image.topLayer && { topLayer: image.topLayer }), config, host,
    path: command[0]!, args: command.slice(1), driver: deps.layers.driver.name, restartCount: 0, manuallyStopped: false, mounts, networks, endpoints: [],
    state: { status: 'created', pid: 0, exitCode: 0, error: '', oomKilled: false, startedAt: NEVER, finishedAt: NEVER },
  }
  if (!config.Hostname) config.Hostname = host.NetworkMode === 'host' ? deps.hostname : host.NetworkMode.startsWith('container:') ? '' : hostnameOf(record)
  const size = sizeOf(host)
  logOf(deps, record) // which says what is wrong with its options
  deps.failpoint('create.checked')
  // the record last: what a crash leaves half-made has no owner, and is swept
  let container: Container | undefined
  try {
    await claimVolumes(deps, id, mounts)
    deps.failpoint('create.volumes')
    await deps.layers.createWritable(id, image.topLayer, size)
    deps.failpoint('create.layer')
    writeFiles(deps, record)
    deps.failpoint('create.files')
    await fillVolumes(deps, record)
    deps.failpoint('create.filled')
    container = deps.containers.add(record)
    deps.failpoint('create.record')
  } catch (error) {
    await deleteContainerFiles(deps, id)
    await releaseVolumes(deps, id, mounts, { remove: true })
    throw error
  }
  deps.events.emit('container', 'create', id, container.attributes())
  return { id, warnings }
}

/** Refuses an image that is not for the platform that was asked for. One that is for another machine, where nobody asked,
 * is worth a warning: the kernel may have an emulator. */
function checkPlatform(image: Image, name: string, asked: string | undefined): string[] {
  const [wanted, actual] = [asked ? parsePlatform(asked) : undefined, platformOf(image.config)]
  if (wanted && !matchesPlatform(actual, wanted)) throw notFound(`image with reference ${name} was found but does not match the specified platform: wanted ${formatPlatform(wanted)}, actual: ${formatPlatform(actual)}`)
  const host = parsePlatform('linux')
  return wanted || matchesPlatform(actual, host) ? [] : [`The requested image's platform (${formatPlatform(actual)}) does not match the detected host platform (${formatPlatform(host)}) and no specific platform was requested`]
}

/** Removes what a container has on disk. */
export async function deleteContainerFiles(deps: ContainerDeps, id: string): Promise<void> {
  await deps.layers.removeWritable(id)
  deps.trash.put(containerDirectory(deps, id))
}

function writeFiles(deps: ContainerDeps, record: ContainerRecord): void {
  const directory = containerDirectory(deps, record.id)
  mkdirSync(directory, { recursive: true, mode: 0o710 })
  if (record.host.NetworkMode.startsWith('container:')) return
  writeNameFiles(deps, record)
}

/** How large a container's own layer may become. */
function sizeOf({ StorageOpt }: HostConfig): { size?: number } {
  const odd = Object.keys(StorageOpt ?? {}).find((name) => name !== 'size')
  if (odd !== undefined) throw invalid(`Unknown option ${odd}`)
  return StorageOpt?.['size'] === undefined ? {} : { size: parseSize(StorageOpt['size']) }
}

function withDefaults(host: HostConfig, { facts, defaultLog }: Pick<ContainerDeps, 'facts' | 'defaultLog'>): HostConfig {
  const networkMode = !host.NetworkMode ? 'default' : host.NetworkMode
  return {
    ...host, NetworkMode: networkMode,
    RestartPolicy: { Name: host.RestartPolicy.Name || 'no', MaximumRetryCount: host.RestartPolicy.MaximumRetryCount },
    LogConfig: { Type: host.LogConfig.Type || defaultLog.driver, Config: { ...((host.LogConfig.Type || defaultLog.driver) === defaultLog.driver && defaultLog.options), ...host.LogConfig.Config } },
    IpcMode: host.IpcMode || 'private', CgroupnsMode: host.CgroupnsMode || (facts.cgroupVersion === 2 && !host.Privileged ? 'private' : 'host'),
    ShmSize: host.ShmSize || 64 << 20, Runtime: host.Runtime || 'berth',
    MemorySwappiness: host.MemorySwappiness === -1 ? null : host.MemorySwappiness, PidsLimit: host.PidsLimit || null, // clients' ways to ask for nothing
    ...(host.Memory > 0 && host.MemorySwap === 0 && { MemorySwap: host.Memory * 2 }),
    Ulimits: host.Ulimits ?? null,
    OomKillDisable: host.OomKillDisable ?? false,
  }
}

/** What the image says, where the client said nothing (Docker's merge: a client's entrypoint drops the image's command). */
function mergeConfig(asked: ContainerConfig, image: ImageConfig): ContainerConfig {
  const base = image.config ?? {}
  const entrypoint = asked.Entrypoint ?? null
  const ownEntrypoint = entrypoint !== null && !(entrypoint.length === 1 && entrypoint[0] === '')
  const cleared = entrypoint !== null && entrypoint.length === 1 && entrypoint[0] === ''
  return {
    ...asked,
    User: asked.User || base.User || '',
    ExposedPorts: { ...base.ExposedPorts, ...asked.ExposedPorts },
    Env: mergeEnvironment(base.Env ?? [], asked.Env),
    Labels: { ...base.Labels, ...asked.Labels },
    Entrypoint: cleared ? null : ownEntrypoint ? entrypoint : (base.Entrypoint ?? null),
    Cmd: asked.Cmd?.length ? asked.Cmd : ownEntrypoint || cleared ? null : (base.Cmd ?? null),
    WorkingDir: asked.WorkingDir || base.WorkingDir || '',
    Volumes: { ...base.Volumes, ...asked.Volumes },
    StopSignal: asked.StopSignal || base.StopSignal || '',
    Healthcheck: mergeHealth(asked.Healthcheck, base.Healthcheck),
    OnBuild: null,
    Shell: asked.Shell ?? base.Shell ?? null,
  }
}

/** What the client leaves out of a health check is the image's. */
function mergeHealth(asked: ContainerConfig['Healthcheck'], image: Health | undefined): ContainerConfig['Healthcheck'] {
  const base = { Test: [], Interval: 0, Timeout: 0, Retries: 0, StartPeriod: 0, StartInterval: 0, OnFailure: '', ...image }
  if (!asked) return image ? base : null
  return {
    Test: asked.Test.length ? asked.Test : base.Test, Interval: asked.Interval || base.Interval, Timeout: asked.Timeout || base.Timeout, Retries: asked.Retries || base.Retries,
    StartPeriod: asked.StartPeriod || base.StartPeriod, StartInterval: asked.StartInterval || base.StartInterval, OnFailure: asked.OnFailure,
  }
}

function checkAll(deps: ContainerDeps, config: ContainerConfig, host: HostConfig): string[] {
  const warnings: string[] = []
  refuseUnsupported(host)
  if (config.WorkingDir && !config.WorkingDir.startsWith('/')) throw invalid(`the working directory '${config.WorkingDir}' is invalid, it needs to be an absolute path`)
  for (const entry of config.Env) if (entry.startsWith('=') || entry === '') throw invalid(`invalid environment variable: ${entry}`)
  if (config.StopSignal && !isSignal(config.StopSignal)) throw invalid(`Invalid signal: ${config.StopSignal}`)
  if (config.Hostname.length > 63 || config.Hostname.includes('\0')) throw invalid(`invalid hostname format: ${config.Hostname.slice(0, 100)}`)
  if (host.OomScoreAdj < -1000 || host.OomScoreAdj > 1000) throw invalid(`Invalid value ${host.OomScoreAdj}, range for oom score adj is [-1000, 1000]`)
  checkHealth(config.Healthcheck)
  actionOf(config)
  checkNamespaces(deps, config, host)
  checkLimits(host, warnings)
  maskOf(resolveCapabilities(host.CapAdd ?? [], host.CapDrop ?? [], host.Privileged))
  warnings.push(...discardedLabels(parseSecurityOptions(host.SecurityOpt ?? []), deps.facts))
  for (const [target, options] of Object.entries(host.Tmpfs ?? {})) {
    if (!target.startsWith('/')) throw invalid(`invalid mount path: '${target}' mount path must be absolute`)
    checkTmpfsOptions(options)
  }
  checkRestartPolicy(host.RestartPolicy)
  if (host.AutoRemove && host.RestartPolicy.Name !== 'no') throw invalid('can\'t create \'AutoRemove\' container with restart policy')
  return warnings
}

/** Refuses a restart policy that there is not. */
export function checkRestartPolicy({ Name, MaximumRetryCount }: HostConfig['RestartPolicy']): void {
  const wrong = (why: string): Error => invalid(`invalid restart policy: ${why}`)
  if (!['no', 'always', 'on-failure', 'unless-stopped'].includes(Name)) throw wrong(`unknown policy '${Name}'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'`)
  if (MaximumRetryCount && Name !== 'on-failure') throw wrong(`maximum retry count can only be used with 'on-failure'`)
  if (MaximumRetryCount < 0) throw wrong('maximum retry count cannot be negative')
}

function checkNamespaces(deps: ContainerDeps, config: ContainerConfig, host: HostConfig): void {
  const { NetworkMode, PidMode, IpcMode, UTSMode, UsernsMode, CgroupnsMode } = host
  const joins = (mode: string): boolean => named(() => deps.containers.lender(mode)) !== undefined
  joins(NetworkMode)
  if (!joins(PidMode) && PidMode !== '' && PidMode !== 'host' && PidMode !== 'private') throw invalid('invalid PID mode: ' + PidMode)
  if (!joins(IpcMode) && !['private', 'host', 'none', 'shareable'].includes(IpcMode)) throw invalid('invalid IPC mode: ' + IpcMode)
  if (UTSMode === 'host' && config.Hostname) throw invalid('conflicting options: hostname and the UTS mode')
  if (UTSMode !== '' && UTSMode !== 'host') throw invalid('invalid UTS mode: ' + UTSMode)
  if (UsernsMode !== '' && UsernsMode !== 'host') throw invalid('invalid user namespace mode: ' + UsernsMode)
  if (remapOf(deps, host)) {
    if (host.Privileged) throw invalid('privileged mode is incompatible with user namespaces.  You must run the container in the host namespace when running privileged mode')
    if (NetworkMode === 'host') throw invalid("cannot share the host's network namespace when user namespaces are enabled")
    if (PidMode === 'host') throw invalid('cannot share the host PID namespace when user namespaces are enabled')
  }
  if (!['', 'host', 'private'].includes(CgroupnsMode)) throw invalid('invalid cgroup namespace mode: ' + CgroupnsMode)
}
