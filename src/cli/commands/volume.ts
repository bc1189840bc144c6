import { command } from '../command.ts'
import { parseMap } from '../create/words.ts'
import { readLabels } from '../environment.ts'
import { openFile, withBar } from '../files.ts'
import { filtersOf, formatFlag, labelFields, printListing } from '../format/table.ts'
import { toFile } from '../streams.ts'
import { forEach, volumePath } from '../targets.ts'

interface Volume { Name: string, Driver: string, Labels: Record<string, string> | null, Mountpoint: string, Scope: string, SnapshotOf?: string }

export const ls = command({
  usage: '',
  args: [0, 0],
  flags: {
    filter: { type: 'list', word: 'filter', short: 'f', help: 'Provide filter values (e.g. "dangling=true")' },
    format: formatFlag,
    quiet: { type: 'bool', short: 'q', help: 'Only display volume names' },
  },
  async run({ flags, session, console }) {
    const { Volumes } = await (await session.client()).json<{ Volumes: Volume[] | null }>('GET', '/volumes', { query: { filters: filtersOf(flags.filter) } })
    const volumes = (Volumes ?? []).toSorted((a, b) => a.Name.localeCompare(b.Name, 'en', { numeric: true }))
    if (flags.quiet && !flags.format) return volumes.forEach(({ Name }) => console.print(Name))
    const rows = volumes.map(({ Name, Driver, Labels, Mountpoint, Scope, SnapshotOf = '' }) => ({
      Driver, Name, Scope, Mountpoint, SnapshotOf, Availability: 'N/A', Group: 'N/A', Status: 'N/A', Size: 'N/A', Links: 'N/A',
      ...labelFields(Labels),
    }))
    printListing(console, rows, { format: flags.format, columns: ['Driver', 'Name'], heads: { Name: 'VOLUME NAME' } })
  },
})

export const create = command({
  usage: '[VOLUME]',
  args: [0, 1],
  flags: {
    driver: { type: 'string', short: 'd', otherwise: 'local', help: 'Specify volume driver name' },
    label: { type: 'list', help: 'Set metadata for a volume' },
    name: { type: 'string', help: 'Specify volume name', hidden: true },
    opt: { type: 'list', short: 'o', word: 'map', help: 'Set driver specific options' },
  },
  async run({ args: [name = ''], flags, session, console }) {
    const { Name } = await (await session.client()).json<Volume>('POST', '/volumes/create', { body: { Name: name || flags.name, Driver: flags.driver, DriverOpts: parseMap(flags.opt), Labels: readLabels([], flags.label) } })
    console.print(Name)
  },
})

export const rm = command({
  usage: 'VOLUME [VOLUME...]',
  args: [1, Infinity],
  flags: { force: { type: 'bool', short: 'f', help: 'Force the removal of one or more volumes' } },
  run: (invocation) => forEach(invocation, (client, name) => client.json('DELETE', volumePath(name), { query: { force: invocation.flags.force } })),
})

const noPause = { type: 'bool', help: 'Do not pause the containers that have the volume meanwhile' } as const

/** Snapshot and clone: a new volume of what another one has. */
const copying = (verb: 'snapshot' | 'clone', { usage, args, details = '' }: { usage: string, args: readonly [number, number], details?: string }) => command({
  usage,
  args,
  flags: { label: { type: 'list', help: 'Set metadata for the new volume' }, 'no-pause': noPause },
  ...(details && { details }),
  async run({ args: [volume, name], flags, session, console }) {
    const { Name } = await (await session.client()).json<Volume>('POST', volumePath(volume!, `/${verb}`), { body: { Name: name, Labels: readLabels([], flags.label), NoPause: flags['no-pause'] } })
    console.print(Name)
  },
})

export const snapshot = copying('snapshot', {
  usage: 'VOLUME [SNAPSHOT]', args: [1, 2],
  details: 'Makes a volume that stays as VOLUME is now: containers can only read it. Without a name it gets that of VOLUME and the time. To go back, clone the snapshot.',
})
export const clone = copying('clone', { usage: 'VOLUME NEW_VOLUME', args: [2, 2] })

export const rename = command({
  usage: 'VOLUME NEW_NAME',
  args: [2, 2],
  flags: {},
  async run({ args: [volume, name], session }) {
    await (await session.client()).json('POST', volumePath(volume!, '/rename'), { query: { name: name! } })
  },
})

export const exportVolume = command({
  usage: 'VOLUME',
  args: [1, 1],
  flags: { 'no-pause': noPause, output: { type: 'string', short: 'o', help: 'Write to a file, instead of STDOUT' } },
  async run({ args: [volume], flags, session, console }) {
    const client = await session.client()
    await toFile(console, flags.output, () => client.stream('GET', volumePath(volume!, '/export'), { query: { noPause: flags['no-pause'] } }))
  },
})

export const importVolume = command({
  usage: 'file|- VOLUME',
  args: [2, 2],
  flags: {},
  details: 'Unpacks a tar archive, compressed or not, into a volume, which is made where there is none.',
  async run({ args: [source, volume], session, console }) {
    const body = source === '-' ? console.stdin : withBar(openFile(source!), source!, 'Importing', console)
    const { Name } = await (await session.client()).json<Volume>('POST', volumePath(volume!, '/import'), { body })
    console.print(Name)
  },
})
