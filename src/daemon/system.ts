import { readFileSync } from 'node:fs'
import { availableParallelism, hostname, release, totalmem } from 'node:os'
import { hasLabel } from '../api/filters.ts'
import { API_VERSION, BERTH_VERSION, MIN_API_VERSION } from '../api/version.ts'
import type { HostFacts } from '../container/deps.ts'
import type { ContainerStore } from '../container/store.ts'
import type { Engine } from '../engine/engine.ts'
import type { Event, Events } from '../engine/events.ts'
import type { ImageStore } from '../image/store.ts'
import { goArchitecture } from '../image/image.ts'
import type { Networks } from '../libnetwork/controller.ts'
import type { LayerStore } from '../layer/store.ts'
import { readIfThere } from '../lib/files.ts'
import { parseTime } from '../lib/units.ts'
import { invalid } from '../lib/errors.ts'
import type { CgroupTrees } from '../libcontainer/cgroups/cgroup.ts'
import type { Call, Route } from '../server/router.ts'
import { LOOPBACK, type RegistryOptions } from '../registry/hosts.ts'
import { INDEX_SERVER, type Registries } from '../registry/registries.ts'
import { logDriverNames } from '../logdriver/drivers.ts'
import { networkDriverNames } from '../networkdriver/drivers.ts'
import { machine } from '../sys/syscalls.ts'
import type { Volumes } from '../volume/volumes.ts'
import { volumeDriverNames } from '../volumedriver/drivers.ts'
import type { DaemonOptions } from './options.ts'
import { diskUsage } from './usage.ts'

export interface SystemDeps { registries: Registries, containers: ContainerStore, images: ImageStore, layers: LayerStore, networks: Networks, volumes: Volumes, engine: Engine, events: Events, trees: CgroupTrees, facts: HostFacts, options: DaemonOptions }

/** The routes of the daemon itself: ping, version, info, events, jobs. */
export function systemRoutes(deps: SystemDeps): Route[] {
  const ping = (call: Call): void => {
    call.response.setHeader('Cache-Control', 'no-cache, no-store, must-revalidate')
    call.response.setHeader('Pragma', 'no-cache')
    call.response.setHeader('Builder-Version', '1')
    call.response.setHeader('Swarm', 'inactive')
    call.response.writeHead(200, { 'Content-Type': 'text/plain; charset=utf-8', 'Content-Length': 2 })
    call.response.end(call.request.method === 'HEAD' ? undefined : 'OK')
  }
  return [
    { method: 'GET', path: '/_ping', handler: ping },
    { method: 'HEAD', path: '/_ping', handler: ping },
    { method: 'GET', path: '/version', handler: (call) => call.send(200, versionOf()) },
    { method: 'GET', path: '/info', handler: (call) => call.send(200, infoOf(deps)) },
    { method: 'GET', path: '/system/df', handler: async (call) => call.send(200, await diskUsage(deps)) },
    // `docker system prune` asks for this too; without builds there is no cache of theirs, and nothing to delete
    { method: 'POST', path: '/build/prune', handler: (call) => call.send(200, { CachesDeleted: [], SpaceReclaimed: 0 }) },
    { method: 'GET', path: '/events', handler: (call) => streamEvents(deps.events, call) },
    { method: 'GET', path: '/jobs', handler: (call) => call.send(200, deps.engine.jobs(call.flag('all')).map((job) => ({
      Id: job.id, Name: job.name, Subject: job.subject, Status: job.status, Started: job.started.toISOString(), Duration: job.duration, Progress: job.progress, ...(job.error && { Error: job.error }),
    }))) },
    { method: 'POST', path: '/jobs/:id/cancel', async handler(call) {
      await deps.engine.cancel(Number(call.params['id']))
      call.empty()
    } },
  ]
}

function versionOf(): object {
  const details = { ApiVersion: API_VERSION, MinAPIVersion: MIN_API_VERSION, Os: 'linux', Arch: goArchitecture, KernelVersion: release(), GitCommit: '', GoVersion: '', BuildTime: '' }
  return {
    Platform: { Name: 'berth' }, Components: [{ Name: 'Engine', Version: BERTH_VERSION, Details: { ...details, Experimental: 'false', NodeVersion: process.version } }],
    Version: BERTH_VERSION, Experimental: false, ...details,
  }
}

