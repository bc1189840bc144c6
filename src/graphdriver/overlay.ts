import { constants, existsSync, lstatSync, mkdirSync, openSync, readFileSync, readdirSync, readlinkSync, rmSync, closeSync, symlinkSync, writeFileSync, chmodSync, chownSync } from 'node:fs'
import { join } from 'node:path'
import { release } from 'node:os'
import { randomBytes } from 'node:crypto'
import { codeOf, conflict, notFound, unsupported } from '../lib/errors.ts'
import { readIfThere, unlinkIfThere } from '../lib/files.ts'
import type { Trash } from '../lib/trash.ts'
import { must } from '../sys/ffi.ts'
import { fileSystemType } from '../sys/fs.ts'
import { kernelAtLeast } from '../sys/kernel.ts'
import { detachTree, detachedFileSystem, unmount } from '../sys/mount.ts'
import { ProjectQuotas } from '../sys/quota.ts'
import { nr } from '../sys/syscalls.ts'
import type { GraphDriver, TreeMount } from './driver.ts'

const MAX_LOWERS = 125 // what a page of mount options holds, with room for the other options

const fileSystemNames: Record<number, string> = { 0xef53: 'extfs', 0x9123683e: 'btrfs', 0x58465342: 'xfs', 0x01021994: 'tmpfs', 0x794c7630: 'overlayfs', 0x2fc12fc1: 'zfs' }

/** Opens the overlay driver: each layer a directory `ID/diff`, stacked by overlayfs (kernel: filesystems/overlayfs). A
 * layer's `lower` file names the directories under it by short links in `l/`, which keep a mount of 125 layers within
 * the page of options that mount(2) takes. */
export function openOverlay(root: string, trash: Trash): GraphDriver {
  mkdirSync(join(root, 'l'), { recursive: true, mode: 0o700 })
  const quotas = new ProjectQuotas('layers', root)
  const of = (id: string, ...names: string[]): string => join(root, id, ...names)
  const known = (id: string): void => {
    if (!existsSync(of(id, 'link'))) throw notFound(`layer ${id} does not exist`)
  }
  const lowersOf = (id: string): string[] => readFileSync(of(id, 'lower'), 'utf8').split(':').filter(Boolean)

  return {
    name: 'overlay2',
    deletions: 'overlay',

    async create(id, parent, { size } = {}) {
      if (existsSync(of(id, 'link'))) throw conflict(`layer ${id} exists already`)
      let lowers: string[] = []
      if (parent !== undefined) {
        known(parent)
        lowers = ['l/' + readFileSync(of(parent, 'link'), 'utf8'), ...lowersOf(parent)]
      }
      if (lowers.length > MAX_LOWERS) throw unsupported(`max depth exceeded: overlay stands on at most ${MAX_LOWERS} layers`)
      const link = randomBytes(8).toString('hex')
      mkdirSync(of(id))
      if (size !== undefined) quotas.limit(of(id), size) // before there is anything in it: what is made inherits
      mkdirSync(of(id, 'diff'))
      mkdirSync(of(id, 'work'), { mode: 0o700 })
      mkdirSync(of(id, 'merged'), { mode: 0o700 })
      const base = parent === undefined ? undefined : lstatSync(of(parent, 'diff'))
      chmodSync(of(id, 'diff'), base ? base.mode & 0o7777 : 0o755)
      if (base && (base.uid || base.gid)) chownSync(of(id, 'diff'), base.uid, base.gid)
      symlinkSync(`../${id}/diff`, join(root, 'l', link))
      writeFileSync(of(id, 'lower'), lowers.join(':'))
      writeFileSync(of(id, 'link'), link) // last: without it the layer is not there
    },

    remove(id) {
      const kept = readIfThere(of(id, 'link'))
      // what a power cut has left of that file may be anything
      const link = kept && /^[0-9a-f]+$/.test(kept) ? kept : kept === undefined ? undefined : readdirSync(join(root, 'l')).find((name) => readlinkSync(join(root, 'l', name)) === `../${id}/diff`)
      trash.put(of(id))
      if (link) unlinkIfThere(join(root, 'l', link))
      return Promise.resolve()
    },

    exists: (id) => existsSync(of(id, 'link')),
    ids: () => readdirSync(root).filter((name) => name !== 'l'),

    directory(id) {
      known(id)
      return of(id, 'diff')
    },

    mount(id, { volatile }): TreeMount {
      known(id)
      const lowers = lowersOf(id)
      if (lowers.length === 0) return { type: 'bind', target: of(id, 'merged'), source: of(id, 'diff') }
      // a volatile overlay is marked, and not mounted again before the mark is gone; what it wrote is there, or the machine has crashed
      const mark = of(id, 'work/work/incompat')
      if (volatile && existsSync(mark)) rmSync(mark, { recursive: true })
      const options = `lowerdir=${lowers.join(':')},upperdir=${id}/diff,workdir=${id}/work,index=off,metacopy=off${volatile ? ',volatile' : ''}`
      return { type: 'overlay', target: of(id, 'merged'), workdir: root, options }
    },

    open(id) {
      known(id)
      const lowers = lowersOf(id)
      if (lowers.length === 0) return openSync(of(id, 'diff'), constants.O_RDONLY | constants.O_DIRECTORY)
      return openDetached(root, { lowers, upper: { directory: `${id}/diff`, work: `${id}/work` } })
    },

    view(id) {
      known(id)
      const lowers = [`${id}/diff`, ...lowersOf(id)]
      return lowers.length === 1 ? detachTree(join(root, lowers[0]!)) : openDetached(root, { lowers })
    },

    status: () => [
      ['Backing Filesystem', fileSystemNames[fileSystemType(root)] ?? `0x${fileSystemType(root).toString(16)}`],
      ['Supports d_type', 'true'], ['Using metacopy', 'false'], ['Native Overlay Diff', 'true'], ['userxattr', 'false'],
    ],

    data(id) {
      if (!existsSync(of(id, 'link'))) return {}
      const lowers = lowersOf(id).map((lower) => join(root, lower))
      return {
        ...(lowers.length && { LowerDir: lowers.join(':') }),
        MergedDir: of(id, 'merged'), UpperDir: of(id, 'diff'), WorkDir: of(id, 'work'),
      }
    },
  }
}

