import { invalid } from '../lib/errors.ts'

/** The text of a root's /etc/passwd and /etc/group, where it has them. */
export interface UserFiles { passwd: string | undefined, group: string | undefined }

/** A user as the kernel has it. */
export interface ResolvedUser { uid: number, gid: number, groups: number[], home: string }

interface Passwd { name: string, uid: number, gid: number, home: string }
interface Group { name: string, gid: number, members: string[] }

const MAX_ID = 0x7fffffff

function parsePasswd(text: string): Passwd[] {
  return text.split('\n').flatMap((line) => {
    const [name, , uid, gid, , home] = line.split(':')
    return name && /^\d+$/.test(uid ?? '') && /^\d+$/.test(gid ?? '') ? [{ name, uid: Number(uid), gid: Number(gid), home: home ?? '' }] : []
  })
}

function parseGroup(text: string): Group[] {
  return text.split('\n').flatMap((line) => {
    const [name, , gid, members] = line.split(':')
    return name && /^\d+$/.test(gid ?? '') ? [{ name, gid: Number(gid), members: (members ?? '').split(',').filter(Boolean) }] : []
  })
}

function numeric(text: string, what: string): number | undefined {
  if (!/^\d+$/.test(text)) return undefined
  const id = Number(text)
  if (id > MAX_ID) throw invalid(`${what}s and gids must be in range 0-${MAX_ID}`)
  return id
}

/** Reads `USER[:GROUP]` (names or numbers) by the container's own /etc/passwd and /etc/group. A number is never looked
 * up as a name (CVE-2016-3697); a number that passwd knows gets that user's group and home. `more` are additional
 * groups. */
export function resolveUser(spec: string, passwdText: string | undefined, groupText: string | undefined, more: readonly string[]): ResolvedUser {
  const passwd = parsePasswd(passwdText ?? '')
  const groups = parseGroup(groupText ?? '')
  const colon = spec.indexOf(':')
  const userPart = colon < 0 ? spec : spec.slice(0, colon)
  const groupPart = colon < 0 ? '' : spec.slice(colon + 1)
  const uid = numeric(userPart, 'uid')
  const known = userPart === '' ? passwd.find((entry) => entry.uid === 0) : uid !== undefined ? passwd.find((entry) => entry.uid === uid) : passwd.find((entry) => entry.name === userPart)
  if (userPart !== '' && uid === undefined && !known) throw invalid(`unable to find user ${userPart}: no matching entries in passwd file`)
  const user: ResolvedUser = { uid: known?.uid ?? uid ?? 0, gid: known?.gid ?? 0, groups: [], home: known?.home || '/' }
  const groupOf = (name: string): number => {
    const gid = numeric(name, 'uid')
    if (gid !== undefined) return gid
    const group = groups.find((entry) => entry.name === name)
    if (!group) throw invalid(`unable to find group ${name}: no matching entries in group file`)
    return group.gid
  }
  if (groupPart !== '') user.gid = groupOf(groupPart)
  else if (known) user.groups = groups.filter((group) => group.members.includes(known.name)).map((group) => group.gid)
  user.groups = [...new Set([user.gid, ...user.groups, ...more.map(groupOf)])]
  return user
}
