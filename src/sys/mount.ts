import { closeSync, constants, openSync, readFileSync } from 'node:fs'
import { system } from '../lib/errors.ts'
import { errno, errnoError } from './errno.ts'
import { must, syscall } from './ffi.ts'
import { AT_EMPTY_PATH, AT_FDCWD, O_CLOEXEC, O_PATH, openHow } from './fs.ts'
import { CLONE } from './process.ts'
import type { Program, Register } from './program.ts'
import { nr } from './syscalls.ts'
import { runSteps, type Zygote } from './zygote.ts'

/** mount(2). It may wait for a server or a disk, so another process does it; `directory` is where a FIFO is meanwhile. */
export async function mountAt(zygote: Zygote, directory: string, what: string, { source, target, type, flags, data }: { source: string, target: string, type: string, flags: number, data: string }): Promise<void> {
  await runSteps(zygote, directory, what, (program) => program.sys('pre', 'mount', [source, target, type, flags, data], { doing: `mount ${source}:${target}${flags ? `, flags: 0x${flags.toString(16)}` : ''}` }))
}

export const MNT_DETACH = 2

/** Takes the uppermost mount at a path away (umount2(2), MNT_DETACH). False where there is none. */
export function unmount(path: string): boolean {
  const result = syscall(nr('umount2'), path, MNT_DETACH)
  if (result === -errno.EINVAL || result === -errno.ENOENT) return false
  if (result < 0) throw errnoError(-result, `umount ${path}`)
  return true
}

export const OPEN_TREE_CLONE = 1
export const AT_RECURSIVE = 0x8000
export const MOVE_MOUNT_F_EMPTY_PATH = 0x04
/** From one descriptor onto another (move_mount(2)). */
export const MOVE_EMPTY_PATHS = MOVE_MOUNT_F_EMPTY_PATH | 0x40 // MOVE_MOUNT_T_EMPTY_PATH
export const FSCONFIG = { FLAG: 0, STRING: 1, CREATE: 6 } as const

/** The tree at a path as a mount that is nowhere yet: it lives as long as the descriptor (open_tree(2)). */
export function detachTree(path: string, { recursive = false } = {}): number {
  return must(`open_tree ${path}`, nr('open_tree'), AT_FDCWD, path, OPEN_TREE_CLONE | O_CLOEXEC | (recursive ? AT_RECURSIVE : 0))
}

/** Gives a detached mount a place, a path or an open descriptor (move_mount(2)); with the path of a user namespace, its
 * files get the ids that they have there. */
export function attachTree(tree: number, at: string | number, userNamespace?: string): void {
  if (userNamespace !== undefined) {
    const namespace = openSync(userNamespace, constants.O_RDONLY)
    try {
      const result = mapIds(tree, namespace)
      if (result < 0) throw errnoError(-result, `map the ids of ${at}`)
    } finally {
      closeSync(namespace)
    }
  }
  const [directory, path] = typeof at === 'number' ? [at, ''] : [AT_FDCWD, at]
  must(`mount on ${at}`, nr('move_mount'), tree, '', directory, path, path ? MOVE_MOUNT_F_EMPTY_PATH : MOVE_EMPTY_PATHS)
}

const MOUNT_ATTR_RDONLY = 1n
const MOUNT_ATTR_IDMAP = 0x0010_0000n

/** Has a detached mount show the ids of a user namespace, an open descriptor (mount_setattr(2)). Returns 0 or a negated
 * errno. */
export function mapIds(tree: number, userNamespace: number): number {
  return setAttributes(tree, MOUNT_ATTR_IDMAP, userNamespace)
}

/** Has a detached mount, and those below it, be read-only. */
export function makeReadonly(tree: number): void {
  const result = setAttributes(tree, MOUNT_ATTR_RDONLY, 0, AT_RECURSIVE)
  if (result < 0) throw errnoError(-result, 'make a mount read-only')
}

const MS_PRIVATE = 1n << 18n

/** Has a detached mount, and those below it, share nothing with others (mount_namespaces(7)). */
export function makePrivate(tree: number): void {
  const result = setAttributes(tree, 0n, 0, AT_RECURSIVE, MS_PRIVATE)
  if (result < 0) throw errnoError(-result, 'make a mount private')
}

const MOUNT_ATTR_SAFE = 2 | 4 | 8 // nosuid, nodev, noexec

/** A file system that is mounted nowhere: it lives as long as the descriptor, or where it is moved to (fsopen(2),
 * fsmount(2)). A setting without a value is a flag. */
export function detachedFileSystem(type: string, settings: readonly { key: string, value?: string }[], attributes = 0): number {
  const fs = must(`fsopen ${type}`, nr('fsopen'), type, 1)
  try {
    for (const { key, value } of settings) must(`mount ${type} with ${key}${value === undefined ? '' : ` ${value}`}`, nr('fsconfig'), fs, value === undefined ? FSCONFIG.FLAG : FSCONFIG.STRING, key, value ?? null, 0)
    must(`mount ${type}`, nr('fsconfig'), fs, FSCONFIG.CREATE, 0, 0, 0)
    return must(`fsmount ${type}`, nr('fsmount'), fs, 1, attributes)
  } finally {
    closeSync(fs)
  }
}

