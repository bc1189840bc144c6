import { BERTH_VERSION } from '../api/version.ts'
import { isKind, messageOf } from '../lib/errors.ts'
import { ExitError, UsageError, parseWords, type Flags } from './command.ts'
import { entries, findEntry, nouns } from './commands.ts'
import { openConsole, type Console } from './console.ts'
import { Session, type GlobalFlags } from './session.ts'

const globalFlags: Flags = {
  config: { type: 'string', help: 'Location of client config files' },
  debug: { type: 'bool', short: 'D', help: 'Show where errors come from' },
  host: { type: 'list', short: 'H', help: 'Daemon socket to connect to' },
  'log-level': { type: 'string', short: 'l', help: 'Taken for Docker\'s sake, without effect', hidden: true },
  tls: { type: 'bool', help: 'Use TLS; implied by --tlsverify' },
  tlscacert: { type: 'string', help: 'Trust certs signed only by this CA' },
  tlscert: { type: 'string', help: 'Path to TLS certificate file' },
  tlskey: { type: 'string', help: 'Path to TLS key file' },
  tlsverify: { type: 'bool', help: 'Use TLS and verify the remote' },
  version: { type: 'bool', short: 'v', help: 'Print version information and quit' },
}

/** The first word decides: `daemon`, or `-d`, is the daemon, `runtime` an OCI runtime; every other is the client. */
async function main(argv: readonly string[], env: NodeJS.ProcessEnv): Promise<number> {
  if (argv[0] === 'daemon' || argv[0] === '-d') {
    const { runDaemon } = await import('../daemon/main.ts')
    return await runDaemon(argv.slice(1), env)
  }
  const console = openConsole(env)
  if (argv[0] === 'runtime') {
    const { runRuntime } = await import('./runtime.ts')
    return await runRuntime(argv.slice(1), env, console)
  }
  return await runClient(argv, env, console)
}

async function runClient(argv: readonly string[], env: NodeJS.ProcessEnv, console: Console): Promise<number> {
  const columns = console.stdout.columns ?? 80
  const showHelp = async (): Promise<string> => (await import('./help.ts')).rootHelp(entries, nouns, globalFlags, columns)
  const complain = (message: string): void => console.complain(console.color ? `\x1b[31m${message}\x1b[0m` : message)
  let path = 'berth'
  let debug = false
  try {
    const global = parseWords('berth', { flags: globalFlags, args: [0, Infinity], passThrough: true }, argv)
    debug = global.given.has('debug')
    if (global.given.has('version')) return console.print(`berth version ${BERTH_VERSION}`), 0
    const words = global.args[0] === 'help' ? [...global.args.slice(1), '--help'] : global.args
    if (words.length === 0 || words[0] === '--help') return console.stdout.write(await showHelp()), 0
    const found = findEntry(words)
    if (!found) return await explainUnknown(words, console)
    path = `berth ${words.slice(0, found.length).join(' ')}`
    const definition = await found.entry.load()
    const { help, ...parsed } = parseWords(path, definition, words.slice(found.length))
    if (help) {
      const { commandHelp } = await import('./help.ts')
      console.stdout.write(commandHelp(found.entry, definition, path.slice(6), columns))
      return 0
    }
    return await definition.run({ ...parsed, session: new Session(global.flags as GlobalFlags, env), console }) ?? 0
  } catch (error) {
    if (error instanceof UsageError) {
      const found = findEntry(path.split(' ').slice(1))
      const usage = found && await found.entry.load()
      complain(error.message)
      console.complain(`\nUsage:  ${usage ? `${path} [OPTIONS] ${usage.usage}`.trim() : 'berth [OPTIONS] COMMAND'}\n\nRun '${path} --help' for more information`)
      return error.exitCode
    }
    if (debug && !(error instanceof ExitError)) console.complain((error as Error).stack ?? '')
    const message = messageOf(error)
    if (message) complain(message)
    if (!(error instanceof ExitError) && !isKind(error) && !debug) console.complain('(this is a bug in berth: run again with --debug to see where)')
    return error instanceof ExitError ? error.exitCode : 1
  }
}

/** A noun by itself shows its verbs; anything else is no command. */
async function explainUnknown(words: readonly string[], console: Console): Promise<number> {
  const noun = nouns.find(({ name }) => name === words[0])
  if (!noun) {
    const { closest } = await import('./suggest.ts')
    const near = closest(words[0]!, entries.flatMap(({ names }) => names.filter((name) => !name.includes(' '))))
    console.complain(`berth: unknown command: berth ${words[0]}\n${near ? `\nDid you mean this?\n  ${near}\n` : ''}\nRun 'berth --help' for more information`)
    return 1
  }
  const { nounHelp } = await import('./help.ts')
  const bare = words.length === 1 || words[1] === '--help'
  if (!bare) console.complain(`berth: unknown command: berth ${words.slice(0, 2).join(' ')}\n`)
  ;(bare ? console.stdout : console.stderr).write(nounHelp(noun, entries))
  return bare ? 0 : 1
}

try {
  process.exitCode = await main(process.argv.slice(2), process.env)
} catch (error) {
  console.error(`berth: ${messageOf(error)}`)
  process.exitCode = 1
}
await drain()
process.exit()

/** What was written to a pipe must be through before the process ends. */
async function drain(): Promise<void> {
  for (const stream of [process.stdout, process.stderr]) if (stream.writableLength > 0) await new Promise((resolve) => stream.write('', resolve))
}
