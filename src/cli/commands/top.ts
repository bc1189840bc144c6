import { command } from '../command.ts'
import { layOut } from '../format/table.ts'
import { containerPath } from '../targets.ts'

export const top = command({
  usage: 'CONTAINER [ps OPTIONS]',
  args: [1, Infinity],
  passThrough: true,
  flags: {},
  async run({ args: [name, ...options], session, console }) {
    const { Titles, Processes } = await (await session.client()).json<{ Titles: string[], Processes: string[][] }>('GET', containerPath(name!, '/top'), { query: { ps_args: options.join(' ') } })
    for (const line of layOut([Titles, ...Processes])) console.print(line)
  },
})
