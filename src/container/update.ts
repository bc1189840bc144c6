import { conflict, invalid } from '../lib/errors.ts'
import type { UpdateBody } from './body.ts'
import type { Container } from './container.ts'
import { addMount, removeMount } from './changemounts.ts'
import { checkRestartPolicy } from './create.ts'
import type { ContainerDeps } from './deps.ts'
import { changePorts } from './network.ts'
import { checkLimits, resourcesOf } from './limits.ts'

/** Changes limits and the restart policy of a container, running or not. What the body leaves at zero stays as it is.
 * Returns warnings. */
export async function updateContainer(deps: ContainerDeps, container: Container, body: UpdateBody): Promise<string[]> {
  using _held = await deps.lock.hold(container.id)
  const warnings: string[] = []
  const { host } = container.record
  const { RestartPolicy, PublishAdd, PublishRm, MountAdd, MountRm, ...asked } = body
  if (RestartPolicy?.Name) {
    checkRestartPolicy(RestartPolicy)
    if (host.AutoRemove && RestartPolicy.Name !== 'no') throw conflict('Restart policy cannot be updated because AutoRemove is enabled for the container')
  }
  const given = Object.fromEntries(Object.entries(asked).filter(([, value]) => value !== 0 && value !== '' && value !== null && value !== undefined && !(Array.isArray(value) && value.length === 0)))
  const next = { ...host, ...given, ...(RestartPolicy?.Name && { RestartPolicy }) }
  const cannot = (why: string): Error => invalid(`Cannot update container ${container.id}: ${why}`)
  for (const [what, value] of [['Period', asked.CpuPeriod], ['Quota', asked.CpuQuota]]) if (host.NanoCpus && value) throw cannot(`Conflicting options: CPU ${what} cannot be updated as NanoCPUs has already been set`)
  if (given['Memory'] !== undefined && given['MemorySwap'] === undefined && host.MemorySwap > 0 && host.MemorySwap < next.Memory)
    throw cannot('Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time')
  checkLimits(next, warnings)
  if (Object.keys(PublishAdd).length || Object.keys(PublishRm).length) {
    await changePorts(deps, container, PublishAdd, PublishRm)
    next.PortBindings = host.PortBindings
  }
  // each is kept as it is done: a later one may fail
  for (const target of MountRm) {
    await removeMount(deps, container, target)
    deps.containers.save(container)
  }
  for (const mount of MountAdd) {
    await addMount(deps, container, mount)
    deps.containers.save(container)
  }
  Object.assign(next, { Mounts: host.Mounts, Binds: host.Binds })
  if (container.running) container.cgroup?.update(resourcesOf(next))
  if (typeof next.PidsLimit === 'number' && next.PidsLimit < 0) next.PidsLimit = 0 // no limit is kept as none
  container.record.host = next
  deps.containers.save(container)
  deps.events.emit('container', 'update', container.id, container.attributes())
  return warnings
}
