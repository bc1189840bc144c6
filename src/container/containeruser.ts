import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { readInRoot } from '../sys/fs.ts'
import type { ContainerDeps } from './deps.ts'
import type { ContainerRecord } from './record.ts'
import { resolveUser, type ResolvedUser, type UserFiles } from './user.ts'

/** The container's user by its own files; those of an image are read once, while the container has not changed /etc. */
export async function containerUser(deps: ContainerDeps, record: ContainerRecord, spec = record.config.User): Promise<ResolvedUser> {
  const own = deps.layers.driver.deletions === 'whole' || record.topLayer === undefined || existsSync(join(deps.layers.directory(record.id), 'etc', 'passwd')) || existsSync(join(deps.layers.directory(record.id), 'etc', 'group'))
  let users = own ? undefined : deps.imageUsers.get(record.topLayer!)
  if (!users) {
    const read = (root: number): Promise<UserFiles> => Promise.resolve({ passwd: readInRoot(root, 'etc/passwd'), group: readInRoot(root, 'etc/group') })
    users = await deps.layers.withTree(record.id, read)
    if (!own) deps.imageUsers.set(record.topLayer!, users)
    if (deps.imageUsers.size > 200) deps.imageUsers.clear()
  }
  return resolveUser(spec, users.passwd, users.group, record.host.GroupAdd ?? [])
}
