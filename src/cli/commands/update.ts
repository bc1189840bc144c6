import { ExitError, command } from '../command.ts'
import { limitFlags, limitsOf, restartPolicyOf } from '../create/limits.ts'
import { parseMount, parsePublish } from '../create/words.ts'
import { containerPath, forEach } from '../targets.ts'

export const update = command({
  usage: 'CONTAINER [CONTAINER...]',
  args: [1, Infinity],
  flags: { ...limitFlags, 'mount-add': { type: 'list', word: 'mount', help: 'Attach a filesystem mount to the container, which may run' }, 'mount-rm': { type: 'list', help: 'Remove a mount by its target' }, 'publish-add': { type: 'list', help: "Publish a container's port(s) to the host" }, 'publish-rm': { type: 'list', help: 'Withdraw published port(s)' }, restart: { type: 'string', help: 'Restart policy to apply when a container exits' } },
  async run(invocation) {
    const { flags, given, console } = invocation
    if (given.size === 0) throw new ExitError(1, 'you must provide one or more flags when using this command.')
    const body = { ...limitsOf(flags, given), PublishAdd: parsePublish(flags['publish-add']).bindings, PublishRm: withdrawn(flags['publish-rm']), MountAdd: flags['mount-add'].map(parseMount), MountRm: flags['mount-rm'], ...(flags.restart && { RestartPolicy: restartPolicyOf(flags.restart) }) }
    return await forEach(invocation, async (client, name) => {
      const { Warnings } = await client.json<{ Warnings: string[] | null }>('POST', containerPath(name, '/update'), { body })
      for (const warning of Warnings ?? []) console.complain(`WARNING: ${warning}`)
    })
  },
})

/** --publish-rm: as --publish, or a container's port alone for all that lead to it. */
function withdrawn(words: readonly string[]): Record<string, unknown[]> {
  const { bindings } = parsePublish(words.filter((word) => word.includes(':')))
  return { ...bindings, ...Object.fromEntries(words.filter((word) => !word.includes(':')).map((word) => [word.includes('/') ? word : `${word}/tcp`, []])) }
}
