import { lstatSync, mkdirSync, openSync, realpathSync, statSync } from 'node:fs'
import { basename, dirname, join, posix, resolve } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { Archiver, withDescriptor } from '../../archive/archive.ts'
import type { Client } from '../../api/client.ts'
import { GO_MODE, PATH_STAT_HEADER, decodePathStat, type PathStat } from '../../api/pathstat.ts'
import { isKind } from '../../lib/errors.ts'
import { humanSize } from '../../lib/units.ts'
import { ExitError, command, type Invocation } from '../command.ts'
import { containerPath } from '../targets.ts'

const flags = {
  archive: { type: 'bool', short: 'a', help: 'Archive mode (copy all uid/gid information)' },
  'follow-link': { type: 'bool', short: 'L', help: 'Always follow symbol link in SRC_PATH' },
  quiet: { type: 'bool', short: 'q', help: 'Suppress progress output during copy' },
} as const

interface Place { container: string, path: string }

/** `CONTAINER:PATH`; a path that begins with `.` or `/` is a local one. */
function parsePlace(text: string): Place {
  const colon = text.indexOf(':')
  if (text.startsWith('/') || text.startsWith('.') || colon <= 0) return { container: '', path: text }
  return { container: text.slice(0, colon), path: text.slice(colon + 1) }
}

export const cp = command({
  usage: 'CONTAINER:SRC_PATH DEST_PATH|-\n\tberth cp [OPTIONS] SRC_PATH|- CONTAINER:DEST_PATH',
  args: [2, 2],
  details: "Use '-' as the source to read a tar archive from standard input and extract it to a directory in a container,\nor as the destination to write a tar archive of a container's files to standard output.",
  flags,
  async run(invocation) {
    const [from, to] = invocation.args.map(parsePlace) as [Place, Place]
    if (from.container && to.container) throw new ExitError(1, 'copying between containers is not supported')
    if (!from.container && !to.container) throw new ExitError(1, 'must specify at least one container source')
    if ((from.container ? from : to).path === '' || (from.container ? to : from).path === '') throw new ExitError(1, 'source and destination paths must not be empty')
    const client = await invocation.session.client()
    await (from.container ? copyOut(client, from, to.path, invocation) : copyIn(client, from.path, to, invocation))
  },
})

type Options = Pick<Invocation<typeof flags>, 'flags' | 'console'>

const archivePath = (container: string): string => containerPath(container, '/archive')
const statOf = (headers: Record<string, unknown>): PathStat => decodePathStat(String(headers[PATH_STAT_HEADER.toLowerCase()]))

async function remoteStat(client: Client, { container, path }: Place): Promise<PathStat | undefined> {
  try {
    return statOf((await client.stream('HEAD', archivePath(container), { query: { path } })).headers)
  } catch (error) {
    if (!isKind(error, 'not-found')) throw error
    await client.json<unknown>('GET', containerPath(container, '/json')) // is it the container that is not there?
    return undefined
  }
}

const contentOnly = (path: string): boolean => /(^|\/)\.$/.test(path)
const wantsDirectory = (path: string): boolean => path.endsWith('/') || contentOnly(path)

async function copyOut(client: Client, from: Place, to: string, { flags: { archive, 'follow-link': follow, quiet }, console }: Options): Promise<void> {
  let source = from.path
  if (follow) {
    const stat = await remoteStat(client, { container: from.container, path: source })
    if (stat && stat.mode & GO_MODE.symlink) source = stat.linkTarget
  }
  const response = await client.stream('GET', archivePath(from.container), { query: { path: source } })
  if (to === '-') return await pipeline(response, console.stdout, { end: false })
  const stat = statOf(response.headers)
  const isDirectory = (stat.mode & GO_MODE.directory) !== 0
  const { directory, name } = localDestination(to, isDirectory, contentOnly(source), posix.basename(from.path.replace(/\/+$/, '')) || stat.name)
  if (name === undefined) mkdirSync(directory, { recursive: false, mode: 0o755 })
  using archiver = new Archiver(1)
  const top = contentOnly(source) ? undefined : stat.name
  const rename = top === undefined || name === top ? undefined : { from: latin(top), to: name === undefined ? '.' : latin(name) }
  const { size } = await withDescriptor(openSync(directory, 'r'), (root) => archiver.unpack(response, root, {
    whiteouts: 'keep', keepKinds: true, ...(rename && { rename }), ...(!archive && { owner: { uid: process.getuid!(), gid: process.getgid!() } }),
  }))
  if (!quiet && console.stderr.isTTY) console.complain(`Successfully copied ${humanSize(size)} to ${to}`)
}

