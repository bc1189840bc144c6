import { command } from '../command.ts'
import { toFile } from '../streams.ts'
import { containerPath } from '../targets.ts'

export const exportContainer = command({
  usage: 'CONTAINER',
  args: [1, 1],
  flags: { output: { type: 'string', short: 'o', help: 'Write to a file, instead of STDOUT' } },
  async run({ args: [name], flags, session, console }) {
    const client = await session.client()
    await toFile(console, flags.output, () => client.stream('GET', containerPath(name!, '/export')))
  },
})