/** Without an upper directory, the stack is only read. */
interface Stack { lowers: readonly string[], upper?: { directory: string, work: string } }

/** An overlay that is mounted nowhere: it lives as long as the descriptor (fsmount(2)). The paths are below `root`. */
function openDetached(root: string, { lowers, upper }: Stack): number {
  if (!kernelAtLeast(release(), '6.8')) return openMounted(root, { lowers, ...(upper && { upper }) }) // which has no `lowerdir+`
  const settings = [
    ...lowers.map((lower) => ({ key: 'lowerdir+', value: join(root, lower) })), ...(upper ? [{ key: 'upperdir', value: join(root, upper.directory) }, { key: 'workdir', value: join(root, upper.work) }] : []),
    { key: 'index', value: 'off' }, { key: 'metacopy', value: 'off' },
  ]
  return detachedFileSystem('overlay', settings)
}

/** As `openDetached`, by mount(2), for a moment. Its options have room for many lower directories only where these are
 * relative to the working directory. */
function openMounted(root: string, { lowers, upper }: Stack): number {
  const target = join(root, upper?.directory ?? lowers[0]!)
  const before = process.cwd()
  process.chdir(root)
  try {
    must('mount overlay', nr('mount'), 'overlay', target, 'overlay', 0, `lowerdir=${lowers.join(':')}${upper ? `,upperdir=${upper.directory},workdir=${upper.work}` : ''},index=off,metacopy=off`)
  } finally {
    process.chdir(before)
  }
  try {
    return detachTree(target)
  } finally {
    unmount(target)
  }
}

/** True where the kernel mounts overlays on this directory's file system. */
export function overlayWorks(directory: string): boolean {
  const probe = join(directory, `probe-${process.pid}`)
  try {
    for (const name of ['lower', 'upper', 'work']) mkdirSync(join(probe, name), { recursive: true })
    closeSync(openDetached(probe, { lowers: ['lower'], upper: { directory: 'upper', work: 'work' } }))
    return true
  } catch (error) {
    if (codeOf(error) === undefined) throw error
    return false
  } finally {
    rmSync(probe, { recursive: true, force: true })
  }
}
