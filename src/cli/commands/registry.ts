import { command, ExitError } from '../command.ts'
import { ask, type Console } from '../console.ts'
import { CredentialStore, INDEX, authFor, authHeader, serverOfTerm } from '../credentials.ts'
import { ellipsis, filtersOf, formatFlag, printListing } from '../format/table.ts'
import { showProgress } from '../progress.ts'
import type { Session } from '../session.ts'
import { imagePath } from '../targets.ts'
import { canonical, familiar, familiarName, hostOf, parseReference, withDefaultTag, type Reference } from '../../reference/reference.ts'

const credentials = ({ configDirectory, env }: Session): CredentialStore => new CredentialStore(configDirectory, env)
const trust = { type: 'bool', otherwise: true, help: 'Taken for Docker\'s sake, without effect', hidden: true } as const

/** What is to be pulled or pushed: one tag, or, without any, all of a repository. */
function wanted(name: string, flags: { 'all-tags': boolean, quiet: boolean }, console: Console): Reference {
  const asked = parseReference(name)
  const named = asked.tag !== undefined || asked.digest !== undefined
  if (flags['all-tags'] && named) throw new ExitError(1, "tag can't be used with --all-tags/-a")
  if (!flags['all-tags'] && !named && !flags.quiet) console.print('Using default tag: latest')
  return flags['all-tags'] ? asked : withDefaultTag(asked)
}

export const pull = command({
  usage: 'NAME[:TAG|@DIGEST]',
  args: [1, 1],
  flags: {
    'all-tags': { type: 'bool', short: 'a', help: 'Download all tagged images in the repository' },
    'disable-content-trust': trust,
    platform: { type: 'string', help: 'Set platform if server is multi-platform capable' },
    quiet: { type: 'bool', short: 'q', help: 'Suppress verbose output' },
  },
  async run({ args: [name = ''], flags, session, console }) {
    const reference = wanted(name, flags, console)
    const stream = await (await session.client()).stream('POST', '/images/create', {
      query: { fromImage: familiarName(reference), tag: reference.digest ?? reference.tag, platform: flags.platform }, headers: authFor(session, name),
    })
    await showProgress(stream, console, flags.quiet)
    console.print(canonical(reference))
  },
})

export const push = command({
  usage: 'NAME[:TAG]',
  args: [1, 1],
  flags: {
    'all-tags': { type: 'bool', short: 'a', help: 'Push all tags of an image to the repository' },
    'disable-content-trust': trust,
    quiet: { type: 'bool', short: 'q', help: 'Suppress verbose output' },
  },
  async run({ args: [name = ''], flags, session, console }) {
    const reference = wanted(name, flags, console)
    const { 'X-Registry-Auth': auth = Buffer.from('{}').toString('base64url') } = authFor(session, name)
    const stream = await (await session.client()).stream('POST', imagePath(familiarName(reference), '/push'), { query: { tag: reference.tag }, headers: { 'X-Registry-Auth': auth } })
    await showProgress(stream, console, flags.quiet)
    if (flags.quiet) console.print(familiar(reference))
  },
})

