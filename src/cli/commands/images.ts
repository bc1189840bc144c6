import { messageOf } from '../../lib/errors.ts'
import { shortId } from '../../lib/ids.ts'
import { humanDuration, humanSize } from '../../lib/units.ts'
import { command } from '../command.ts'
import { ellipsis, filtersOf, formatFlag, goTime, printListing, type Row } from '../format/table.ts'
import { imagePath, splitTag } from '../targets.ts'

export interface ImageSummary { Id: string, RepoTags: string[] | null, RepoDigests: string[] | null, Created: number, Size: number, SharedSize: number, Containers: number, Labels: Record<string, string> | null }

export const imageHeads = { ID: 'IMAGE ID', CreatedSince: 'CREATED', CreatedAt: 'CREATED AT', SharedSize: 'SHARED SIZE', UniqueSize: 'UNIQUE SIZE', VirtualSize: 'SIZE' }

export const images = command({
  usage: '[REPOSITORY[:TAG]]',
  args: [0, 1],
  flags: {
    all: { type: 'bool', short: 'a', help: 'Show all images (default hides intermediate images)' },
    digests: { type: 'bool', help: 'Show digests' },
    filter: { type: 'list', word: 'filter', short: 'f', help: 'Filter output based on conditions provided' },
    format: formatFlag,
    'no-trunc': { type: 'bool', help: "Don't truncate output" },
    quiet: { type: 'bool', short: 'q', help: 'Only show image IDs' },
  },
  async run({ args: [name], flags, session, console }) {
    const client = await session.client()
    const filters = [...flags.filter, ...(name ? [`reference=${name}`] : [])]
    const list = await client.json<ImageSummary[]>('GET', '/images/json', { query: { all: flags.all, filters: filtersOf(filters) } })
    const whole = flags['no-trunc']
    const rows = list.flatMap((image) => imageRows(image, whole, flags.digests))
    if (flags.quiet && !flags.format) return rows.forEach(({ ID }) => console.print(String(ID)))
    const columns = ['Repository', 'Tag', ...(flags.digests ? ['Digest'] : []), 'ID', 'CreatedSince', 'Size']
    printListing(console, rows, { format: flags.format || session.config.imagesFormat || '', columns, heads: imageHeads })
  },
})

/** A row for each tag, and, where digests are asked for, for each digest without one. */
export function imageRows(image: ImageSummary, whole: boolean, digests: boolean): Row[] {
  const common = {
    ID: whole ? image.Id : shortId(image.Id), CreatedSince: `${humanDuration(Date.now() - image.Created * 1000)} ago`, CreatedAt: goTime(image.Created), Size: humanSize(image.Size), VirtualSize: humanSize(image.Size),
    Containers: image.Containers < 0 ? 'N/A' : String(image.Containers), SharedSize: image.SharedSize < 0 ? 'N/A' : humanSize(image.SharedSize), UniqueSize: image.SharedSize < 0 ? 'N/A' : humanSize(image.Size - image.SharedSize),
  }
  const digestOf = new Map((image.RepoDigests ?? []).map((name) => name.split('@') as [string, string]))
  const rows: Row[] = (image.RepoTags ?? []).map((name) => {
    const [Repository, tag] = splitTag(name)
    return { Repository, Tag: tag || '<none>', Digest: digestOf.get(Repository) ?? '<none>', ...common }
  })
  const tagged = new Set(rows.map(({ Repository }) => Repository))
  for (const [Repository, Digest] of digestOf) if (!tagged.has(Repository) && (digests || rows.length === 0)) rows.push({ Repository, Tag: '<none>', Digest, ...common })
  return rows.length ? rows : [{ Repository: '<none>', Tag: '<none>', Digest: '<none>', ...common }]
}

export const tag = command({
  usage: 'SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]',
  args: [2, 2],
  flags: {},
  async run({ args: [source, target], session }) {
    const [repo, tag] = splitTag(target!)
    await (await session.client()).json('POST', imagePath(source!, '/tag'), { query: { repo, tag } })
  },
})

export const rmi = command({
  usage: 'IMAGE [IMAGE...]',
  args: [1, Infinity],
  flags: {
    force: { type: 'bool', short: 'f', help: 'Force removal of the image' },
    'no-prune': { type: 'bool', help: 'Do not delete untagged parents' },
  },
  async run({ args, flags, session, console }) {
    const client = await session.client()
    let failed = false
    for (const name of args) {
      try {
        for (const { Deleted, Untagged } of await client.json<{ Deleted?: string, Untagged?: string }[]>('DELETE', imagePath(name), { query: { force: flags.force, noprune: flags['no-prune'] } }))
          console.print(Deleted ? `Deleted: ${Deleted}` : `Untagged: ${Untagged}`)
      } catch (error) {
        failed = true
        console.complain(messageOf(error))
      }
    }
    return failed ? 1 : 0
  },
})

interface HistoryItem { Id: string, Created: number, CreatedBy: string, Size: number, Comment: string }

export const history = command({
  usage: 'IMAGE',
  args: [1, 1],
  flags: {
    format: formatFlag,
    human: { type: 'bool', short: 'H', otherwise: true, help: 'Print sizes and dates in human readable format' },
    'no-trunc': { type: 'bool', help: "Don't truncate output" },
    quiet: { type: 'bool', short: 'q', help: 'Only show image IDs' },
  },
  async run({ args: [name], flags, session, console }) {
    const items = await (await session.client()).json<HistoryItem[]>('GET', imagePath(name!, '/history'))
    const whole = flags['no-trunc']
    const id = (item: HistoryItem): string => (whole ? item.Id : shortId(item.Id))
    if (flags.quiet && !flags.format) return items.forEach((item) => console.print(id(item)))
    const rows = items.map((item): Row => {
      const by = item.CreatedBy.replaceAll('\t', ' ')
      return {
        ID: id(item), CreatedBy: whole ? by : ellipsis(by, 45), CreatedAt: new Date(item.Created * 1000).toISOString().replace(/\.\d+/, ''), CreatedSince: `${humanDuration(Date.now() - item.Created * 1000)} ago`,
        Size: flags.human ? humanSize(item.Size) : String(item.Size), Comment: item.Comment,
      }
    })
    printListing(console, rows, { format: flags.format, columns: ['ID', flags.human ? 'CreatedSince' : 'CreatedAt', 'CreatedBy', 'Size', 'Comment'], heads: { ID: 'IMAGE', CreatedSince: 'CREATED', CreatedAt: 'CREATED AT', CreatedBy: 'CREATED BY' } })
  },
})
