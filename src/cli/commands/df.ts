import { humanDuration, humanSize } from '../../lib/units.ts'
import { goJson } from '../../lib/template.ts'
import { shortId } from '../../lib/ids.ts'
import { command } from '../command.ts'
import { formatFlag, goTime, listingLines, labelFields, printListing, templateOf, type Row } from '../format/table.ts'
import { imageHeads, imageRows, type ImageSummary } from './images.ts'
import { containerHeads, containerRow, type ContainerSummary } from './ps.ts'

interface CacheRecord { ID: string, Type: string, Size: number, CreatedAt: string, LastUsedAt: string | null, UsageCount: number, InUse: boolean, Shared: boolean }
interface VolumeUsage { Name: string, Driver: string, Mountpoint: string, Labels: Record<string, string> | null, Scope: string, UsageData?: { Size: number, RefCount: number } }
interface Usage { LayersSize: number, Images: ImageSummary[] | null, Containers: ContainerSummary[] | null, Volumes: VolumeUsage[] | null, BuildCache: CacheRecord[] | null }

export const df = command({
  usage: '',
  args: [0, 0],
  flags: { format: formatFlag, verbose: { type: 'bool', short: 'v', help: 'Show detailed information on space usage' } },
  async run({ flags, session, console }) {
    const usage = await (await session.client()).json<Usage>('GET', '/system/df')
    if (!flags.verbose) return printListing(console, usageRows(usage), { format: flags.format, columns: ['Type', 'TotalCount', 'Active', 'Size', 'Reclaimable'], heads: { TotalCount: 'TOTAL' } })
    const { format } = flags
    const all = { Images: (usage.Images ?? []).flatMap((image) => imageRows(image, format !== '', false)), Containers: (usage.Containers ?? []).map((container) => containerRow(container, format !== '')), Volumes: (usage.Volumes ?? []).map(volumeRow), BuildCache: (usage.BuildCache ?? []).map(cacheRow) }
    if (format === 'json') return console.print(goJson(all))
    if (format) return console.print(templateOf(format)(all))
    const section = (title: string, rows: readonly Row[], columns: readonly string[], heads: Readonly<Record<string, string>>): string => `${title}\n\n${listingLines(rows, { format: '', columns, heads }).join('\n')}\n`
    console.print([
      section('Images space usage:', all.Images, ['Repository', 'Tag', 'ID', 'CreatedSince', 'Size', 'SharedSize', 'UniqueSize', 'Containers'], imageHeads),
      section('Containers space usage:', all.Containers.map((row) => ({ ...row, Size: String(row['Size']).replace(/ \(virtual.*/, '') })), ['ID', 'Image', 'Command', 'LocalVolumes', 'Size', 'RunningFor', 'Status', 'Names'], containerHeads),
      section('Local Volumes space usage:', all.Volumes, ['Name', 'Links', 'Size'], { Name: 'VOLUME NAME' }),
      section(`Build cache usage: ${humanSize(sum((usage.BuildCache ?? []).map(({ Size }) => Size)))}`, all.BuildCache, ['ID', 'CacheType', 'Size', 'CreatedSince', 'LastUsedSince', 'UsageCount', 'Shared'], { ID: 'CACHE ID', CacheType: 'CACHE TYPE', CreatedSince: 'CREATED', LastUsedSince: 'LAST USED', UsageCount: 'USAGE' }).trimEnd(),
    ].join('\n'))
  },
})

const sum = (numbers: readonly number[]): number => numbers.reduce((total, number) => total + number, 0)
const ago = (time: string | null): string => (time ? `${humanDuration(Date.now() - Date.parse(time))} ago` : '')

function volumeRow({ Name, Driver, Mountpoint, Labels, Scope, UsageData }: VolumeUsage): Row {
  return { Name, Driver, Mountpoint, Scope, Links: UsageData ? String(UsageData.RefCount) : 'N/A', Size: UsageData && UsageData.Size >= 0 ? humanSize(UsageData.Size) : 'N/A', ...labelFields(Labels) }
}

function cacheRow(cache: CacheRecord): Row {
  return { ID: shortId(cache.ID), CacheType: cache.Type, Size: humanSize(cache.Size), CreatedAt: goTime(Date.parse(cache.CreatedAt) / 1000), CreatedSince: ago(cache.CreatedAt), LastUsedSince: ago(cache.LastUsedAt), UsageCount: String(cache.UsageCount), InUse: String(cache.InUse), Shared: String(cache.Shared) }
}

function usageRows({ LayersSize, Images, Containers, Volumes, BuildCache }: Usage): Row[] {
  const row = (Type: string, total: number, active: number, size: number, free: number): Row => ({
    Type, TotalCount: String(total), Active: String(active), Size: humanSize(size), Reclaimable: `${humanSize(free)}${size > 0 ? ` (${Math.floor(free / size * 100)}%)` : ''}`,
  })
  const images = Images ?? []
  const containers = Containers ?? []
  const volumes = Volumes ?? []
  const cache = BuildCache ?? []
  const used = sum(images.filter(({ Containers: count }) => count > 0).map(({ Size }) => Size))
  const isUp = ({ State }: { State: string }): boolean => ['running', 'paused', 'restarting'].includes(State)
  return [
    row('Images', images.length, images.filter(({ Containers: count }) => count > 0).length, LayersSize, Math.max(0, LayersSize - used)),
    row('Containers', containers.length, containers.filter(isUp).length, sum(containers.map(({ SizeRw }) => SizeRw ?? 0)), sum(containers.filter((container) => !isUp(container)).map(({ SizeRw }) => SizeRw ?? 0))),
    row('Local Volumes', volumes.length, volumes.filter(({ UsageData }) => (UsageData?.RefCount ?? 0) > 0).length, sum(volumes.map(({ UsageData }) => UsageData?.Size ?? 0)), sum(volumes.filter(({ UsageData }) => !UsageData?.RefCount).map(({ UsageData }) => UsageData?.Size ?? 0))),
    row('Build Cache', cache.length, cache.filter(({ InUse }) => InUse).length, sum(cache.map(({ Size }) => Size)), sum(cache.filter(({ InUse }) => !InUse).map(({ Size }) => Size))),
  ]
}
