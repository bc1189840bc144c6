import { basename } from 'node:path'
import { ExitError, command } from '../command.ts'
import { openFile, withBar } from '../files.ts'
import { showProgress } from '../progress.ts'
import { toFile } from '../streams.ts'
import { splitTag } from '../targets.ts'

export const importImage = command({
  usage: 'file|- [REPOSITORY[:TAG]]',
  args: [1, 2],
  flags: {
    change: { type: 'list', short: 'c', help: 'Apply Dockerfile instruction to the created image' },
    message: { type: 'string', short: 'm', help: 'Set commit message for imported image' },
    platform: { type: 'string', help: 'Set platform if server is multi-platform capable' },
  },
  async run({ args: [source, name = ''], flags, session, console }) {
    const [repo, tag] = splitTag(name)
    const body = source === '-' ? console.stdin : withBar(openFile(source!), source!, `Importing ${basename(source!)}`, console)
    const stream = await (await session.client()).stream('POST', '/images/create', { query: { fromSrc: '-', repo, tag, message: flags.message, platform: flags.platform, changes: flags.change }, body })
    await showProgress(stream, console)
  },
})

export const load = command({
  usage: '',
  args: [0, 0],
  flags: {
    input: { type: 'string', short: 'i', help: 'Read from tar archive file, instead of STDIN' },
    platform: { type: 'string', help: 'Load only the given platform' },
    quiet: { type: 'bool', short: 'q', help: 'Suppress the load output' },
  },
  async run({ flags, session, console }) {
    if (!flags.input && console.stdin.isTTY) throw new ExitError(1, 'requested load from stdin, but stdin is empty')
    const body = flags.input ? withBar(openFile(flags.input), flags.input, `Loading ${basename(flags.input)}`, console) : console.stdin
    const stream = await (await session.client()).stream('POST', '/images/load', { query: { quiet: flags.quiet || !console.stdout.isTTY ? 1 : 0, platform: flags.platform }, body })
    await showProgress(stream, console)
  },
})

export const save = command({
  usage: 'IMAGE [IMAGE...]',
  args: [1, Infinity],
  flags: {
    output: { type: 'string', short: 'o', help: 'Write to a file, instead of STDOUT' },
    platform: { type: 'string', help: 'Save only the given platform' },
  },
  async run({ args, flags, session, console }) {
    const client = await session.client()
    await toFile(console, flags.output, () => client.stream('GET', '/images/get', { query: { names: args, platform: flags.platform } }))
  },
})
