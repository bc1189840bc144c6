import { command } from '../command.ts'
import { splitTag } from '../targets.ts'

export const commit = command({
  usage: 'CONTAINER [REPOSITORY[:TAG]]',
  args: [1, 2],
  flags: {
    author: { type: 'string', short: 'a', help: 'Author (e.g., "John Hannibal Smith <hannibal@a-team.com>")' },
    change: { type: 'list', short: 'c', help: 'Apply Dockerfile instruction to the created image' },
    message: { type: 'string', short: 'm', help: 'Commit message' },
    pause: { type: 'bool', short: 'p', otherwise: true, help: 'Pause container during commit' },
  },
  async run({ args: [container, name = ''], flags, session, console }) {
    const [repo, tag] = splitTag(name)
    const query = { container: container!, repo, tag, author: flags.author, comment: flags.message, changes: flags.change, pause: flags.pause ? 1 : 0 }
    const { Id } = await (await session.client()).json<{ Id: string }>('POST', '/commit', { query, body: {} })
    console.print(Id)
  },
})
