import { passesLabels } from '../api/filters.ts'
import { join } from 'node:path'
import { invalid } from '../lib/errors.ts'
import { humanDuration } from '../lib/units.ts'
import type { Container } from './container.ts'
import { containerDirectory, type ContainerDeps } from './deps.ts'
import { NEVER, type ContainerRecord } from './record.ts'
import { shortHealth } from './healthcheck.ts'
import { logOf } from './logs.ts'
import { networkSettingsOf, networksOf, portsOf } from './networksettings.ts'
import { labelsOf, parseSecurityOptions } from './process.ts'
import { defaultMaskedPaths, defaultReadonlyPaths } from './spec.ts'

/** The API's MountPoint list. */
function mountsOf({ mounts }: ContainerRecord): object[] {
  return mounts.map((point) => {
    const place = { Destination: point.destination, Mode: point.mode, RW: point.writable, Propagation: point.type === 'bind' ? point.propagation : '' }
    switch (point.type) {
      case 'bind': return { Type: 'bind', Source: point.source, ...place }
      case 'volume': return { Type: 'volume', Name: point.name, Source: point.source, Destination: place.Destination, Driver: point.driver, Mode: place.Mode, RW: place.RW, Propagation: '' }
      case 'tmpfs': return { Type: 'tmpfs', Source: '', ...place }
      case 'image': return { Type: 'image', Source: point.reference, ...place }
    }
  })
}

export function stateOf(record: ContainerRecord): Record<string, unknown> {
  const { state } = record
  return {
    Status: state.status, Running: state.status === 'running' || state.status === 'paused' || state.status === 'restarting', Paused: state.status === 'paused', Restarting: state.status === 'restarting',
    OOMKilled: state.oomKilled, Dead: state.status === 'dead', Pid: state.pid, ExitCode: state.exitCode, Error: state.error, StartedAt: state.startedAt, FinishedAt: state.finishedAt,
    ...(state.health && { Health: { Status: state.health.status, FailingStreak: state.health.failingStreak, Log: state.health.log.map(({ start, end, exitCode, output }) => ({ Start: start, End: end, ExitCode: exitCode, Output: output })) } }),
  }
}

/** The API's ContainerInspectResponse. */
export async function inspectContainer(deps: ContainerDeps, container: Container, size: boolean): Promise<object> {
  const { record } = container
  const directory = containerDirectory(deps, deps.containers.lender(record.host.NetworkMode)?.id ?? record.id)
  const { StopTimeout, Healthcheck, MacAddress, ...config } = record.config
  const labels = labelsOf(parseSecurityOptions(record.host.SecurityOpt ?? []), record.host, deps.facts)
  return {
    Id: record.id, Created: record.created, Path: record.path, Args: record.args, State: stateOf(record), Image: record.image,
    ResolvConfPath: join(directory, 'resolv.conf'), HostnamePath: join(directory, 'hostname'), HostsPath: join(directory, 'hosts'),
    LogPath: logOf(deps, record).path ?? '', Name: `/${record.name}`, RestartCount: record.restartCount,
    Driver: record.driver, Platform: 'linux', MountLabel: '', ProcessLabel: labels.selinuxLabel ?? '', AppArmorProfile: labels.apparmorProfile ?? '', ExecIDs: container.execs.size ? [...container.execs] : null,
    HostConfig: {
      ...record.host,
      MaskedPaths: record.host.MaskedPaths ?? (record.host.Privileged ? null : defaultMaskedPaths), ReadonlyPaths: record.host.ReadonlyPaths ?? (record.host.Privileged ? null : defaultReadonlyPaths),
    },
    GraphDriver: { Name: record.driver, Data: deps.layers.driver.data(record.id) },
    ...(size && await sizesOf(deps, record)),
    Mounts: mountsOf(record),
    Config: { ...config, Volumes: Object.keys(config.Volumes).length ? config.Volumes : null, ...(StopTimeout != null && { StopTimeout }), ...(Healthcheck && { Healthcheck: shortHealth(Healthcheck) }), ...(MacAddress && { MacAddress }) },
    NetworkSettings: networkSettingsOf(deps, container),
  }
}

/** Bytes that the container added, and those of its image too. */
async function sizesOf(deps: ListDeps, record: ContainerRecord): Promise<{ SizeRw: number, SizeRootFs: number }> {
  const below = deps.layers.chain(record.topLayer).reduce((sum, layer) => sum + layer.size, 0)
  const own = await deps.layers.writableSize(record.id)
  return { SizeRw: own, SizeRootFs: below + own }
}

/** `Up 5 minutes (Paused)`, as `docker ps` shows it. */
export function statusText(record: ContainerRecord, now = Date.now()): string {
  const { state } = record
  const ago = (time: string): string => humanDuration(now - Date.parse(time))
  switch (state.status) {
    case 'running': return `Up ${ago(state.startedAt)}${state.health ? state.health.status === 'starting' ? ' (health: starting)' : ` (${state.health.status})` : ''}`
    case 'paused': return `Up ${ago(state.startedAt)} (Paused)`
    case 'restarting': return `Restarting (${state.exitCode}) ${ago(state.finishedAt)} ago`
    case 'removing': return 'Removal In Progress'
    case 'dead': return 'Dead'
    case 'created': return 'Created'
    case 'exited': return state.finishedAt === NEVER ? 'Created' : `Exited (${state.exitCode}) ${ago(state.finishedAt)} ago`
  }
}

export const listFilters = ['ancestor', 'before', 'expose', 'exited', 'health', 'id', 'isolation', 'is-task', 'label', 'name', 'network', 'publish', 'since', 'status', 'volume']

