import { ExitError, command } from '../command.ts'
import { limitFlags, limitsOf, restartPolicyOf } from '../create/limits.ts'
import { containerPath, forEach } from '../targets.ts'

export const update = command({
  usage: 'CONTAINER [CONTAINER...]',
  args: [1, Infinity],
  flags: { ...limitFlags, restart: { type: 'string', help: 'Restart policy to apply when a container exits' } },
  async run(invocation) {
    const { flags, given, console } = invocation
    if (given.size === 0) throw new ExitError(1, 'you must provide one or more flags when using this command.')
    const body = { ...limitsOf(flags, given), ...(flags.restart && { RestartPolicy: restartPolicyOf(flags.restart) }) }
    return await forEach(invocation, async (client, name) => {
      const { Warnings } = await client.json<{ Warnings: string[] | null }>('POST', containerPath(name, '/update'), { body })
      for (const warning of Warnings ?? []) console.complain(`WARNING: ${warning}`)
    })
  },
})
