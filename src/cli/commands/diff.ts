import { command } from '../command.ts'
import { formatFlag, listingLines } from '../format/table.ts'
import { containerPath } from '../targets.ts'

export const diff = command({
  usage: 'CONTAINER',
  args: [1, 1],
  flags: { format: { ...formatFlag, hidden: true } },
  async run({ args: [name], flags, session, console }) {
    const changes = await (await session.client()).json<{ Path: string, Kind: 0 | 1 | 2 }[] | null>('GET', containerPath(name!, '/changes'))
    const rows = (changes ?? []).map(({ Path, Kind }) => ({ Type: 'CAD'[Kind], Path }))
    for (const line of listingLines(rows, { format: flags.format || '{{.Type}} {{.Path}}', columns: ['Type', 'Path'], heads: { Type: 'CHANGE TYPE' } })) console.print(line)
  },
})
