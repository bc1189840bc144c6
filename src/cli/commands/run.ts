import { existsSync, rmSync, writeFileSync } from 'node:fs'
import type { Client } from '../../api/client.ts'
import { isKind, messageOf } from '../../lib/errors.ts'
import { ExitError, command, type Invocation } from '../command.ts'
import { attachmentOf, createBody, type Attachment } from '../create/body.ts'
import { createFlags, runFlags } from '../create/flags.ts'
import { showProgress } from '../progress.ts'
import { attachTo, checkTerminal, forwardSignals } from '../terminal.ts'
import { containerPath, splitTag } from '../targets.ts'

type CreateInvocation = Pick<Invocation<typeof createFlags>, 'args' | 'flags' | 'given' | 'session' | 'console'>

/** Creates a container, pulling its image where that is missing and may be pulled. */
async function createContainer(client: Client, { args: [image, ...words], flags, given, session, console }: CreateInvocation, attachment: Attachment): Promise<string> {
  if (!['always', 'missing', 'never'].includes(flags.pull)) throw new ExitError(125, `invalid pull option: '${flags.pull}': must be one of "always", "missing" or "never"`)
  if (flags.cidfile && existsSync(flags.cidfile)) throw new ExitError(125, `container ID file found, make sure the other container isn't running or delete ${flags.cidfile}`)
  const body = createBody(image!, words, { flags, given, attachment, env: session.env, console })
  const create = (): Promise<{ Id: string, Warnings: string[] | null }> => client.json('POST', '/containers/create', { query: { name: flags.name, platform: flags.platform }, body })
  const pull = async (): Promise<void> => {
    const { authFor } = await import('../credentials.ts')
    const stream = await client.stream('POST', '/images/create', { query: { fromImage: withTag(image!), platform: flags.platform }, headers: authFor(session, image!) })
    await showProgress(stream, { ...console, stdout: console.stderr, print: console.complain }, flags.quiet)
  }
  if (flags.pull === 'always') await pull()
  const { Id, Warnings } = await create().catch(async (error: unknown) => {
    if (flags.pull !== 'missing' || !isKind(error, 'not-found') || !/No such image/i.test(messageOf(error))) throw error
    if (!flags.quiet) console.complain(`Unable to find image '${withTag(image!)}' locally`)
    await pull()
    return await create()
  })
  for (const warning of Warnings ?? []) console.complain(`WARNING: ${warning}`)
  if (flags.cidfile) writeFileSync(flags.cidfile, Id, { flag: 'wx' })
  return Id
}

const withTag = (name: string): string => (name.includes('@') || splitTag(name)[1] ? name : `${name}:latest`)

/** Docker's exit codes of a container that did not start: 127 no such command, 126 one that can't be run, 125 the rest. */
function startFailure(error: unknown): ExitError {
  if (error instanceof ExitError) return error
  const message = messageOf(error)
  const code = /executable file not found|no such file or directory|system cannot find the file specified/.test(message) ? 127 : /permission denied|is a directory|not a directory/.test(message) ? 126 : 125
  return new ExitError(code, message)
}

/** Errors of `create` and `run` name their program, as Docker's do. */
async function asRun<T>(verb: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    const { exitCode, message } = startFailure(error)
    throw new ExitError(exitCode, message && `berth: ${message}\n\nRun 'berth ${verb} --help' for more information`)
  }
}

export const create = command({
  usage: 'IMAGE [COMMAND] [ARG...]',
  args: [1, Infinity],
  passThrough: true,
  flags: createFlags,
  run: ({ args, flags, given, session, console }) => asRun('create', async () => {
    console.print(await createContainer(await session.client(), { args, flags, given, session, console }, attachmentOf(flags, false)).catch((error: unknown) => {
      throw new ExitError(error instanceof ExitError ? error.exitCode : 1, messageOf(error))
    }))
  }),
})

export const run = command({
  usage: 'IMAGE [COMMAND] [ARG...]',
  args: [1, Infinity],
  passThrough: true,
  flags: runFlags,
  run: (invocation) => asRun('run', () => runContainer(invocation)),
})

async function runContainer({ args, flags, given, session, console }: Invocation<typeof runFlags>): Promise<number> {
  const client = await session.client()
  const attachment = attachmentOf(flags, flags.detach)
  if (!flags.detach) checkTerminal(console, { stdin: attachment.stdin, tty: flags.tty })
  const id = await createContainer(client, { args, flags, given, session, console }, attachment)
  const forget = (): void => {
    if (flags.cidfile) rmSync(flags.cidfile, { force: true }) // as Docker: a container that never ran leaves no file
  }
  if (flags.detach) {
    await client.json('POST', containerPath(id, '/start')).catch((error: unknown) => {
      forget()
      throw error
    })
    console.print(id)
    return 0
  }
  const detachKeys = session.detachKeys(flags['detach-keys'])
  const quiet = flags['sig-proxy'] && !flags.tty ? forwardSignals(client, id) : undefined
  const stream = await attachTo(client, containerPath(id, '/attach'), { query: { stream: 1, ...attachment, detachKeys } })
  // the wait must have begun before the start: a quick process would be over, and with --rm gone
  const exited = client.json<{ StatusCode: number }>('POST', containerPath(id, '/wait'), { query: { condition: flags.rm ? 'removed' : 'next-exit' } })
  exited.catch(() => {}) // awaited below, unless the client detaches before
  try {
    await client.json('POST', containerPath(id, '/start'))
  } catch (error) {
    stream.close()
    quiet?.()
    forget()
    throw error
  }
  if (await stream.pump({ console, stdin: attachment.stdin, tty: flags.tty, detachKeys, resizePath: containerPath(id, '/resize') }) === 'detached') return 0
  const { StatusCode } = await exited
  quiet?.()
  return StatusCode
}