/** A file system in memory that is mounted nowhere (tmpfs(5)). */
export function detachedTmpfs(settings: readonly { key: string, value?: string }[]): number {
  return detachedFileSystem('tmpfs', settings, MOUNT_ATTR_SAFE)
}

/** Moves a detached mount of this process into another's mount namespace, onto a path that is resolved inside its root. */
export async function attachElsewhere(zygote: Zygote, directory: string, tree: number, pid: number, path: string): Promise<void> {
  const how = openHow(O_PATH)
  await runSteps(zygote, directory, `mount on ${path}`, (program) => {
    const [process_, mount, namespace, root, target] = [program.register(), program.register(), program.register(), program.register(), program.register()]
    program.sys('pre', 'pidfd_open', [process.pid, 0], { out: process_, doing: 'find the engine' })
    program.sys('pre', 'pidfd_getfd', [process_, tree, 0], { out: mount, doing: 'take the mount' })
    enter(program, namespace, pid)
    program.sys('pre', 'openat', [AT_FDCWD, '/', O_PATH | O_CLOEXEC], { out: root, doing: 'open the root' })
    program.sys('pre', 'openat2', [root, path.replace(/^\/+/, ''), how, how.length], { out: target, doing: `open ${path}` })
    program.sys('pre', 'move_mount', [mount, '', target, '', MOVE_EMPTY_PATHS], { doing: `mount on ${path}` })
  })
}

const UMOUNT_NOFOLLOW = 8

/** Takes the uppermost mount at a path of another mount namespace away. */
export async function unmountElsewhere(zygote: Zygote, directory: string, pid: number, path: string): Promise<void> {
  await runSteps(zygote, directory, `unmount ${path}`, (program) => {
    enter(program, program.register(), pid)
    program.sys('pre', 'umount2', [path, MNT_DETACH | UMOUNT_NOFOLLOW], { doing: `unmount ${path}` })
  })
}

function enter(program: Program, namespace: Register, pid: number): void {
  program.sys('pre', 'openat', [AT_FDCWD, `/proc/${pid}/ns/mnt`, O_CLOEXEC], { out: namespace, doing: 'find the mount namespace' })
  program.sys('pre', 'setns', [namespace, CLONE.mount], { doing: 'enter the mount namespace' })
}

function setAttributes(tree: number, set: bigint, userNamespace: number, flags = 0, propagation = 0n): number {
  const attributes = Buffer.alloc(32) // struct mount_attr
  attributes.writeBigUInt64LE(set, 0)
  attributes.writeBigUInt64LE(propagation, 16)
  attributes.writeBigUInt64LE(BigInt(userNamespace), 24)
  return syscall(nr('mount_setattr'), tree, '', AT_EMPTY_PATH | flags, attributes, attributes.length)
}

const MOUNT_POINT = 4 // the field of proc_pid_mountinfo(5), from 0

/** The paths at which something is mounted, in the order of the mounts. */
export function mountPoints(): string[] {
  const unescape = (text: string): string => text.replace(/\\([0-7]{3})/g, (_all, code: string) => String.fromCharCode(Number.parseInt(code, 8)))
  return readFileSync('/proc/self/mountinfo', 'utf8').split('\n').filter(Boolean).map((line) => Buffer.from(unescape(line.split(' ')[MOUNT_POINT]!), 'latin1').toString('utf8'))
}

const LOOP_CTL_GET_FREE = 0x4c82
const LOOP_CONFIGURE = 0x4c0a
const LO_FLAGS_READ_ONLY = 1
const LO_FLAGS_AUTOCLEAR = 4
const LO_FLAGS_AT = 60 // in struct loop_config: lo_flags of its struct loop_info64
const TRIES = 16

/** Gives a file as a block device (loop(4)) for `work`, and for as long after it as the device is mounted. */
export async function withLoop<T>(file: string, readonly: boolean, work: (device: string) => Promise<T>): Promise<T> {
  const backing = openSync(file, readonly ? constants.O_RDONLY : constants.O_RDWR)
  const control = openSync('/dev/loop-control', constants.O_RDWR)
  try {
    const config = Buffer.alloc(304) // struct loop_config
    config.writeUInt32LE(backing, 0)
    config.writeUInt32LE(LO_FLAGS_AUTOCLEAR | (readonly ? LO_FLAGS_READ_ONLY : 0), LO_FLAGS_AT)
    for (let tries = 0; tries < TRIES; tries++) {
      const device = `/dev/loop${must('ask for a loop device', nr('ioctl'), control, LOOP_CTL_GET_FREE)}`
      const fd = openSync(device, constants.O_RDWR)
      try {
        const result = syscall(nr('ioctl'), fd, LOOP_CONFIGURE, config)
        if (result === -errno.EBUSY) continue // somebody else was quicker
        if (result < 0) throw errnoError(-result, `use ${device} for ${file}`)
        return await work(device)
      } finally {
        closeSync(fd)
      }
    }
    throw system(`no loop device is free for ${file}`)
  } finally {
    closeSync(control)
    closeSync(backing)
  }
}
