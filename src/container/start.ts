import { join } from 'node:path'
import { BerthError, conflict, messageOf } from '../lib/errors.ts'
import { hostIdOf, rootOf } from '../lib/idmap.ts'
import { Cgroup, prepareCgroupParent } from '../libcontainer/cgroups/cgroup.ts'
import { ProcessFailure, type Streams } from '../execdriver/driver.ts'
import type { Container } from './container.ts'
import { containerUser } from './containeruser.ts'
import { containerDirectory, remapOf, type ContainerDeps } from './deps.ts'
import { followProcess } from './exit.ts'
import { StartError, explainFailure } from './failure.ts'
import { watchHealth } from './health.ts'
import { linkEnvironment } from './links.ts'
import { openContainerLog } from './logs.ts'
import { enterNetworks, leaveNetworks, networkEvents, serveNames } from './network.ts'
import { mergeEnvironment } from './process.ts'
import { NEVER, type ContainerRecord } from './record.ts'
import { removeContainer } from './remove.ts'
import { buildSpec, type Joined } from './spec.ts'
import { enterMounts, leaveMounts } from './volumes.ts'

/** Starts a container. `not-modified` where it runs already. A failure leaves it as it was, with the reason kept. */
export async function startContainer(deps: ContainerDeps, container: Container): Promise<void> {
  using _held = await deps.lock.hold(container.id)
  const { status } = container.record.state
  if (container.removed || status === 'removing' || status === 'dead') throw conflict('container is marked for removal and cannot be started')
  if (status === 'paused') throw conflict('cannot start a paused container, try unpause instead')
  if (status === 'running') throw new BerthError('not-modified', `container ${container.id} is running already`)
  container.cancelRestart?.()
  container.record.manuallyStopped = false
  container.record.restartCount = 0
  await launch(deps, container)
}

/** Starts the process of a container that has none. The caller holds its lock. */
export async function launch(deps: ContainerDeps, container: Container): Promise<void> {
  const { record } = container
  deps.failpoint('start.begin')
  try {
    const user = await containerUser(deps, record)
    const network = await enterNetworks(deps, container)
    if (network) deps.containers.save(container) // an engine that comes back must know the addresses of what runs
    deps.failpoint('start.networks')
    if (record.host.CgroupParent) prepareCgroupParent(deps.trees, join('/', record.host.CgroupParent))
    const cgroup = new Cgroup(deps.trees, cgroupPathOf(deps, record))
    container.cgroup = cgroup
    const remap = remapOf(deps, record.host)
    const mounts = await enterMounts(deps, record)
    deps.failpoint('start.mounts')
    const lender = deps.containers.lender(record.host.NetworkMode)?.record.config
    if (lender) Object.assign(record.config, { Hostname: lender.Hostname, Domainname: lender.Domainname }) // as in the files of names, which are its
    const spec = buildSpec({
      record, mounts, user, facts: deps.facts, remap, joined: joinedOf(deps, record), files: etcFiles(deps, record), cgroupPath: cgroup.path, initPath: deps.initPath,
    })
    spec.process!.env = mergeEnvironment(linkEnvironment(deps, record), spec.process!.env ?? [])
    const root = deps.layers.mount(record.id, { volatile: record.host.AutoRemove })
    deps.failpoint('start.assembled')
    await openContainerLog(deps, container)
    const live = await deps.execDriver.start({ id: record.id, spec, root, cgroup, streams: streamsOf(record), make: [{ path: '/.dockerenv' }, { path: '/etc/mtab', target: '/proc/mounts' }], network, ...(remap && { rootIdMap: { userNamespace: remap.path, ...rootOf(remap) }, owner: hostIdOf(remap.uids, user.uid) }) })
    deps.failpoint('start.started')
    record.state = { ...record.state, status: 'running', pid: live.pid, exitCode: 0, error: '', oomKilled: false, startedAt: new Date().toISOString() }
    container.began = performance.now()
    watchHealth(deps, container)
    deps.containers.save(container)
    deps.failpoint('start.recorded')
    serveNames(deps, container, live)
    networkEvents(deps, 'connect', record, record.endpoints)
    void followProcess(deps, container, live, launch)
    deps.events.emit('container', 'start', record.id, container.attributes())
  } catch (thrown) {
    const error = thrown instanceof ProcessFailure ? explainFailure(START_FAILED, record.path, thrown) : thrown
    failStart(container, error)
    deps.execDriver.release(record.id)
    networkEvents(deps, 'disconnect', record, await leaveNetworks(deps, container))
    await leaveMounts(deps, record)
    container.cgroup?.remove()
    deps.containers.save(container)
    container.stdin.disconnect()
    container.output.end()
    container.closeLog()
    for (const condition of ['not-running', 'next-exit'] as const) container.notify(condition)
    deps.events.emit('container', 'die', record.id, { ...container.attributes(), exitCode: String(record.state.exitCode) })
    if (record.host.AutoRemove) await removeContainer(deps, container, { force: true, volumes: true, locked: true })
    throw error
  }
}

const START_FAILED = 'failed to create task for container: failed to create shim task: OCI runtime create failed: unable to start container process: '

function streamsOf({ config, host }: ContainerRecord): Streams {
  const [rows, columns] = host.ConsoleSize
  return { stdin: config.OpenStdin, terminal: config.Tty ? { rows, columns } : undefined }
}

function failStart(container: Container, error: unknown): void {
  const { state } = container.record
  state.status = state.status === 'restarting' ? 'exited' : state.startedAt === NEVER ? 'created' : 'exited'
  state.exitCode = error instanceof StartError ? error.exitCode : 128
  state.error = messageOf(error)
  state.pid = 0
}

/** Where a container's cgroup is in each tree. */
export function cgroupPathOf(deps: ContainerDeps, { host, id }: ContainerRecord): string {
  const parent = host.CgroupParent || deps.cgroupParent
  return join('/', parent, id)
}

function etcFiles(deps: ContainerDeps, record: ContainerRecord): Record<string, string> {
  const owner = deps.containers.lender(record.host.NetworkMode)?.id ?? record.id
  const directory = containerDirectory(deps, owner)
  return Object.fromEntries(['resolv.conf', 'hostname', 'hosts'].map((name) => [`/etc/${name}`, join(directory, name)]))
}

function joinedOf(deps: ContainerDeps, { host }: ContainerRecord): Joined {
  const joined: Joined = {}
  const join = (kind: 'pid' | 'ipc' | 'network', mode: string, what: string): void => {
    const other = deps.containers.lender(mode)
    if (!other) return
    if (!other.process) throw conflict(`cannot join ${what} of a non running container: ${other.id}`)
    if (kind === 'ipc' && !/^(shareable$|container:)/.test(other.record.host.IpcMode)) throw conflict(`can't join IPC of container ${other.id}: non-shareable IPC (hint: use IpcMode:shareable for the donor container)`)
    joined[kind] = other.process.pid
    // a namespace belongs to a user namespace: who shares the one shares the other
    if (remapOf(deps, host) && remapOf(deps, other.record.host)) joined.user = other.process.pid
  }
  join('pid', host.PidMode, 'PID')
  join('ipc', host.IpcMode, 'IPC')
  join('network', host.NetworkMode, 'network')
  return joined
}
