import { humanDuration, humanSize } from '../../lib/units.ts'
import { command } from '../command.ts'
import { ellipsis, filtersOf, formatFlag, goTime, labelFields, printListing, type Row } from '../format/table.ts'
import { shortId } from '../../lib/ids.ts'

interface Port { IP?: string, PrivatePort: number, PublicPort?: number, Type: string }
interface Mount { Type: string, Name?: string, Source: string }
export interface ContainerSummary {
  Id: string, Names: string[], Image: string, ImageID: string, Command: string, Created: number, Ports: Port[], Labels: Record<string, string> | null, State: string, Status: string
  SizeRw?: number, SizeRootFs?: number, Mounts: Mount[], NetworkSettings?: { Networks: Record<string, unknown> }
}

export const containerHeads = {
  ID: 'CONTAINER ID', RunningFor: 'CREATED', CreatedAt: 'CREATED AT', LocalVolumes: 'LOCAL VOLUMES',
}

export const ps = command({
  usage: '',
  args: [0, 0],
  flags: {
    all: { type: 'bool', short: 'a', help: 'Show all containers (default shows just running)' },
    filter: { type: 'list', word: 'filter', short: 'f', help: 'Filter output based on conditions provided' },
    format: formatFlag,
    last: { type: 'int', short: 'n', otherwise: -1, help: 'Show n last created containers (includes all states)' },
    latest: { type: 'bool', short: 'l', help: 'Show the latest created container (includes all states)' },
    'no-trunc': { type: 'bool', help: "Don't truncate output" },
    quiet: { type: 'bool', short: 'q', help: 'Only display container IDs' },
    size: { type: 'bool', short: 's', help: 'Display total file sizes' },
  },
  async run({ flags, session, console }) {
    const client = await session.client()
    const limit = flags.latest ? 1 : flags.last
    const format = flags.format || session.config.psFormat || ''
    const size = flags.size || /\.Size\b/.test(format)
    const list = await client.json<ContainerSummary[]>('GET', '/containers/json', { query: { all: flags.all, limit: limit > 0 ? limit : undefined, size, filters: filtersOf(flags.filter) } })
    const whole = flags['no-trunc']
    if (flags.quiet && !flags.format) return list.forEach(({ Id }) => console.print(whole ? Id : shortId(Id)))
    const columns = ['ID', 'Image', 'Command', 'RunningFor', 'Status', 'Ports', 'Names', ...(flags.size ? ['Size'] : [])]
    printListing(console, list.map((container) => containerRow(container, whole)), { format, columns, heads: containerHeads })
  },
})

/** The columns of a container. */
export function containerRow(container: ContainerSummary, whole: boolean): Row {
  const names = container.Names.map((name) => name.replace(/^\//, ''))
  const command = whole ? container.Command : ellipsis(container.Command, 20)
  const image = container.Image.startsWith('sha256:') && !whole ? shortId(container.Image) : container.Image
  return {
    ID: whole ? container.Id : shortId(container.Id), Image: image || '<no image>', Command: JSON.stringify(command), CreatedAt: goTime(container.Created),
    RunningFor: `${humanDuration(Date.now() - container.Created * 1000)} ago`, Ports: portsText(container.Ports), State: container.State, Status: container.Status,
    Size: container.SizeRw === undefined ? '0B' : `${humanSize(container.SizeRw)}${container.SizeRootFs ? ` (virtual ${humanSize(container.SizeRootFs)})` : ''}`,
    Names: (whole ? names : names.filter((name) => !name.includes('/'))).join(','), ...labelFields(container.Labels),
    Mounts: container.Mounts.map(({ Name, Source }) => (whole ? Name || Source : ellipsis(Name || Source, 15))).join(','),
    LocalVolumes: String(container.Mounts.filter(({ Type }) => Type === 'volume').length), Networks: Object.keys(container.NetworkSettings?.Networks ?? {}).toSorted().join(','), Platform: null,
  }
}

/** As Go compares strings: `0.0.0.0` comes before `::`. */
const order = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0)

/** Ports as `docker ps` shows them: `0.0.0.0:8080->80/tcp, 90/udp`, neighbours put together. */
export function portsText(ports: readonly Port[]): string {
  const sorted = ports.toSorted((a, b) => a.PrivatePort - b.PrivatePort || (a.PublicPort ?? 0) - (b.PublicPort ?? 0) || order(a.IP ?? '', b.IP ?? '') || a.Type.localeCompare(b.Type))
  const groups: { ip: string, type: string, from: number, to: number, publicFrom: number | undefined }[] = []
  for (const { IP = '', PrivatePort, PublicPort, Type } of sorted) {
    const before = groups.find((group) => group.ip === IP && group.type === Type && group.to === PrivatePort - 1 && (group.publicFrom === undefined ? PublicPort === undefined : PublicPort === group.publicFrom + PrivatePort - group.from && group.publicFrom === group.from))
    if (before) before.to = PrivatePort
    else groups.push({ ip: IP, type: Type, from: PrivatePort, to: PrivatePort, publicFrom: PublicPort })
  }
  const range = (from: number, length: number): string => (length ? `${from}-${from + length}` : String(from))
  return groups.map(({ ip, type, from, to, publicFrom }) => {
    const host = ip.includes(':') ? `[${ip}]` : ip
    return `${publicFrom === undefined ? '' : `${host}:${range(publicFrom, to - from)}->`}${range(from, to - from)}/${type}`
  }).join(', ')
}