export type ListDeps = Pick<ContainerDeps, 'containers' | 'images' | 'layers' | 'networks'>

export interface ListOptions { all: boolean, limit?: number | undefined, size: boolean, filters: Map<string, string[]> }

/** The API's list of ContainerSummary, newest first. */
export async function listContainers(deps: ListDeps, options: ListOptions): Promise<object[]> {
  const matches = compileFilters(deps, options.filters)
  const everything = options.all || options.limit !== undefined && options.limit > 0 || options.filters.has('status') || options.filters.has('exited')
  let containers = deps.containers.list().filter((container) => (everything || container.running || container.record.state.status === 'restarting') && matches(container))
  containers.sort((a, b) => (a.record.created < b.record.created ? 1 : -1))
  if (options.limit !== undefined && options.limit > 0) containers = containers.slice(0, options.limit)
  const now = Date.now()
  return await Promise.all(containers.map(async ({ record }) => ({
    Id: record.id, Names: [`/${record.name}`], Image: imageNameOf(deps, record), ImageID: record.image, Command: [record.path, ...record.args].map(quoteWord).join(' '),
    Created: Math.floor(Date.parse(record.created) / 1000), Ports: portsOf(record), Labels: record.config.Labels, State: record.state.status, Status: statusText(record, now),
    HostConfig: { NetworkMode: record.host.NetworkMode, ...(record.host.Annotations && { Annotations: record.host.Annotations }) },
    NetworkSettings: { Networks: networksOf(deps, record) }, Mounts: mountsOf(record), ...(options.size && await sizesOf(deps, record)),
  })))
}

/** A name that has gone to another image since is no longer the container's image's. */
function imageNameOf(deps: ListDeps, record: ContainerRecord): string {
  try {
    return deps.images.resolve(record.config.Image).id === record.image ? record.config.Image : record.image
  } catch {
    return record.image // the image is gone, or has lost that name
  }
}

function quoteWord(word: string): string {
  return word === '' || /\s/.test(word) ? `'${word}'` : word
}

const statuses = new Set(['created', 'running', 'paused', 'restarting', 'removing', 'exited', 'dead'])

function compileFilters(deps: ListDeps, filters: Map<string, string[]>): (container: Container) => boolean {
  const tests: ((container: Container) => boolean)[] = []
  const any = (name: string, make: (value: string) => (container: Container) => boolean): void => {
    const values = filters.get(name)
    if (!values?.length) return
    const made = values.map(make)
    tests.push((container) => made.some((test) => test(container)))
  }
  any('id', (value) => (container) => container.id.startsWith(value))
  any('name', (value) => {
    const pattern = toPattern(value)
    return ({ record }) => pattern.test(record.name) || pattern.test(`/${record.name}`)
  })
  any('status', (value) => {
    if (!statuses.has(value)) throw badFilter('status', value)
    return ({ record }) => record.state.status === value
  })
  any('exited', (value) => {
    if (!/^-?\d+$/.test(value)) throw badFilter('exited', value)
    return (container) => !container.running && container.record.state.status === 'exited' && container.record.state.exitCode === Number(value)
  })
  tests.push(({ record }) => passesLabels(record.config.Labels, filters))
  any('ancestor', (value) => {
    let target: string | undefined
    try {
      target = deps.images.resolve(value).id
    } catch {
      target = undefined // an image that is not there is nobody's ancestor
    }
    return ({ record }) => target !== undefined && (record.image === target || ancestors(deps, record.image).includes(target))
  })
  any('network', (value) => ({ record }) => Object.entries(networksOf(deps, record)).some(([name, { NetworkID }]) => name === value || NetworkID === value || value.length >= 12 && NetworkID.startsWith(value)))
  any('volume', (value) => ({ record }) => record.mounts.some((point) => point.destination === value || point.type === 'bind' && point.source === value || point.type === 'volume' && point.name === value))
  any('health', (value) => {
    if (!['starting', 'healthy', 'unhealthy', 'none'].includes(value)) throw badFilter('health', value)
    return ({ record }) => (record.state.health?.status ?? 'none') === value
  })
  any('isolation', (value) => () => value === 'default' || value === '')
  any('is-task', (value) => () => value === 'false' || value === '0')
  any('expose', (value) => ({ record }) => portsOf(record).some(({ PrivatePort, Type }) => isPort(value, PrivatePort, Type)))
  any('publish', (value) => ({ record }) => portsOf(record).some(({ PublicPort, Type }) => PublicPort !== undefined && isPort(value, PublicPort, Type)))
  const bound = (name: 'before' | 'since'): void => any(name, (value) => {
    const other = deps.containers.resolve(value).record.created
    return ({ record }) => (name === 'before' ? record.created < other : record.created > other)
  })
  bound('before')
  bound('since')
  return (container) => tests.every((test) => test(container))
}

/** `80`, `80/tcp`, or a range of either. */
function isPort(value: string, port: number, type: string): boolean {
  const [, first, last = first, protocol = 'tcp'] = /^(\d+)(?:-(\d+))?(?:\/(\w+))?$/.exec(value) ?? []
  if (first === undefined) throw badFilter('port', value)
  return port >= Number(first) && port <= Number(last) && type === protocol
}

const badFilter = (name: string, value: string): Error => invalid(`invalid filter '${name}=${value}'`)

function toPattern(value: string): RegExp {
  try {
    return new RegExp(value)
  } catch {
    return new RegExp(value.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')) // no expression, so it is meant as it stands
  }
}

function ancestors(deps: ListDeps, image: string): string[] {
  const found: string[] = []
  for (let at: string | undefined = image; at && deps.images.has(at);) {
    at = deps.images.get(at).parent
    if (at) found.push(at)
  }
  return found
}
