import { existsSync, mkdirSync, readdirSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { availableParallelism, hostname, release } from 'node:os'
import { join } from 'node:path'
import { Archiver } from '../archive/archive.ts'
import type { ContainerDeps } from '../container/deps.ts'
import { ExecStore } from '../container/exec.ts'
import { containerRoutes } from '../container/service.ts'
import { recoverContainer } from '../container/recover.ts'
import { startContainer } from '../container/start.ts'
import { stopContainer, whilePaused } from '../container/stop.ts'
import { ContainerStore } from '../container/store.ts'
import { actOnUnhealthy } from '../container/unhealthy.ts'
import { holdVolumes, resumeMounts } from '../container/volumes.ts'
import type { DistributionDeps } from '../distribution/deps.ts'
import { distributionRoutes, imageTransfers } from '../distribution/service.ts'
import { Transfers } from '../distribution/transfers.ts'
import { Engine } from '../engine/engine.ts'
import { Events } from '../engine/events.ts'
import { openExecDriver } from '../execdriver/drivers.ts'
import { GraphDB } from '../graphdb/graphdb.ts'
import { openGraphDriver } from '../graphdriver/drivers.ts'
import { overlayWorks } from '../graphdriver/overlay.ts'
import { imageRoutes } from '../image/service.ts'
import { ImageStore } from '../image/store.ts'
import { Blobs } from '../layer/blobs.ts'
import { LayerStore } from '../layer/store.ts'
import { conflict, isKind, unsupported } from '../lib/errors.ts'
import { Limit } from '../lib/limit.ts'
import { KeyedLock } from '../lib/lock.ts'
import { rootOf } from '../lib/idmap.ts'
import { Plugin, pluginNames } from '../lib/plugin.ts'
import { Trash } from '../lib/trash.ts'
import { Cgroup, findCgroupTrees, prepareCgroupParent, type CgroupTrees } from '../libcontainer/cgroups/cgroup.ts'
import { DEFAULT_PROFILE, apparmorEnabled, loadDefaultProfile } from '../libcontainer/apparmor.ts'
import { networkRoutes } from '../libnetwork/service.ts'
import { logOpener } from '../logdriver/drivers.ts'
import { HostSet } from '../registry/hosts.ts'
import { Registries } from '../registry/registries.ts'
import { listenAt, metricsServer } from '../server/metrics.ts'
import { Router } from '../server/router.ts'
import { initProgram } from '../sys/build.ts'
import { claimDirectory } from '../sys/fs.ts'
import { rootIsNamespaces } from '../sys/root.ts'
import { Zygote } from '../sys/zygote.ts'
import { volumeRoutes } from '../volume/service.ts'
import { Volumes } from '../volume/volumes.ts'
import { volumeDrivers } from '../volumedriver/drivers.ts'
import { openDaemonMetrics } from './metrics.ts'
import { openNetworks } from './network.ts'
import type { DaemonOptions } from './options.ts'
import { openRemap } from './remap.ts'
import { systemRoutes } from './system.ts'

const CGROUP_PARENT = '/berth'

export interface Composed { engine: Engine, router: Router }

/** Wires the engine together and makes its state true again after a crash. Keeps nothing. */
export async function compose(options: DaemonOptions, hooks: { warn: (message: string, error?: unknown) => void, failpoint: (name: string) => void }): Promise<Composed> {
  const { dataRoot, execRoot } = options
  for (const directory of [dataRoot, execRoot]) mkdirSync(directory, { recursive: true, mode: 0o711 })
  if (!claimDirectory(dataRoot)) throw conflict(`the data root ${dataRoot} belongs to another daemon that runs`)
  const trees = findCgroupTrees()
  prepareCgroupParent(trees, CGROUP_PARENT)
  const graph = GraphDB.open(join(dataRoot, 'graph.db'), hooks.warn)
  const archiver = new Archiver(Math.max(2, availableParallelism()))
  const trash = new Trash(join(dataRoot, 'trash'), hooks.warn)
  await trash.empty()
  const driver = openGraphDriver(options.storageDriver || (overlayWorks(dataRoot) ? 'overlay2' : 'vfs'), dataRoot, trash)
  const layers = new LayerStore({ graph, driver, archiver, blobs: new Blobs(dataRoot), root: dataRoot })
  const images = new ImageStore({ graph, layers })
  const containers = new ContainerStore(graph)
  const engine = new Engine()
  const events = new Events()
  const zygote = Zygote.start()
  // whoever joins a container's mount namespace comes to its root, which in a chroot is not the container's
  if (!await rootIsNamespaces(zygote, execRoot)) throw unsupported('berth can not run in a chroot: what is executed in a container would be outside of it. Make the directory the root by pivot_root(8)')
  const execDriver = openExecDriver(options.execDriver, { zygote, root: join(execRoot, 'containers'), trees, warn: hooks.warn })
  const apparmor = apparmorEnabled()
  const remap = options.usernsRemap ? await openRemap(zygote, options.usernsRemap, { dataRoot, execRoot }) : undefined
  const { networks, close: closeNetworks } = await openNetworks(graph, zygote, options, hooks)
  const volumes = new Volumes({ graph, events, warn: hooks.warn, plugins: pluginNames, driver: volumeDrivers({
    local: { root: join(dataRoot, 'volumes'), owner: rootOf(remap), trash, zygote, directory: execRoot }, plugin: (name) => Plugin.find(name),
  }) })
  const openLog = logOpener(hooks.warn)
  openLog(options.log.driver, { id: '', name: '', imageId: '', imageName: '', command: '', created: '', labels: {}, env: [], directory: dataRoot }, options.log.options) // which says what is wrong with them
  let stopping = false
  const deps: ContainerDeps = {
    containers, execs: new ExecStore(), images, layers, trash, archiver, engine, events, execDriver, lock: new KeyedLock(), trees, dataRoot, cgroupParent: CGROUP_PARENT, imageUsers: new Map(), initPath: initProgram(), openLog, defaultLog: options.log, healthCounts: { all: 0, failed: 0 },
    facts: { kernel: release(), cgroupVersion: trees.version, apparmor, apparmorProfile: apparmor && await loadDefaultProfile() ? DEFAULT_PROFILE : undefined, selinux: existsSync('/sys/fs/selinux/enforce'), cpus: availableParallelism() },
    networks, volumes, execRoot, zygote, hostname: hostname(), publish: { address: options.network.publishAddress, ipv6: existsSync('/proc/net/if_inet6'), hostGateway: options.network.hostGateway }, dns: options.network.dns,
    remap, ...hooks, isStopping: () => stopping, unhealthy: (container) => void actOnUnhealthy(deps, container),
  }
  try {
    await recover(deps, trees, hooks.warn)
  } catch (error) {
    await closeNetworks()
    throw error
  }
  if (options.metrics) {
    const metrics = metricsServer(await openDaemonMetrics({ engine, events, containers, healthCounts: deps.healthCounts, driver: driver.name }))
    await listenAt(metrics, options.metrics).catch(async (error: unknown) => {
      await closeNetworks()
      throw error
    })
    engine.onShutdown(() => {
      metrics.closeAllConnections()
      metrics.close()
    })
  }
  const registries = new Registries(options.registry.connect)
  engine.onShutdown(async () => {
    await registries.close()
    await trash.settled()
    await closeNetworks()
    zygote.stop()
    remap?.[Symbol.dispose]()
    archiver[Symbol.dispose]()
    graph.close()
  })
  engine.onShutdown(async () => {
    stopping = true
    if (!options.liveRestore) await stopAll(deps)
  })
  const foreign = new HostSet(options.registry.foreign)
  const distribution: DistributionDeps = {
    images, registries, engine, events, arriving: new Transfers(), blobLock: new KeyedLock(), downloads: new Limit(options.registry.downloads), uploads: new Limit(options.registry.uploads), attempts: options.registry.attempts,
    pushesForeign: (name) => foreign.has(name),
  }
  const router = new Router([
    ...containerRoutes(deps),
    ...distributionRoutes(distribution),
    ...imageRoutes({ images, engine, events, dataRoot, usersOf: (image) => containers.ofImage(image).map(({ id, running }) => ({ id, running })) }, imageTransfers(distribution)),
    ...networkRoutes({ networks, engine, events }),
    ...volumeRoutes({ volumes, archiver, engine, events, paused: (name, work) => whilePaused(deps, volumes.holders(name), work) }),
    ...systemRoutes({ registries, containers, images, layers, networks, volumes, engine, events, trees, facts: deps.facts, options }),
  ], (error, request) => hooks.warn(`${request.method} ${request.url} failed`, error))
  return { engine, router }
}

/** Takes up containers that live, records the ends of those that don't, and sweeps what nobody owns. */
async function recover(deps: ContainerDeps, trees: CgroupTrees, warn: (message: string, error?: unknown) => void): Promise<void> {
  const known = new Set(deps.containers.list().map(({ id }) => id))
  for (const id of deps.execDriver.runs()) if (!known.has(id)) await sweepRun(deps, trees, id)
  await deps.layers.sweep(known)
  for (const layer of deps.layers.missing()) warn(`layer ${layer.chainId} has lost its files`)
  const directory = join(deps.dataRoot, 'containers')
  for (const id of existsSync(directory) ? readdirSync(directory) : []) if (!known.has(id)) deps.trash.put(join(directory, id))
  await rm(join(deps.dataRoot, 'tmp'), { recursive: true, force: true })
  await deps.volumes.open()
  holdVolumes(deps, deps.containers.list().map(({ record }) => record))
  // all that live first: whoever is started again must not get their addresses
  const wereUp = new Set(deps.containers.list().filter(({ record: { state: { status } } }) => status === 'running' || status === 'restarting' || status === 'exited'))
  for (const container of deps.containers.list()) await recoverContainer(deps, container)
  await resumeMounts(deps, deps.containers.list().filter(({ running }) => running).map(({ record }) => record))
  await deps.networks.follow()
  for (const container of deps.containers.list()) {
    const wasUp = wereUp.has(container)
    const { RestartPolicy } = container.record.host
    const again = RestartPolicy.Name === 'always' || RestartPolicy.Name === 'unless-stopped' && !container.record.manuallyStopped
    if (wasUp && again && !container.running && container.record.state.status !== 'restarting' && !container.removed)
      await startContainer(deps, container).catch((error: unknown) => warn(`container ${container.id} could not be restarted`, error))
  }
}

/** Ends what lives of a run that no container owns, and removes its cgroup. */
async function sweepRun(deps: ContainerDeps, trees: CgroupTrees, id: string): Promise<void> {
  deps.execDriver.release(id)
  await new Cgroup(trees, join(CGROUP_PARENT, id)).removeSoon()
}

async function stopAll(deps: ContainerDeps): Promise<void> {
  await Promise.all(deps.containers.list().filter((container) => container.running || container.cancelRestart).map(async (container) => {
    const { manuallyStopped } = container.record
    try {
      await stopContainer(deps, container, { abort: AbortSignal.timeout(60_000) })
    } catch (error) {
      if (!isKind(error, 'not-modified')) deps.warn(`container ${container.id} could not be stopped`, error)
    }
    container.record.manuallyStopped = manuallyStopped // the daemon's stop is not a person's
    deps.containers.save(container)
  }))
}
