import { ExitError, command } from '../command.ts'
import { attachTo, forwardSignals } from '../terminal.ts'
import { containerPath } from '../targets.ts'

interface Inspected { Id: string, Config: { Tty: boolean, OpenStdin: boolean }, State: { Running: boolean, Paused: boolean, Restarting: boolean } }

export const attach = command({
  usage: 'CONTAINER',
  args: [1, 1],
  flags: {
    'detach-keys': { type: 'string', help: 'Override the key sequence for detaching a container' },
    'no-stdin': { type: 'bool', help: 'Do not attach STDIN' },
    'sig-proxy': { type: 'bool', otherwise: true, help: 'Proxy all received signals to the process' },
  },
  async run({ args: [name], flags, session, console }) {
    const client = await session.client()
    const { Id, Config, State } = await client.json<Inspected>('GET', containerPath(name!, '/json'))
    if (!State.Running) throw new ExitError(1, 'You cannot attach to a stopped container, start it first')
    if (State.Paused) throw new ExitError(1, 'You cannot attach to a paused container, unpause it first')
    if (State.Restarting) throw new ExitError(1, 'You cannot attach to a restarting container, wait until it is running')
    const stdin = Config.OpenStdin && !flags['no-stdin']
    if (stdin && Config.Tty && !console.stdin.isTTY) throw new ExitError(1, 'the input device is not a TTY')
    const exited = client.json<{ StatusCode: number }>('POST', containerPath(Id, '/wait'))
    exited.catch(() => {}) // awaited below, unless the client detaches before
    const detachKeys = session.detachKeys(flags['detach-keys'])
    const stream = await attachTo(client, containerPath(Id, '/attach'), { query: { stream: 1, stdin, stdout: 1, stderr: 1, detachKeys } })
    const quiet = flags['sig-proxy'] && !Config.Tty ? forwardSignals(client, Id) : undefined
    try {
      if (await stream.pump({ console, stdin, tty: Config.Tty, detachKeys, resizePath: containerPath(Id, '/resize'), redraw: true }) === 'detached') return 0
    } finally {
      quiet?.()
    }
    return (await exited).StatusCode
  },
})
