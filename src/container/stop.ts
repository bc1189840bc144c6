import { BerthError, conflict, isKind } from '../lib/errors.ts'
import type { LiveProcess } from '../execdriver/driver.ts'
import { sendSignal } from '../sys/signal.ts'
import type { Container } from './container.ts'
import type { ContainerDeps } from './deps.ts'
import { parseSignal } from '../lib/signals.ts'
import { watchHealth } from './health.ts'
import { startContainer } from './start.ts'

const DEFAULT_TIMEOUT = 10

function notRunning(container: Container): Error {
  return conflict(`container ${container.id} is not running`)
}

/** Sends a signal to a container's process. What a person kills does not come back by itself. */
export async function killContainer(deps: ContainerDeps, container: Container, signal: string, { byPerson = true }: { byPerson?: boolean } = {}): Promise<void> {
  const number = parseSignal(signal)
  const live = container.process
  if (!container.running || !live) throw conflict(`cannot kill container: ${container.record.name}: ${notRunning(container).message}`)
  deps.failpoint('kill.begin')
  if (byPerson && (number === 9 || signalStops(container, number))) container.record.manuallyStopped = true
  signalProcess(deps, container, live, number)
  if (number !== 9 || !byPerson) return
  if (container.record.state.status === 'paused') await container.cgroup?.freeze(false)
  await container.wait('not-running', AbortSignal.timeout(10_000)).catch(() => undefined) // the kill is sent; how long dying takes is the kernel's
}

function signalProcess(deps: ContainerDeps, container: Container, live: LiveProcess, number: number): void {
  sendSignal(live.pid, number)
  deps.events.emit('container', 'kill', container.id, { ...container.attributes(), signal: String(number) })
}

function signalStops(container: Container, number: number): boolean {
  return number === parseSignal(container.record.config.StopSignal || 'SIGTERM')
}

/** Asks a container's process to end, and after `timeout` seconds (-1: never) kills it. `not-modified` where it does not
 * run. */
export async function stopContainer(deps: ContainerDeps, container: Container, options: { timeout?: number | undefined, signal?: string | undefined, abort: AbortSignal }): Promise<void> {
  const { record } = container
  const number = parseSignal(options.signal || record.config.StopSignal || 'SIGTERM')
  if (record.state.status === 'restarting') {
    using _held = await deps.lock.hold(container.id)
    if (container.cancelRestart) {
      container.cancelRestart()
      record.manuallyStopped = true
      record.state.status = 'exited'
      deps.containers.save(container)
      container.notify('not-running')
      return
    }
  }
  if (!container.running) throw new BerthError('not-modified', `container ${container.id} is not running`)
  const timeout = options.timeout ?? record.config.StopTimeout ?? DEFAULT_TIMEOUT
  container.stopping = true
  record.manuallyStopped = true
  try {
    deps.failpoint('stop.begin')
    const ended = container.wait('not-running', options.abort)
    ended.catch(() => undefined) // looked at below, or not at all when the client has gone
    await signalAndWait(deps, container, number, timeout < 0 ? undefined : timeout * 1000, ended)
    deps.failpoint('stop.ended')
  } finally {
    container.stopping = false
  }
  deps.containers.save(container)
  deps.events.emit('container', 'stop', container.id, container.attributes())
}

async function signalAndWait(deps: ContainerDeps, container: Container, number: number, timeout: number | undefined, ended: Promise<unknown>): Promise<void> {
  if (container.process) signalProcess(deps, container, container.process, number)
  if (container.record.state.status === 'paused') await container.cgroup?.freeze(false)
  deps.failpoint('stop.signalled')
  if (timeout === undefined) return void (await ended)
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<'late'>((resolve) => (timer = setTimeout(() => resolve('late'), timeout)))
  const first = await Promise.race([ended, late])
  clearTimeout(timer)
  if (first !== 'late') return
  if (container.process) signalProcess(deps, container, container.process, 9)
  await ended
}

export async function restartContainer(deps: ContainerDeps, container: Container, options: { timeout?: number | undefined, signal?: string | undefined, abort: AbortSignal }): Promise<void> {
  if (container.running) await stopContainer(deps, container, options)
  await startContainer(deps, container)
  deps.events.emit('container', 'restart', container.id, container.attributes())
}

export async function pauseContainer(deps: ContainerDeps, container: Container): Promise<void> {
  using _held = await deps.lock.hold(container.id)
  if (container.record.state.status === 'paused') throw conflict(`Container ${container.id} is already paused`)
  if (!container.running) throw conflict(`Container ${container.id} is not running`)
  await container.cgroup!.freeze(true)
  container.record.state.status = 'paused'
  try {
    deps.containers.save(container)
  } catch (error) {
    container.record.state.status = 'running'
    await container.cgroup!.freeze(false)
    throw error
  }
  container.stopHealth?.()
  deps.events.emit('container', 'pause', container.id, container.attributes())
}

export async function unpauseContainer(deps: ContainerDeps, container: Container): Promise<void> {
  using _held = await deps.lock.hold(container.id)
  if (container.record.state.status !== 'paused') throw conflict(`Container ${container.id} is not paused`)
  await container.cgroup!.freeze(false)
  container.record.state.status = 'running'
  watchHealth(deps, container, { resume: true })
  deps.containers.save(container)
  deps.events.emit('container', 'unpause', container.id, container.attributes())
}

/** Runs `work` while the containers of these ids, as far as they run, are paused. */
export async function whilePaused<T>(deps: ContainerDeps, ids: readonly string[], work: () => Promise<T>): Promise<T> {
  const paused: Container[] = []
  try {
    for (const id of ids) {
      const container = deps.containers.find(id)
      if (container?.record.state.status !== 'running') continue
      try {
        await pauseContainer(deps, container)
        paused.push(container)
      } catch (error) {
        if (!isKind(error, 'conflict')) throw error // it has ended, or somebody else has paused it, meanwhile
      }
    }
    return await work()
  } finally {
    for (const container of paused)
      await unpauseContainer(deps, container).catch((error: unknown) => {
        if (!isKind(error, 'conflict')) deps.warn(`container ${container.id} stays paused`, error)
      })
  }
}
