import { invalid } from '../lib/errors.ts'

/** What a list of mount options means: attributes for the mount, flags and data for the file system. */
export interface MountOptions {
  bind: boolean
  recursive: boolean
  /** mount_setattr(2) attributes of the top mount … */
  set: number
  clear: number
  /** … and of every mount below it (`rro`, `rnosuid`, …). */
  setRecursive: number
  clearRecursive: number
  /** MS_PRIVATE, MS_SHARED, MS_SLAVE or MS_UNBINDABLE, and whether for the mounts below too. */
  propagation?: { type: number, recursive: boolean }
  /** What the file system reads itself, `size=64m`; a flag has no value. */
  data: { key: string, value?: string }[]
  idmap?: 'idmap' | 'ridmap'
  copyUp: boolean
}

export const MOUNT_ATTR = {
  RDONLY: 1, NOSUID: 2, NODEV: 4, NOEXEC: 8, ATIME: 0x70, NOATIME: 0x10, STRICTATIME: 0x20, NODIRATIME: 0x80,
  IDMAP: 0x100000, NOSYMFOLLOW: 0x200000,
} as const

export const MS = { UNBINDABLE: 1 << 17, PRIVATE: 1 << 18, SLAVE: 1 << 19, SHARED: 1 << 20, REC: 16384 } as const

/** Option to the attributes that it sets and clears. */
const attributes: Record<string, readonly [set: number, clear: number]> = {
  ro: [MOUNT_ATTR.RDONLY, 0], rw: [0, MOUNT_ATTR.RDONLY],
  nosuid: [MOUNT_ATTR.NOSUID, 0], suid: [0, MOUNT_ATTR.NOSUID],
  nodev: [MOUNT_ATTR.NODEV, 0], dev: [0, MOUNT_ATTR.NODEV],
  noexec: [MOUNT_ATTR.NOEXEC, 0], exec: [0, MOUNT_ATTR.NOEXEC],
  noatime: [MOUNT_ATTR.NOATIME, MOUNT_ATTR.ATIME], atime: [0, MOUNT_ATTR.ATIME],
  strictatime: [MOUNT_ATTR.STRICTATIME, MOUNT_ATTR.ATIME], relatime: [0, MOUNT_ATTR.ATIME],
  norelatime: [0, MOUNT_ATTR.ATIME], nostrictatime: [0, MOUNT_ATTR.ATIME],
  nodiratime: [MOUNT_ATTR.NODIRATIME, 0], diratime: [0, MOUNT_ATTR.NODIRATIME],
  nosymfollow: [MOUNT_ATTR.NOSYMFOLLOW, 0], symfollow: [0, MOUNT_ATTR.NOSYMFOLLOW],
}

const propagations: Record<string, number> = { private: MS.PRIVATE, shared: MS.SHARED, slave: MS.SLAVE, unbindable: MS.UNBINDABLE }

/** Options of mount(8) that change nothing here. */
const idle = new Set(['defaults', 'async', 'noiversion', 'nomand', 'loud', 'remount', 'silent'])

/** Every option that is not a file system's own. */
export const mountOptionNames: readonly string[] = [
  ...Object.keys(attributes), ...Object.keys(attributes).map((name) => `r${name}`), ...Object.keys(propagations), ...Object.keys(propagations).map((name) => `r${name}`), ...idle, 'bind', 'rbind', 'idmap', 'ridmap', 'tmpcopyup',
]

/** Reads OCI mount options (runtime-spec, "Linux mount options"). */
export function parseMountOptions(options: readonly string[]): MountOptions {
  const parsed: MountOptions = { bind: false, recursive: false, set: 0, clear: 0, setRecursive: 0, clearRecursive: 0, data: [], copyUp: false }
  for (const option of options) {
    const recursive = option.startsWith('r') ? attributes[option.slice(1)] : undefined
    const plain = attributes[option]
    const propagation = propagations[option] ?? propagations[option.replace(/^r/, '')]
    if (plain) {
      parsed.set = (parsed.set & ~plain[1]) | plain[0]
      parsed.clear = (parsed.clear & ~plain[0]) | plain[1]
    } else if (recursive) {
      parsed.setRecursive |= recursive[0]
      parsed.clearRecursive |= recursive[1]
    } else if (option === 'bind' || option === 'rbind') {
      parsed.bind = true
      parsed.recursive = option === 'rbind'
    } else if (propagation !== undefined) parsed.propagation = { type: propagation, recursive: option !== 'unbindable' && option.startsWith('r') }
    else if (option === 'idmap' || option === 'ridmap') parsed.idmap = option
    else if (option === 'tmpcopyup') parsed.copyUp = true
    else if (!idle.has(option) && option !== '') {
      const equals = option.indexOf('=')
      parsed.data.push(equals < 0 ? { key: option } : { key: option.slice(0, equals), value: option.slice(equals + 1) })
    }
  }
  return parsed
}

/** Propagation flags of OCI's `rootfsPropagation`. */
export function rootPropagation(name: string | undefined): number {
  switch (name) {
    case undefined: case '': case 'rslave': return MS.SLAVE | MS.REC
    case 'slave': return MS.SLAVE
    case 'rprivate': return MS.PRIVATE | MS.REC
    case 'private': return MS.PRIVATE
    case 'rshared': return MS.SHARED | MS.REC
    case 'shared': return MS.SHARED
    case 'unbindable': return MS.UNBINDABLE
    case 'runbindable': return MS.UNBINDABLE | MS.REC
    default: throw invalid(`invalid rootfsPropagation: ${JSON.stringify(name)}`)
  }
}
