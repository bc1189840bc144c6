import { conflict } from '../lib/errors.ts'
import { sendSignal } from '../sys/signal.ts'
import type { Container } from './container.ts'
import { deleteContainerFiles } from './create.ts'
import type { ContainerDeps } from './deps.ts'
import { releaseVolumes } from './volumes.ts'

/** Removes a container; a running one only by force, which kills it. With `volumes`, those go that nobody named. `locked`:
 * the caller holds its lock. */
export async function removeContainer(deps: ContainerDeps, container: Container, options: { force: boolean, volumes?: boolean, locked?: boolean }): Promise<void> {
  const volumes = options.volumes ?? false
  if (options.locked) return await erase(deps, container, volumes)
  for (;;) {
    if (container.running) {
      if (!options.force) throw stillRunning(container)
      await killForRemoval(container)
    }
    using _held = await deps.lock.hold(container.id)
    if (container.removed) return
    if (!container.running) return await erase(deps, container, volumes)
    if (!options.force) throw stillRunning(container)
    // its restart policy was quicker
  }
}

function stillRunning({ record: { name, state: { status } } }: Container): Error {
  const advice = status === 'paused' ? 'Unpause and then stop the container before attempting removal or force remove' : 'stop the container before removing or force remove'
  return conflict(`cannot remove container ${JSON.stringify('/' + name)}: container is ${status}: ${advice}`)
}

async function killForRemoval(container: Container): Promise<void> {
  container.stopping = true
  try {
    const ended = container.wait('not-running', AbortSignal.timeout(30_000))
    if (container.process) {
      sendSignal(container.process.pid, 'SIGKILL')
      if (container.cgroup?.frozen()) await container.cgroup.freeze(false)
    }
    await ended
  } finally {
    container.stopping = false
  }
}

async function erase(deps: ContainerDeps, container: Container, volumes: boolean): Promise<void> {
  if (container.removed) return
  container.cancelRestart?.()
  deps.failpoint('remove.begin')
  const attributes = container.attributes()
  deps.containers.remove(container) // from here on a crash leaves files without an owner, which are swept
  deps.failpoint('remove.record')
  await releaseVolumes(deps, container.id, container.record.mounts, { remove: volumes })
  deps.events.emit('container', 'destroy', container.id, attributes)
  for (const condition of ['removed', 'not-running', 'next-exit'] as const) container.notify(condition)
  try {
    await deleteContainerFiles(deps, container.id)
  } catch (error) {
    deps.warn(`can't delete the files of container ${container.id}; they are swept when the engine starts`, error)
  }
  deps.failpoint('remove.files')
}
