import { execFileSync } from 'node:child_process'
import { closeSync, constants, openSync } from 'node:fs'
import { join } from 'node:path'
import { readIfThere } from '../lib/files.ts'
import { formatIdMap, type IdMapping, type IdMaps } from '../lib/idmap.ts'
import { invalid, messageOf, system, unsupported } from '../lib/errors.ts'
import type { Remap } from '../container/deps.ts'
import { idMapsWork, openUserNamespace } from '../sys/usernamespace.ts'
import type { Zygote } from '../sys/zygote.ts'

const DEFAULT_USER = 'dockremap'

interface Account { name: string, id: string }

/** Finds a name or number in /etc/passwd or /etc/group. */
function accountOf(file: string, nameOrId: string, what: string): Account {
  const numeric = /^\d+$/.test(nameOrId)
  for (const line of (readIfThere(file) ?? '').split('\n')) {
    const [name, , id] = line.split(':')
    if (name && id && (numeric ? id : name) === nameOrId) return { name, id }
  }
  throw invalid(`--userns-remap: ${what} ${nameOrId} is not in ${file}`)
}

/** The subordinate ids of an account (subuid(5)), as a map that begins with root. */
function rangesOf(file: string, { name, id }: Account): IdMapping[] {
  const mappings: IdMapping[] = []
  let containerID = 0
  for (const line of (readIfThere(file) ?? '').split('\n')) {
    const [owner, start, count] = line.split(':')
    if (owner !== name && owner !== id) continue
    const [hostID, size] = [Number(start), Number(count)]
    if (!Number.isInteger(hostID) || !Number.isInteger(size) || size < 1) throw invalid(`${file}: invalid range ${JSON.stringify(line)}`)
    mappings.push({ containerID, hostID, size })
    containerID += size
  }
  if (mappings.length === 0) throw invalid(`--userns-remap: no subordinate ids of ${name} in ${file}`)
  return mappings
}

/** Makes the user that `default` stands for, with 65536 subordinate ids that nobody has. */
function makeDefaultUser(): void {
  const ends = ['/etc/subuid', '/etc/subgid'].flatMap((file) => (readIfThere(file) ?? '').split('\n').map((line) => {
    const [, start, count] = line.split(':').map(Number)
    return (start || 0) + (count || 0)
  }))
  const start = Math.max(100_000, ...ends)
  const range = `${start}-${start + 65_535}`
  try {
    if (!new RegExp(`^${DEFAULT_USER}:`, 'm').test(readIfThere('/etc/passwd') ?? '')) execFileSync('useradd', ['--system', '--user-group', '--no-create-home', '--shell', '/bin/false', DEFAULT_USER], { stdio: 'pipe' })
    execFileSync('usermod', ['--add-subuids', range, '--add-subgids', range, DEFAULT_USER], { stdio: 'pipe' })
  } catch (error) {
    throw system(`--userns-remap: can't make the user ${DEFAULT_USER}: ${messageOf(error)}`, error)
  }
}

/** Reads dockerd's `--userns-remap`: USER, USER:GROUP, UID, UID:GID or `default`. */
export function readRemap(option: string): IdMaps {
  const [user = '', group = '', ...more] = option.split(':')
  if (!user || more.length) throw invalid(`invalid user/group specification in --userns-remap: ${JSON.stringify(option)}`)
  if (option === 'default') {
    if (!new RegExp(`^${DEFAULT_USER}:`, 'm').test(readIfThere('/etc/subuid') ?? '')) makeDefaultUser()
    return readRemap(DEFAULT_USER)
  }
  const owner = accountOf('/etc/passwd', user, 'user')
  return { uids: rangesOf('/etc/subuid', owner), gids: rangesOf('/etc/subgid', accountOf('/etc/group', group || owner.name, 'group')) }
}

/** Makes the user namespace by which containers' files are seen, and checks that the data root can be seen so. Layers
 * stay as they are on disk, for containers with and without (docs/adr/0005). */
export async function openRemap(zygote: Zygote, option: string, { dataRoot, execRoot }: { dataRoot: string, execRoot: string }): Promise<Remap & Disposable> {
  const { uids, gids } = readRemap(option)
  const namespace = await openUserNamespace(zygote, join(execRoot, 'remap-events'), { uid: formatIdMap(uids), gid: formatIdMap(gids) })
  const userNamespace = openSync(namespace.path, constants.O_RDONLY)
  try {
    if (!idMapsWork(dataRoot, userNamespace)) throw unsupported(`--userns-remap: the kernel can't map the ids of files on the file system of ${dataRoot}`)
  } finally {
    closeSync(userNamespace)
  }
  return { uids, gids, path: namespace.path, [Symbol.dispose]: () => namespace[Symbol.dispose]() }
}