function infoOf({ registries, containers, images, layers, trees, facts, options, events }: SystemDeps): object {
  const count = (...statuses: string[]): number => containers.list().filter(({ record }) => statuses.includes(record.state.status)).length
  const { proxy } = registries.options
  const os = /^PRETTY_NAME="?([^"\n]*)"?/m.exec(readIfThere('/etc/os-release') ?? '')?.[1] ?? 'Linux'
  const has = (controller: string): boolean => trees.version === 2 || trees.trees.has(controller)
  return {
    ID: hostname(), Containers: containers.list().length, ContainersRunning: count('running', 'restarting'), ContainersPaused: count('paused'), ContainersStopped: count('created', 'exited', 'dead'),
    Images: images.list().length, Driver: layers.driver.name, DriverStatus: layers.driver.status(), DockerRootDir: options.dataRoot,
    Plugins: { Volume: [...volumeDriverNames], Network: [...networkDriverNames], Authorization: null, Log: [...logDriverNames] },
    MemoryLimit: has('memory'), SwapLimit: has('memory'), CpuCfsPeriod: has('cpu'), CpuCfsQuota: has('cpu'), CPUShares: has('cpu'), CPUSet: has('cpuset'), PidsLimit: has('pids'), OomKillDisable: trees.version === 1,
    IPv4Forwarding: readFileSync('/proc/sys/net/ipv4/ip_forward', 'utf8').trim() === '1', Debug: options.debug, NFd: 0, NGoroutines: 0, SystemTime: new Date().toISOString(), LoggingDriver: options.log.driver,
    CgroupDriver: 'cgroupfs', CgroupVersion: String(trees.version), NEventsListener: events.listeners, KernelVersion: release(), OperatingSystem: os, OSVersion: '', OSType: 'linux', Architecture: machine,
    NCPU: availableParallelism(), MemTotal: totalmem(), IndexServerAddress: INDEX_SERVER, RegistryConfig: registryInfo(registries.options), GenericResources: null, HttpProxy: hidden(proxy.HTTP_PROXY), HttpsProxy: hidden(proxy.HTTPS_PROXY), NoProxy: proxy.NO_PROXY ?? '',
    Name: hostname(), Labels: options.labels, ExperimentalBuild: false, ServerVersion: BERTH_VERSION, Runtimes: { berth: { path: 'berth' } }, DefaultRuntime: 'berth', Swarm: { NodeID: '', NodeAddr: '', LocalNodeState: 'inactive', ControlAvailable: false, Error: '', RemoteManagers: null },
    LiveRestoreEnabled: options.liveRestore, Isolation: '', InitBinary: '', ContainerdCommit: { ID: '' }, RuncCommit: { ID: '' }, InitCommit: { ID: '' }, SecurityOptions: [...(facts.apparmor ? ['name=apparmor'] : []), 'name=seccomp,profile=builtin', ...(facts.selinux ? ['name=selinux'] : []), ...(options.usernsRemap ? ['name=userns'] : []), ...(trees.version === 2 ? ['name=cgroupns'] : [])], Warnings: [],
  }
}

/** The API's RegistryServiceConfig. */
function registryInfo({ mirrors, insecure }: RegistryOptions): object {
  const ranges = insecure.filter((entry) => entry.includes('/'))
  const index = (name: string): object => ({ Name: name, Mirrors: mirrors.get(name) ?? [], Secure: !insecure.includes(name), Official: name === 'docker.io' })
  const names = ['docker.io', ...insecure.filter((entry) => !entry.includes('/')), ...mirrors.keys()]
  return { InsecureRegistryCIDRs: [...LOOPBACK, ...ranges], IndexConfigs: Object.fromEntries(names.map((name) => [name, index(name)])), Mirrors: mirrors.get('docker.io') ?? [] }
}

