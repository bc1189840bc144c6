import { ExitError, command } from '../command.ts'
import { attachTo, checkTerminal, terminalSize } from '../terminal.ts'
import { readEnvironment } from '../environment.ts'
import { containerPath } from '../targets.ts'

export const exec = command({
  usage: 'CONTAINER COMMAND [ARG...]',
  args: [2, Infinity],
  passThrough: true,
  flags: {
    detach: { type: 'bool', short: 'd', help: 'Detached mode: run command in the background' },
    'detach-keys': { type: 'string', help: 'Override the key sequence for detaching a container' },
    env: { type: 'list', short: 'e', help: 'Set environment variables' },
    'env-file': { type: 'list', help: 'Read in a file of environment variables' },
    interactive: { type: 'bool', short: 'i', help: 'Keep STDIN open even if not attached' },
    privileged: { type: 'bool', help: 'Give extended privileges to the command' },
    tty: { type: 'bool', short: 't', help: 'Allocate a pseudo-TTY' },
    user: { type: 'string', short: 'u', help: 'Username or UID (format: "<name|uid>[:<group|gid>]")' },
    workdir: { type: 'string', short: 'w', help: 'Working directory inside the container' },
  },
  async run({ args: [name, ...words], flags, session, console }) {
    const client = await session.client()
    const { detach, interactive, tty } = flags
    if (!detach) checkTerminal(console, { stdin: interactive, tty })
    const detachKeys = session.detachKeys(flags['detach-keys'])
    const size = tty ? terminalSize(console) : undefined
    const ConsoleSize = size?.[0] ? size : undefined
    const { Id } = await client.json<{ Id: string }>('POST', containerPath(name!, '/exec'), { body: {
      AttachStdin: interactive && !detach, AttachStdout: !detach, AttachStderr: !detach, Tty: tty, Cmd: words, Env: readEnvironment(flags['env-file'], flags.env, session.env),
      Privileged: flags.privileged, User: flags.user, WorkingDir: flags.workdir, DetachKeys: detachKeys ?? '', ...(ConsoleSize && { ConsoleSize }),
    } })
    if (detach) return await client.json('POST', `/exec/${Id}/start`, { body: { Detach: true, Tty: tty } })
    const stream = await attachTo(client, `/exec/${Id}/start`, { body: { Detach: false, Tty: tty, ...(ConsoleSize && { ConsoleSize }) } })
    if (await stream.pump({ console, stdin: interactive, tty, detachKeys, resizePath: `/exec/${Id}/resize` }) === 'detached') return 0
    const { ExitCode } = await client.json<{ ExitCode: number | null }>('GET', `/exec/${Id}/json`)
    if (ExitCode === null) throw new ExitError(1, 'the exec ended without an exit code')
    return ExitCode
  },
})
