import { messageOf } from '../../lib/errors.ts'
import { ExitError, command } from '../command.ts'
import { attachTo, checkTerminal, forwardSignals } from '../terminal.ts'
import { containerPath, forEach } from '../targets.ts'
import { ignoreNotModified } from './lifecycle.ts'

export const start = command({
  usage: 'CONTAINER [CONTAINER...]',
  args: [1, Infinity],
  flags: {
    attach: { type: 'bool', short: 'a', help: 'Attach STDOUT/STDERR and forward signals' },
    'detach-keys': { type: 'string', help: 'Override the key sequence for detaching a container' },
    interactive: { type: 'bool', short: 'i', help: "Attach container's STDIN" },
  },
  async run(invocation) {
    const { args, flags, session, console } = invocation
    if (!flags.attach && !flags.interactive) {
      const code = await forEach(invocation, (client, name) => client.json('POST', containerPath(name, '/start')).catch(ignoreNotModified))
      if (code) throw new ExitError(1, `Error: failed to start containers: ${args.join(', ')}`)
      return 0
    }
    if (args.length > 1) throw new ExitError(1, 'you cannot start and attach multiple containers at once')
    const client = await session.client()
    const { Id, Config } = await client.json<{ Id: string, Config: { Tty: boolean, OpenStdin: boolean } }>('GET', containerPath(args[0]!, '/json'))
    const stdin = flags.interactive && Config.OpenStdin
    checkTerminal(console, { stdin, tty: Config.Tty })
    const detachKeys = session.detachKeys(flags['detach-keys'])
    const stream = await attachTo(client, containerPath(Id, '/attach'), { query: { stream: 1, stdin, stdout: 1, stderr: 1, detachKeys } })
    const exited = client.json<{ StatusCode: number }>('POST', containerPath(Id, '/wait'), { query: { condition: 'next-exit' } })
    exited.catch(() => {}) // awaited below, unless the client detaches before
    try {
      await client.json('POST', containerPath(Id, '/start'))
    } catch (error) {
      stream.close()
      throw new ExitError(1, `${messageOf(error)}\nError: failed to start containers: ${args[0]}`)
    }
    const quiet = Config.Tty ? undefined : forwardSignals(client, Id)
    try {
      if (await stream.pump({ console, stdin, tty: Config.Tty, detachKeys, resizePath: containerPath(Id, '/resize') }) === 'detached') return 0
    } finally {
      quiet?.()
    }
    return (await exited).StatusCode
  },
})
