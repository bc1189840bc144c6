import { command } from '../command.ts'
import { copyOutput } from '../streams.ts'
import { containerPath } from '../targets.ts'

export const logs = command({
  usage: 'CONTAINER',
  args: [1, 1],
  flags: {
    details: { type: 'bool', help: 'Show extra details provided to logs' },
    follow: { type: 'bool', short: 'f', help: 'Follow log output' },
    since: { type: 'string', help: 'Show logs since timestamp (e.g. "2013-01-02T13:23:37Z") or relative (e.g. "42m" for 42 minutes)' },
    tail: { type: 'string', short: 'n', otherwise: 'all', help: 'Number of lines to show from the end of the logs' },
    timestamps: { type: 'bool', short: 't', help: 'Show timestamps' },
    until: { type: 'string', help: 'Show logs before a timestamp (e.g. "2013-01-02T13:23:37Z") or relative (e.g. "42m" for 42 minutes)' },
  },
  async run({ args: [name], flags, session, console }) {
    const client = await session.client()
    const { Config: { Tty }, Id } = await client.json<{ Id: string, Config: { Tty: boolean } }>('GET', containerPath(name!, '/json'))
    const { details, follow, since, tail, timestamps, until } = flags
    const stream = await client.stream('GET', containerPath(Id, '/logs'), { query: { stdout: true, stderr: true, details, follow, since, tail, timestamps, until } })
    await copyOutput(stream, console, !Tty)
  },
})
