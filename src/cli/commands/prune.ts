import { humanSize } from '../../lib/units.ts'
import { command, ExitError, type Flags, type Invocation } from '../command.ts'
import { confirm } from '../console.ts'
import { filtersOf } from '../format/table.ts'

const flags = {
  filter: { type: 'list', word: 'filter', help: 'Provide filter values (e.g. "until=<timestamp>")' },
  force: { type: 'bool', short: 'f', help: 'Do not prompt for confirmation' },
} satisfies Flags

async function agreed(console: Invocation['console'], force: boolean, what: string): Promise<boolean> {
  return force || await confirm(console, `WARNING! This will remove ${what}.\nAre you sure you want to continue?`)
}

interface ContainersPruned { ContainersDeleted: string[] | null, SpaceReclaimed: number }
interface ImagesPruned { ImagesDeleted: { Deleted?: string, Untagged?: string }[] | null, SpaceReclaimed: number }

async function removeContainers({ session, console }: Pick<Invocation, 'session' | 'console'>, filters: readonly string[]): Promise<number> {
  const { ContainersDeleted, SpaceReclaimed } = await (await session.client()).json<ContainersPruned>('POST', '/containers/prune', { query: { filters: filtersOf(filters) } })
  if (ContainersDeleted?.length) console.print(`Deleted Containers:\n${ContainersDeleted.join('\n')}\n`)
  return SpaceReclaimed
}

async function removeImages({ session, console }: Pick<Invocation, 'session' | 'console'>, filters: readonly string[], all: boolean): Promise<number> {
  const { ImagesDeleted, SpaceReclaimed } = await (await session.client()).json<ImagesPruned>('POST', '/images/prune', { query: { filters: filtersOf([...filters, `dangling=${!all}`]) } })
  if (ImagesDeleted?.length) console.print(`Deleted Images:\n${ImagesDeleted.map(({ Deleted, Untagged }) => (Deleted ? `deleted: ${Deleted}` : `untagged: ${Untagged}`)).join('\n')}\n`)
  return SpaceReclaimed
}

async function removeNetworks({ session, console }: Pick<Invocation, 'session' | 'console'>, filters: readonly string[]): Promise<void> {
  const { NetworksDeleted } = await (await session.client()).json<{ NetworksDeleted: string[] | null }>('POST', '/networks/prune', { query: { filters: filtersOf(filters) } })
  if (NetworksDeleted?.length) console.print(`Deleted Networks:\n${NetworksDeleted.join('\n')}\n`)
}

async function removeVolumes({ session, console }: Pick<Invocation, 'session' | 'console'>, filters: readonly string[]): Promise<number> {
  const { VolumesDeleted, SpaceReclaimed } = await (await session.client()).json<{ VolumesDeleted: string[] | null, SpaceReclaimed: number }>('POST', '/volumes/prune', { query: { filters: filtersOf(filters) } })
  if (VolumesDeleted?.length) console.print(`Deleted Volumes:\n${VolumesDeleted.join('\n')}\n`)
  return SpaceReclaimed
}

export const pruneVolumes = command({
  usage: '',
  args: [0, 0],
  flags: { ...flags, all: { type: 'bool', short: 'a', help: 'Remove all unused volumes, not just anonymous ones' } },
  async run(invocation) {
    const { all, filter, force } = invocation.flags
    if (!await agreed(invocation.console, force, `${all ? 'all' : 'anonymous local'} volumes not used by at least one container`)) return
    invocation.console.print(`Total reclaimed space: ${humanSize(await removeVolumes(invocation, [...filter, ...(all ? ['all=1'] : [])]))}`)
  },
})

export const pruneNetworks = command({
  usage: '',
  args: [0, 0],
  flags,
  async run(invocation) {
    const { filter, force } = invocation.flags
    if (await agreed(invocation.console, force, 'all custom networks not used by at least one container')) await removeNetworks(invocation, filter)
  },
})

export const pruneContainers = command({
  usage: '',
  args: [0, 0],
  flags,
  async run(invocation) {
    const { filter, force } = invocation.flags
    if (await agreed(invocation.console, force, 'all stopped containers')) invocation.console.print(`Total reclaimed space: ${humanSize(await removeContainers(invocation, filter))}`)
  },
})

export const pruneImages = command({
  usage: '',
  args: [0, 0],
  flags: { ...flags, all: { type: 'bool', short: 'a', help: 'Remove all unused images, not just dangling ones' } },
  async run(invocation) {
    const { all, filter, force } = invocation.flags
    if (await agreed(invocation.console, force, all ? 'all images without at least one container associated to them' : 'all dangling images')) invocation.console.print(`Total reclaimed space: ${humanSize(await removeImages(invocation, filter, all))}`)
  },
})

export const pruneSystem = command({
  usage: '',
  args: [0, 0],
  flags: { ...flags, all: { type: 'bool', short: 'a', help: 'Remove all unused images not just dangling ones' }, volumes: { type: 'bool', help: 'Prune anonymous volumes' } },
  async run(invocation) {
    const { all, filter, force, volumes } = invocation.flags
    const until = filter.some((word) => word.startsWith('until='))
    if (volumes && until) throw new ExitError(1, 'ERROR: The "until" filter is not supported with "--volumes"')
    if (!await agreed(invocation.console, force, `all stopped containers, all networks that no container uses, ${volumes ? 'all anonymous volumes that no container has, ' : ''}and ${all ? 'all images without a container' : 'all dangling images'}`)) return
    let space = await removeContainers(invocation, filter)
    await removeNetworks(invocation, filter)
    if (volumes) space += await removeVolumes(invocation, filter)
    space += await removeImages(invocation, filter, all)
    invocation.console.print(`Total reclaimed space: ${humanSize(space)}`)
  },
})