const latin = (name: string): string => Buffer.from(name, 'utf8').toString('latin1')

/** The directory to unpack in, and the name that the source gets there; without a name the directory is new and is the
 * copy itself. */
function localDestination(to: string, isDirectory: boolean, content: boolean, sourceName: string): { directory: string, name?: string } {
  const path = resolve(to)
  const there = statSync(path, { throwIfNoEntry: false })
  if (there?.isDirectory()) return { directory: path, name: content ? '.' : sourceName }
  if (there) {
    if (isDirectory) throw new ExitError(1, 'cannot copy directory')
    if (wantsDirectory(to)) throw new ExitError(1, 'not a directory')
    return { directory: dirname(path), name: basename(path) }
  }
  if (!statSync(dirname(path), { throwIfNoEntry: false })?.isDirectory()) throw new ExitError(1, `invalid output path: directory ${JSON.stringify(dirname(path))} does not exist`)
  if (isDirectory) return { directory: path }
  if (wantsDirectory(to)) throw new ExitError(1, `destination directory ${JSON.stringify(to)} must exist`)
  return { directory: dirname(path), name: basename(path) }
}

async function copyIn(client: Client, from: string, to: Place, { flags: { archive, 'follow-link': follow, quiet }, console }: Options): Promise<void> {
  const destination = await resolveRemote(client, to)
  const query = { noOverwriteDirNonDir: 'true', copyUIDGID: archive ? 'true' : undefined }
  if (from === '-') {
    if (!destination.stat || !(destination.stat.mode & GO_MODE.directory)) throw new ExitError(1, `destination ${JSON.stringify(`${to.container}:${to.path}`)} must be a directory`)
    return await client.json('PUT', archivePath(to.container), { query: { path: destination.path, ...query }, body: console.stdin })
  }
  const local = localSource(from, follow)
  const into = remoteDestination(destination, to, local)
  using archiver = new Archiver(1)
  const { packed } = await withDescriptor(openSync('/', 'r'), (root) => archiver.pack(root, { path: latin(local.path), as: latin(into.name) }, (stream) => client.json('PUT', archivePath(to.container), { query: { path: into.directory, ...query }, body: stream })))
  if (!quiet && console.stderr.isTTY) console.complain(`Successfully copied ${humanSize(packed.size)} to ${to.container}:${to.path}`)
}

/** A local source: where it is, what it is, and its name in a directory ('.' for its content alone). */
function localSource(from: string, follow: boolean): { path: string, name: string, isDirectory: boolean } {
  const absolute = resolve(from)
  try {
    const through = follow || wantsDirectory(from)
    const isDirectory = (through ? statSync(absolute) : lstatSync(absolute)).isDirectory()
    if (wantsDirectory(from) && !isDirectory) throw new ExitError(1, `${from}: not a directory`)
    const parent = realpathSync(dirname(absolute))
    return { path: through ? realpathSync(absolute) : join(parent, basename(absolute)), name: contentOnly(from) ? '.' : basename(absolute), isDirectory }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') throw new ExitError(1, `lstat ${absolute}: no such file or directory`)
    throw error
  }
}

/** Where a remote path leads: a link at its end is followed. */
async function resolveRemote(client: Client, to: Place): Promise<{ path: string, stat: PathStat | undefined }> {
  const path = posix.isAbsolute(to.path) ? to.path : `/${to.path}`
  const stat = await remoteStat(client, { container: to.container, path })
  if (!stat || !(stat.mode & GO_MODE.symlink)) return { path, stat }
  return { path: stat.linkTarget, stat: await remoteStat(client, { container: to.container, path: stat.linkTarget }) }
}

function remoteDestination({ path, stat }: { path: string, stat: PathStat | undefined }, to: Place, source: { name: string, isDirectory: boolean }): { directory: string, name: string } {
  if (stat && stat.mode & GO_MODE.directory) return { directory: path, name: source.name }
  const parent = { directory: posix.dirname(posix.normalize(path.replace(/\/+$/, ''))), name: posix.basename(path) }
  if (stat) {
    if (source.isDirectory) throw new ExitError(1, 'cannot copy directory')
    return parent
  }
  if (!source.isDirectory && wantsDirectory(to.path)) throw new ExitError(1, `destination directory ${JSON.stringify(to.path)} must exist`)
  return parent
}