export const login = command({
  usage: '[SERVER]',
  args: [0, 1],
  flags: {
    password: { type: 'string', short: 'p', help: 'Password' },
    'password-stdin': { type: 'bool', help: 'Take the password from stdin' },
    username: { type: 'string', short: 'u', help: 'Username' },
  },
  async run({ args: [server = ''], flags, given, session, console }) {
    const store = credentials(session)
    const address = addressOf(server)
    let { username, password } = flags
    if (given.has('password')) {
      if (flags['password-stdin']) throw new ExitError(1, '--password and --password-stdin are mutually exclusive')
      console.complain('WARNING! Using --password via the CLI is insecure. Use --password-stdin.')
    }
    if (flags['password-stdin']) {
      if (!username) throw new ExitError(1, 'Must provide --username with --password-stdin')
      password = (await readAll(console)).replace(/\r?\n$/, '')
    }
    const client = await session.client()
    const attempt = (auth: object): Promise<{ Status: string, IdentityToken?: string }> => client.json('POST', '/auth', { body: { ...auth, serveraddress: address } })
    const kept = !username && !password ? store.get(address) : undefined
    if (kept) {
      console.print('Authenticating with existing credentials...')
      const answer = await attempt(kept).catch((error: unknown) => void console.complain(`Login did not succeed, error: ${(error as Error).message}`))
      if (answer) return console.print(answer.Status)
    }
    if (!username || !password) {
      if (!console.stdin.isTTY) throw new ExitError(1, 'Error: Cannot perform an interactive login from a non TTY device')
      if (address === INDEX) console.print('Log in with your Docker ID or email address to push and pull images from Docker Hub.')
      username ||= (await ask(console, 'Username: ')).trim()
      if (!username) throw new ExitError(1, 'Error: Non-null Username Required')
      password ||= await ask(console, 'Password: ', true)
      if (!password) throw new ExitError(1, 'Error: Password Required')
    }
    const { Status, IdentityToken } = await attempt({ username, password })
    const plain = store.store({ username, serveraddress: address, ...(IdentityToken ? { identitytoken: IdentityToken } : { password }) })
    if (plain) console.complain(`WARNING! Your password will be stored unencrypted in ${store.path}.\nConfigure a credential helper to remove this warning. See\nhttps://docs.docker.com/engine/reference/commandline/login/#credentials-store\n`)
    console.print(Status)
  },
})

export const logout = command({
  usage: '[SERVER]',
  args: [0, 1],
  flags: {},
  async run({ args: [server = ''], session, console }) {
    const store = credentials(session)
    const address = addressOf(server)
    if (!store.has(address)) return console.print(`Not logged in to ${server || address}`)
    console.print(`Removing login credentials for ${server || address}`)
    store.erase(address)
  },
})

/** What a login is kept under: docker.io's by the URL of its index, others' by host. */
function addressOf(server: string): string {
  const host = hostOf(server)
  return ['', 'docker.io', 'index.docker.io', 'registry-1.docker.io'].includes(host) ? INDEX : host
}

async function readAll({ stdin }: Console): Promise<string> {
  const chunks: Buffer[] = []
  for await (const chunk of stdin) chunks.push(Buffer.from(chunk as Buffer))
  return Buffer.concat(chunks).toString('utf8')
}

interface Found { name: string, description: string, star_count: number, is_official: boolean, is_automated: boolean }

export const search = command({
  usage: 'TERM',
  args: [1, 1],
  flags: {
    filter: { type: 'list', short: 'f', word: 'filter', help: 'Filter output based on conditions provided' },
    format: formatFlag,
    limit: { type: 'int', help: 'Max number of search results' },
    'no-trunc': { type: 'bool', help: "Don't truncate output" },
  },
  async run({ args: [term = ''], flags, session, console }) {
    const headers = authHeader(credentials(session).get(serverOfTerm(term)))
    const found = await (await session.client()).json<Found[]>('GET', '/images/search', { query: { term, limit: flags.limit || undefined, filters: filtersOf(flags.filter) }, headers })
    const rows = found.toSorted((a, b) => b.star_count - a.star_count).map((item) => {
      const description = item.description.replace(/[\r\n]+/g, ' ')
      return { Name: item.name, Description: flags['no-trunc'] ? description : ellipsis(description, 45), StarCount: item.star_count, IsOfficial: item.is_official ? '[OK]' : '', IsAutomated: item.is_automated ? '[OK]' : '' }
    })
    printListing(console, rows, { format: flags.format, columns: ['Name', 'Description', 'StarCount', 'IsOfficial'], heads: { StarCount: 'STARS', IsOfficial: 'OFFICIAL', IsAutomated: 'AUTOMATED' } })
  },
})
