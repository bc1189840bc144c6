import { isKind } from '../../lib/errors.ts'
import { ExitError, command, type Flags } from '../command.ts'
import { containerPath, forEach } from '../targets.ts'

const several = { usage: 'CONTAINER [CONTAINER...]', args: [1, Infinity] as const }
const stopFlags = {
  signal: { type: 'string', short: 's', help: 'Signal to send to the container' },
  timeout: { type: 'int', short: 't', help: 'Seconds to wait before killing the container' },
  time: { type: 'int', help: 'Seconds to wait before killing the container', hidden: true },
} satisfies Flags

/** Stop and restart: a signal, and how long to wait for its effect. */
const stopping = (verb: 'stop' | 'restart') => command({
  ...several,
  flags: stopFlags,
  run: (invocation) => {
    const { flags, given } = invocation
    if (given.has('time') && given.has('timeout')) throw new ExitError(1, 'conflicting options: cannot specify both --timeout and --time')
    const seconds = given.has('timeout') ? flags.timeout : given.has('time') ? flags.time : undefined
    return forEach(invocation, (client, name) => client.json('POST', containerPath(name, `/${verb}`), { query: { t: seconds, signal: flags.signal } }).catch(ignoreNotModified))
  },
})

/** Starting what runs, or stopping what does not, is no failure. */
export function ignoreNotModified(error: unknown): void {
  if (!isKind(error, 'not-modified')) throw error
}

export const stop = stopping('stop')
export const restart = stopping('restart')

export const kill = command({
  ...several,
  flags: { signal: { type: 'string', short: 's', help: 'Signal to send to the container' } },
  run: (invocation) => forEach(invocation, (client, name) => client.json('POST', containerPath(name, '/kill'), { query: { signal: invocation.flags.signal } })),
})

const plain = (verb: string) => command({
  ...several,
  flags: {},
  run: (invocation) => forEach(invocation, (client, name) => client.json('POST', containerPath(name, `/${verb}`))),
})

export const pause = plain('pause')
export const unpause = plain('unpause')

export const wait = command({
  ...several,
  flags: {},
  run: (invocation) => forEach(invocation, async (client, name) => String((await client.json<{ StatusCode: number }>('POST', containerPath(name, '/wait'))).StatusCode)),
})

export const rm = command({
  ...several,
  flags: {
    force: { type: 'bool', short: 'f', help: 'Force the removal of a running container (uses SIGKILL)' },
    link: { type: 'bool', short: 'l', help: 'Remove the specified link' },
    volumes: { type: 'bool', short: 'v', help: 'Remove anonymous volumes associated with the container' },
  },
  run: (invocation) => {
    const { force, link, volumes } = invocation.flags
    return forEach(invocation, (client, name) => client.json('DELETE', containerPath(name.replace(/^\/+|\/+$/g, '')), { query: { force, link, v: volumes } }).catch((error: unknown) => {
      if (!(force && isKind(error, 'not-found'))) throw error // with --force, one that is not there is as good as removed
    }))
  },
})

export const rename = command({
  usage: 'CONTAINER NEW_NAME',
  args: [2, 2],
  flags: {},
  async run({ args: [from, to], session }) {
    await (await session.client()).json('POST', containerPath(from!, '/rename'), { query: { name: to! } })
  },
})
