import { humanDuration } from '../../lib/units.ts'
import { command } from '../command.ts'
import { formatFlag, printListing } from '../format/table.ts'
import { forEach } from '../targets.ts'

interface Job { Id: number, Name: string, Subject: string, Status: string, Started: string, Duration: number, Progress: string, Error?: string }

export const ls = command({
  usage: '',
  args: [0, 0],
  flags: {
    all: { type: 'bool', short: 'a', help: 'Show jobs that have ended too (default shows just running)' },
    format: formatFlag,
    quiet: { type: 'bool', short: 'q', help: 'Only display job IDs' },
  },
  async run({ flags, session, console }) {
    const jobs = await (await session.client()).json<Job[]>('GET', '/jobs', { query: { all: flags.all } })
    if (flags.quiet && !flags.format) return jobs.forEach(({ Id }) => console.print(String(Id)))
    const rows = jobs.map(({ Id, Name, Subject, Status, Started, Duration, Progress, Error: failure }) => ({
      ID: Id, Name, Subject, Status, StartedAt: Started, Started: `${humanDuration(Date.now() - Date.parse(Started))} ago`, Duration: `${Duration < 10 ? Duration.toFixed(1) : Math.round(Duration)}ms`, Progress: Progress ?? '', Error: failure ?? '',
    }))
    printListing(console, rows, { format: flags.format, columns: ['ID', 'Name', 'Subject', 'Status', 'Started', 'Duration'], heads: { ID: 'JOB ID', StartedAt: 'STARTED AT' } })
  },
})

export const cancel = command({
  usage: 'JOB [JOB...]',
  args: [1, Infinity],
  flags: {},
  run: (invocation) => forEach(invocation, (client, id) => client.json('POST', `/jobs/${encodeURIComponent(id)}/cancel`)),
})
