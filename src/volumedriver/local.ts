import { chownSync, existsSync, mkdirSync, readdirSync, renameSync } from 'node:fs'
import { lookup } from 'node:dns/promises'
import { isIP } from 'node:net'
import { join } from 'node:path'
import { invalid, messageOf, system } from '../lib/errors.ts'
import type { Trash } from '../lib/trash.ts'
import { parseSize } from '../lib/units.ts'
import { mountAt, mountPoints, unmount, withLoop } from '../sys/mount.ts'
import type { Zygote } from '../sys/zygote.ts'
import type { VolumeConfig, VolumeDriver } from './driver.ts'
import { ProjectQuotas } from '../sys/quota.ts'

/** The volumes are in `root`; their own root belongs to `owner`. `directory` is for FIFOs. */
export interface LocalOptions { root: string, owner: { uid: number, gid: number }, trash: Trash, zygote: Zygote, directory: string }

const known = new Set(['type', 'o', 'device', 'size'])

/** Options of mount(8) that are flags of mount(2) to be set or cleared. */
const flags: Readonly<Record<string, readonly [set: number, clear: number]>> = {
  defaults: [0, 0], rw: [0, 1], ro: [1, 0], suid: [0, 2], nosuid: [2, 0], dev: [0, 4], nodev: [4, 0], exec: [0, 8], noexec: [8, 0], async: [0, 16], sync: [16, 0],
  remount: [32, 0], mand: [64, 0], nomand: [0, 64], dirsync: [128, 0], nosymfollow: [256, 0], atime: [0, 1024], noatime: [1024, 0], diratime: [0, 2048], nodiratime: [2048, 0],
  bind: [4096, 0], rbind: [4096 | 16384, 0], norelatime: [0, 1 << 21], relatime: [1 << 21, 0], strictatime: [1 << 24, 0], nostrictatime: [0, 1 << 24], lazytime: [1 << 25, 0],
}
const MS_BIND = 4096
const MS_REMOUNT = 32
/** What a bind mount takes only when it is mounted once more (mount(2)). */
const OF_REMOUNT = 1 | 2 | 4 | 8 | 256 | 1024 | 2048 | (1 << 21) | (1 << 24)

interface What { source: string, type: string, flags: number, data: string, loop: boolean }

/** Volumes in directories of this host: `ROOT/NAME/_data`. With the options `type`, `device` and `o`, what mount(8) would
 * make of these is mounted there while the volume is in use; with `size`, it holds no more than that, where the file
 * system has project quotas. */
export function localDriver(options: LocalOptions): VolumeDriver {
  const { root, owner, trash } = options
  const of = (name: string): string => join(root, name)
  const data = (name: string): string => join(root, name, '_data')
  const users = new Map<string, Set<string>>()
  const quotas = new ProjectQuotas('volumes', root, '_data')
  const usersOf = (name: string): Set<string> => {
    const found = users.get(name) ?? new Set()
    users.set(name, found)
    return found
  }
  mkdirSync(root, { recursive: true, mode: 0o701 })

  const mount = async (volume: VolumeConfig): Promise<void> => {
    const what = await whatOf(volume.options)
    const target = data(volume.name)
    const make = (source: string): Promise<void> => mountAt(options.zygote, options.directory, 'failed to mount local volume', { ...what, source, target })
    try {
      await (what.loop ? withLoop(what.source, (what.flags & 1) !== 0, make) : make(what.source))
      if (what.flags & MS_BIND && what.flags & OF_REMOUNT) await mountAt(options.zygote, options.directory, 'failed to mount local volume', { ...what, target, flags: what.flags | MS_REMOUNT })
    } catch (error) {
      unmount(target)
      throw system(`error while mounting volume '${target}': ${messageOf(error)}`, error)
    }
  }

  return {
    name: 'local', scope: 'local',

    async create({ name, options: asked }) {
      check(asked)
      mkdirSync(of(name), { mode: 0o701, recursive: true })
      try {
        mkdirSync(data(name), { recursive: true })
        chownSync(data(name), owner.uid, owner.gid)
        if (asked['size'] !== undefined) quotas.limit(data(name), parseSize(asked['size']))
      } catch (error) {
        trash.put(of(name))
        throw error
      }
    },

    async remove({ name }) {
      while (unmount(data(name))); // what somebody left there must not be deleted
      trash.put(of(name))
      users.delete(name)
    },

    async mount(volume, id) {
      const path = data(volume.name)
      if (!existsSync(path)) throw system(`the volume ${volume.name} has lost its directory ${path}`)
      const own = usersOf(volume.name)
      if (isMountable(volume.options) && own.size === 0 && !isMounted(path)) await mount(volume)
      own.add(id)
      return path
    },

    async unmount(volume, id) {
      const own = usersOf(volume.name)
      if (own.delete(id) && own.size === 0 && isMountable(volume.options)) unmount(data(volume.name))
      if (own.size === 0) users.delete(volume.name)
    },

    path: async ({ name }) => data(name),

    async resume(volume, id) {
      usersOf(volume.name).add(id)
      return data(volume.name)
    },

    async settle() {
      const mounted = new Set(mountPoints())
      for (const name of readdirSync(root)) if (mounted.has(data(name)) && !users.get(name)?.size) while (unmount(data(name)));
    },

    list: async () => readdirSync(root),

    async rename({ name }, to) {
      renameSync(of(name), of(to))
      users.delete(name)
    },
  }
}

const isMountable = (options: Readonly<Record<string, string>>): boolean => Boolean(options['type'] || options['device'])

const isMounted = (path: string): boolean => mountPoints().includes(path)

function check(options: Readonly<Record<string, string>>): void {
  for (const name of Object.keys(options)) if (!known.has(name)) throw invalid(`invalid option: ${JSON.stringify(name)}`)
  const missing = (of: string): never => {
    throw invalid(`missing required option: ${JSON.stringify(of)}`)
  }
  const { type, device, o, size } = options
  if (size !== undefined) parseSize(size)
  if (device && !type) missing('type')
  if (type && !device) missing('device')
  if (o && !device) missing('device')
}

/** What is to be mounted. A server of files is told by address: the kernel looks up no names. */
async function whatOf({ type = '', device = '', o = '' }: Readonly<Record<string, string>>): Promise<What> {
  const what: What = { source: device, type, flags: 0, data: '', loop: false }
  const left: string[] = []
  for (const option of o.split(',').filter(Boolean)) {
    const flag = flags[option]
    if (flag) what.flags = (what.flags & ~flag[1]) | flag[0]
    else if (option === 'loop') what.loop = true
    else left.push(option)
  }
  if (/^(nfs|nfs4|cifs)$/.test(type)) {
    const at = left.findIndex((option) => option.startsWith('addr='))
    const name = left[at]?.slice('addr='.length)
    if (name && !isIP(name)) left[at] = `addr=${(await lookup(name, { order: 'ipv4first' })).address}`
  }
  what.data = left.join(',')
  return what
}
