import { constants, existsSync, mkdirSync, openSync, readdirSync, renameSync } from 'node:fs'
import { join } from 'node:path'
import { copyTree } from '../lib/copytree.ts'
import { conflict, notFound, unsupported } from '../lib/errors.ts'
import type { Trash } from '../lib/trash.ts'
import { detachTree } from '../sys/mount.ts'
import type { GraphDriver } from './driver.ts'

/** Opens the vfs driver: each layer a whole copy of its parent. Slow and large, it works on every file system. */
export function openVfs(root: string, trash: Trash): GraphDriver {
  const layers = join(root, 'dir')
  mkdirSync(layers, { recursive: true, mode: 0o700 })
  const of = (id: string): string => join(layers, id)
  const known = (id: string): string => {
    if (!existsSync(of(id))) throw notFound(`layer ${id} does not exist`)
    return of(id)
  }
  return {
    name: 'vfs',
    deletions: 'whole',

    async create(id, parent, { size } = {}) {
      if (size !== undefined) throw unsupported('the vfs driver keeps whole copies, whose size is not limited')
      if (existsSync(of(id))) throw conflict(`layer ${id} exists already`)
      if (parent === undefined) {
        mkdirSync(of(id), { mode: 0o755 })
        return
      }
      const source = known(parent)
      const temporary = `${of(id)}.new`
      trash.put(temporary)
      try {
        await copyTree(source, temporary)
      } catch (error) {
        trash.put(temporary)
        throw error
      }
      renameSync(temporary, of(id))
    },

    remove(id) {
      trash.put(of(id))
      return Promise.resolve()
    },
    exists: (id) => existsSync(of(id)),
    ids: () => readdirSync(layers),
    directory: known,
    mount: (id) => ({ type: 'bind', target: known(id), source: known(id) }),
    open: (id) => openSync(known(id), constants.O_RDONLY | constants.O_DIRECTORY),
    view: (id) => detachTree(known(id)),
    status: () => [],
    data: () => ({}),
  }
}