/** A proxy's URL without its password. */
const hidden = (url = ''): string => url.replace(/\/\/[^@/]*@/, '//xxxxx:xxxxx@')

const eventFilters = ['config', 'container', 'daemon', 'event', 'image', 'label', 'network', 'node', 'plugin', 'scope', 'secret', 'service', 'type', 'volume']

/** Bytes of events that wait for a client that does not read them. */
const UNREAD = 8 << 20

async function streamEvents(events: Events, call: Call): Promise<void> {
  const filters = call.filters(eventFilters)
  const time = (name: string): number | undefined => {
    const text = call.query.get(name)
    return text ? parseTime(text, Date.now()) : undefined
  }
  const [since, until] = [time('since'), time('until')]
  if (since !== undefined && until !== undefined && until < since) throw invalid(`\`since\` time (${call.query.get('since')}) cannot be after \`until\` time (${call.query.get('until')})`)
  const response = call.stream('application/json')
  const milliseconds = (event: Event): number => Number(event.time / 1_000_000n)
  const send = (event: Event): void => {
    if (!matches(event, filters)) return
    response.write(wireOf(event))
    // who does not read loses the connection, not events
    if (response.writableLength > UNREAD) response.destroy(new Error('the client does not read its events'))
  }
  if (since !== undefined) for (const event of events.kept()) if (milliseconds(event) >= since && (until === undefined || milliseconds(event) <= until)) send(event)
  const left = until === undefined ? Infinity : until - Date.now()
  if (left > 0) {
    const stop = events.listen(send)
    await new Promise<void>((resolve) => {
      const timer = left === Infinity ? undefined : setTimeout(resolve, left)
      call.signal.addEventListener('abort', () => {
        clearTimeout(timer)
        resolve()
      }, { once: true })
    })
    stop()
  }
  response.end()
}

/** An event as every listener gets it: made once. */
function wireOf(event: Event): Buffer {
  let bytes = wires.get(event)
  if (!bytes) wires.set(event, bytes = Buffer.from(wire(event)))
  return bytes
}

const wires = new WeakMap<Event, Buffer>()

function wire(event: Event): string {
  const body = JSON.stringify({
    ...((event.type === 'container' || event.type === 'image') && { status: event.action, id: event.id, ...(event.type === 'container' && { from: event.attributes['image'] }) }),
    Type: event.type, Action: event.action, Actor: { ID: event.id, Attributes: event.attributes }, scope: 'local', time: Number(event.time / 1_000_000_000n),
  })
  return `${body.slice(0, -1)},"timeNano":${event.time}}\n` // more digits than a JavaScript number holds
}

/** Filters by the id or the name of what an event is about, or how that begins. Of the last, there are none here. */
const objects = new Set(['container', 'volume', 'network', 'daemon', 'plugin', 'config', 'node', 'secret', 'service'])

/** Whether an event is about an image, by its id or name with or without tag, or about a container of it. */
function ofImage({ type, id, attributes }: Event, value: string): boolean {
  if (type !== 'image' && type !== 'container') return false
  const name = attributes[type === 'image' ? 'name' : 'image']
  return (type === 'image' && (id === value || id === `sha256:${value}`)) || (name !== undefined && [name, name.replace(/:[^:/]*$/, '')].includes(value))
}

function matches(event: Event, filters: Map<string, string[]>): boolean {
  for (const [name, values] of filters) {
    if (values.length === 0) continue
    const any = (test: (value: string) => boolean): boolean => values.some(test)
    if (name === 'event' && !any((value) => event.action === value || event.action.startsWith(`${value}:`))) return false
    if (name === 'type' && !any((value) => event.type === value)) return false
    if (name === 'scope' && !any((value) => value === 'local')) return false
    if (name === 'label' && !values.every((value) => hasLabel(event.attributes, value))) return false
    if (name === 'image' && !any((value) => ofImage(event, value))) return false
    if (objects.has(name) && !(event.type === name && any((value) => event.id.startsWith(value) || (event.attributes['name'] ?? '').startsWith(value)))) return false
  }
  return true
}
