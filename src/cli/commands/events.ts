import { command } from '../command.ts'
import { filtersOf, formatFlag, templateOf } from '../format/table.ts'
import { goJson } from '../../lib/template.ts'
import { jsonLines } from '../lines.ts'

interface Event { Type: string, Action: string, Actor: { ID: string, Attributes: Record<string, string> }, time: number, timeNano: number }

export const events = command({
  usage: '',
  args: [0, 0],
  flags: {
    filter: { type: 'list', word: 'filter', short: 'f', help: 'Filter output based on conditions provided' },
    format: { ...formatFlag, help: "Format output using a custom template: 'json', or a Go template 'TEMPLATE'" },
    since: { type: 'string', help: 'Show all events created since timestamp' },
    until: { type: 'string', help: 'Stream events until this timestamp' },
  },
  async run({ flags, session, console }) {
    const render = flags.format === 'json' ? goJson : flags.format ? templateOf(flags.format) : line
    const stream = await (await session.client()).stream('GET', '/events', { query: { since: flags.since, until: flags.until, filters: filtersOf(flags.filter) } })
    for await (const event of jsonLines<Event>(stream)) console.print(render(event))
  },
})

function line(value: unknown): string {
  const { Type, Action, Actor: { ID, Attributes }, time, timeNano } = value as Event
  const attributes = Object.keys(Attributes).toSorted().map((key) => `${key}=${Attributes[key]}`).join(', ')
  // the nanoseconds of a JSON number of that size are not exact to the last digits, its seconds are
  const fraction = String(Math.trunc(timeNano % 1e9)).padStart(9, '0')
  return `${new Date(time * 1000).toISOString().slice(0, 19)}.${fraction}Z ${Type} ${Action} ${ID}${attributes && ` (${attributes})`}`
}
