import { constants } from 'node:fs'
import { posix } from 'node:path'
import { errno } from '../sys/errno.ts'
import { AT_EMPTY_PATH, AT_FDCWD, O_CLOEXEC, O_DIRECTORY, O_PATH, RESOLVE, makeDevice, openHow } from '../sys/fs.ts'
import { AT_RECURSIVE, FSCONFIG, MNT_DETACH, MOVE_EMPTY_PATHS, MOVE_MOUNT_F_EMPTY_PATH, OPEN_TREE_CLONE } from '../sys/mount.ts'
import { CLONE, PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP } from '../sys/process.ts'
import type { Operand, Pointer, Program, Register } from '../sys/program.ts'
import { MOUNT_ATTR, MS, parseMountOptions, rootPropagation, type MountOptions } from './mountflags.ts'
import type { CgroupTrees } from './cgroups/cgroup.ts'
import { openSlave } from './process.ts'
import type { Device, Mount, Spec } from './spec.ts'
import { invalid } from '../lib/errors.ts'

/** How the root file system comes to its place: a mount to make in the container's own mount namespace, or a directory
 * that is there already. */
export type RootMount =
  | { type: 'overlay', target: string, options: string, workdir: string }
  | { type: 'bind', target: string, source: string }

/** How the root of a container with a user namespace is mounted: with the maps of the user namespace at a path, in which
 * the host's ids `uid` and `gid` are root; without them the owners of the files are as on disk. */
export interface RootIdMap { userNamespace: string, uid: number, gid: number }

/** Descriptors of the monitor's from this number on are mounts that it has opened for the container. */
const FIRST_PREPARED = 128
const MOST_PREPARED = 500
/** A bind mount's source in the file system of a process. */
export const ELSEWHERE = /^\/proc\/(\d+)\/root(\/.*)$/
const MS_BIND = 4096
const S_IFREG = 0o100000
const S_IFCHR = 0o020000
const S_IFBLK = 0o060000
const S_IFIFO = 0o010000
const PROC_SUPER_MAGIC = 0x9fa0

/** Adds to stage `child` the steps that build a container's file system and make it the root. Every path inside it is
 * resolved by openat2 in the root, and every mount is made through a descriptor, so no link in the image or put there
 * meanwhile by another container leads out (CVE-2019-16884, CVE-2021-30465, CVE-2025-31133). */
export class RootfsSteps {
  readonly #program: Program
  readonly #root: Register
  readonly #target: Register
  readonly #parent: Register
  readonly #mount: Register
  readonly #scratch: Register
  #prepared = 0
  readonly #hows = new Map<string, Pointer>()

  constructor(program: Program) {
    this.#program = program
    this.#root = program.register()
    this.#target = program.register()
    this.#parent = program.register()
    this.#mount = program.register()
    this.#scratch = program.register()
  }

  /** The descriptor of the root file system while it is built. */
  get root(): Register {
    return this.#root
  }

  /** Makes the mount namespace the container's own and mounts its root. In a user namespace that is the monitor's work:
   * the child can neither reach the directories above the root nor mount what is not its own. */
  begin(spec: Spec, rootMount: RootMount, user?: { idMap: RootIdMap | undefined }): void {
    const p = this.#program
    const { target } = rootMount
    const makePrivate = (): void => p.sys('child', 'mount', ['none', '/', 0, rootPropagation(spec.linux?.rootfsPropagation), 0], { doing: 'make the mounts private' })
    if (user) {
      const tree = this.#prepareRoot(rootMount, user.idMap)
      // the clone of the mount namespace takes the working directory along: a place to mount on that needs no path
      p.sys('pre', 'chdir', [target], { doing: `open ${target}` })
      p.sys('post', 'chdir', ['/'])
      makePrivate()
      p.sys('child', 'move_mount', [tree, '', AT_FDCWD, '', MOVE_EMPTY_PATHS], { doing: `mount the root file system on ${target}` })
      p.set(this.#root, tree)
      return
    }
    makePrivate()
    if (rootMount.type === 'overlay') this.#mountOverlay('child', rootMount)
    else p.sys('child', 'mount', [rootMount.source, target, 0, MS_BIND | MS.REC, 0], { doing: `mount ${rootMount.source} on ${target}` })
    // a shared parent mount would carry pivot_root's changes to the host
    p.sys('child', 'openat', [AT_FDCWD, target, O_PATH | O_DIRECTORY | O_CLOEXEC], { out: this.#root, doing: `open ${target}` })
  }

  #mountOverlay(stage: 'pre' | 'child', { workdir, target, options }: RootMount & { type: 'overlay' }): void {
    this.#program.sys(stage, 'chdir', [workdir], { doing: `open ${workdir}` })
    this.#program.sys(stage, 'mount', ['overlay', target, 'overlay', 0, options], { doing: `mount the root file system on ${target}` })
  }

  /** Opens the root in the monitor. An overlay stands on layers with mapped ids (mount_setattr(2)): the directory of all
   * layers gets the maps, in a mount namespace that is left again. */
  #prepareRoot(rootMount: RootMount, idMap: RootIdMap | undefined): number {
    const p = this.#program
    if (rootMount.type === 'bind') return this.prepare(rootMount.source, { recursive: true, ...(idMap && { idMap: { ...idMap, recursive: true } }) })
    const { workdir, target } = rootMount
    return this.#elsewhere(undefined, () => {
      p.sys('pre', 'mount', ['none', '/', 0, MS.SLAVE | MS.REC, 0], { doing: 'make the mounts private' })
      if (idMap) {
        const layers = this.prepare(workdir, { recursive: false, idMap: { ...idMap, recursive: false } })
        p.sys('pre', 'move_mount', [layers, '', AT_FDCWD, workdir, MOVE_MOUNT_F_EMPTY_PATH], { doing: `map the ids of ${workdir}` })
      }
      // overlayfs makes what it needs as whoever mounts it, who must be somebody in the maps, and may do all the same
      if (idMap) this.#actAs(idMap, () => this.#mountOverlay('pre', rootMount))
      else this.#mountOverlay('pre', rootMount)
      return this.prepare(target, { recursive: false })
    })
  }

  /** Has the monitor make files for other ids, with all its capabilities (capabilities(7), SECBIT_NO_SETUID_FIXUP). */
  #actAs({ uid, gid }: { uid: number, gid: number }, work: () => void): void {
    const p = this.#program
    p.sys('pre', 'prctl', [PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP, 0, 0, 0], { doing: 'keep capabilities' })
    p.sys('pre', 'setfsgid', [gid])
    p.sys('pre', 'setfsuid', [uid])
    work()
    p.sys('pre', 'setfsuid', [0])
    p.sys('pre', 'setfsgid', [0])
    p.sys('pre', 'prctl', [PR_SET_SECUREBITS, 0, 0, 0, 0], { doing: 'let capabilities follow the user' })
  }

  /** Has the monitor do something in another mount namespace, that of a path or a new one, and come back. */
  #elsewhere<T>(path: string | undefined, work: () => T): T {
    const p = this.#program
    const back = p.register()
    p.sys('pre', 'openat', [AT_FDCWD, '/proc/self/ns/mnt', O_CLOEXEC], { out: back, doing: 'open the mount namespace' })
    if (path === undefined) p.sys('pre', 'unshare', [CLONE.mount], { doing: 'make a mount namespace' })
    else {
      p.sys('pre', 'openat', [AT_FDCWD, path, O_CLOEXEC], { out: this.#scratch, doing: `open ${path}` })
      p.sys('pre', 'setns', [this.#scratch, CLONE.mount], { doing: `join the mount namespace ${path}` })
      p.sys('pre', 'close', [this.#scratch])
    }
    const result = work()
    p.sys('pre', 'setns', [back, CLONE.mount], { doing: "return to the host's mounts" })
    p.sys('pre', 'close', [back])
    return result
  }

  /** Makes the root the root. */
  pivot(): void {
    const p = this.#program
    p.sys('child', 'fchdir', [this.#root], { doing: 'enter the root file system' })
    p.sys('child', 'pivot_root', ['.', '.'], { doing: 'pivot_root' })
    p.sys('child', 'umount2', ['.', MNT_DETACH], { doing: "let go of the host's root" })
    p.sys('child', 'chdir', ['/'], { doing: 'enter /' })
  }

  /** Makes `/` read-only, its submounts not. */
  readonlyRoot(): void {
    this.#program.sys('child', 'mount_setattr', [AT_FDCWD, '/', 0, this.#attributes(MOUNT_ATTR.RDONLY, 0), 32], { doing: 'make / read-only' })
  }

  #how(flags: number, resolve: number): Pointer {
    const key = `${flags}/${resolve}`
    let pointer = this.#hows.get(key)
    if (!pointer) {
      pointer = this.#program.bytes(openHow(flags, 0, resolve))
      this.#hows.set(key, pointer)
    }
    return pointer
  }

  #attributes(set: number, clear: number, propagation = 0): Buffer {
    const attributes = Buffer.alloc(32)
    attributes.writeBigUInt64LE(BigInt(set), 0)
    attributes.writeBigUInt64LE(BigInt(clear), 8)
    attributes.writeBigUInt64LE(BigInt(propagation), 16)
    return attributes
  }

  #openIn(path: string, flags: number, out: Register, { resolve = 0, ...options }: { tolerate?: readonly number[], skip?: number, skipOnSuccess?: boolean, resolve?: number } = {}): void {
    const inside = path.replace(/^\/+/, '') || '.'
    this.#program.sys('child', 'openat2', [this.#root, inside, this.#how(flags, RESOLVE.IN_ROOT | RESOLVE.NO_MAGICLINKS | resolve), 24],
      { out, doing: `open ${path} in the root file system`, ...options })
  }

  /** Opens a mount target, and makes it, and the directories above it, where they are missing. */
  openTarget(destination: string, kind: 'directory' | 'file', options: { resolve?: number } = {}): void {
    const p = this.#program
    const path = cleanPath(destination)
    const parts = path.split('/').filter(Boolean)
    const steps: (() => void)[] = []
    parts.forEach((name, i) => {
      steps.push(() => this.#openIn('/' + parts.slice(0, i).join('/'), O_PATH | O_DIRECTORY, this.#parent))
      steps.push(() => kind === 'file' && i === parts.length - 1
        ? p.sys('child', 'mknodat', [this.#parent, name, S_IFREG | 0o644, 0], { tolerate: [errno.EEXIST], doing: `make ${path}` })
        : p.sys('child', 'mkdirat', [this.#parent, name, 0o755], { tolerate: [errno.EEXIST], doing: `make ${path}` }))
      steps.push(() => p.sys('child', 'close', [this.#parent], { tolerate: 'all' }))
    })
    const last = parts.at(-1) ?? '.'
    // a link that leads nowhere gives way to the mount target
    steps.push(() => this.#openIn(path, O_PATH, this.#target, { tolerate: [errno.ENOENT], skip: 4, skipOnSuccess: true }))
    steps.push(() => this.#openIn(posix.dirname(path), O_PATH | O_DIRECTORY, this.#parent))
    steps.push(() => p.sys('child', 'unlinkat', [this.#parent, last, 0], { tolerate: [errno.ENOENT] }))
    steps.push(() => p.sys('child', 'mknodat', [this.#parent, last, S_IFREG | 0o644, 0], { doing: `make ${path}` }))
    steps.push(() => this.#openIn(path, O_PATH, this.#target))
    this.#openIn(path, O_PATH, this.#target, { tolerate: [errno.ENOENT], skip: steps.length, skipOnSuccess: true, ...options })
    for (const step of steps) step()
  }

  /** Mounts what stands in register `mount` on the open target. */
  #attach(what: string): void {
    this.#program.sys('child', 'move_mount', [this.#mount, '', this.#target, '', MOVE_EMPTY_PATHS], { doing: what })
    this.#program.sys('child', 'close', [this.#mount])
    this.#program.sys('child', 'close', [this.#target])
  }

  #openTree(source: string, recursive: boolean, doing: string, options: { tolerate?: readonly number[], skip?: number } = {}): void {
    this.#program.sys('child', 'open_tree', [AT_FDCWD, source, OPEN_TREE_CLONE | O_CLOEXEC | (recursive ? AT_RECURSIVE : 0)],
      { out: this.#mount, doing, ...options })
  }

  #setAttributes(options: MountOptions, what: string): void {
    const p = this.#program
    const change = (flags: number, data: Buffer): void =>
      p.sys('child', 'mount_setattr', [this.#mount, '', AT_EMPTY_PATH | flags, data, 32], { doing: `${what}: set its attributes` })
    const { propagation } = options
    const [own, below] = [propagation && !propagation.recursive ? propagation.type : 0, propagation?.recursive ? propagation.type : 0]
    if (options.set || options.clear || own) change(0, this.#attributes(options.set, options.clear, own))
    if (options.setRecursive || options.clearRecursive || below) change(AT_RECURSIVE, this.#attributes(options.setRecursive, options.clearRecursive, below))
  }

  /** Opens a source in the monitor, which has the host's own capabilities and paths, and returns the descriptor for
   * `bind`. With `idMap` its owners are mapped as in the user namespace at a path (mount_setattr(2), "ID-mapped mounts").
   * A source `/proc/PID/root/…` is opened in that process's mount namespace, since no mount can be cloned from outside
   * (open_tree(2)). */
  prepare(source: string, { recursive, idMap }: { recursive: boolean, idMap?: { userNamespace: string, recursive: boolean } }): number {
    const inside = ELSEWHERE.exec(source)
    if (inside) return this.#elsewhere(`/proc/${inside[1]}/ns/mnt`, () => this.prepare(inside[2]!, { recursive, ...(idMap && { idMap }) }))
    const p = this.#program
    if (this.#prepared === MOST_PREPARED) throw invalid(`more than ${MOST_PREPARED} mounts`)
    const tree = FIRST_PREPARED + this.#prepared++
    const keepAs = (fd: number, what: string): void => {
      p.sys('pre', 'dup3', [this.#scratch, fd, O_CLOEXEC], { doing: what })
      p.sys('pre', 'close', [this.#scratch])
    }
    p.sys('pre', 'open_tree', [AT_FDCWD, source, OPEN_TREE_CLONE | O_CLOEXEC | (recursive ? AT_RECURSIVE : 0)], { out: this.#scratch, doing: `open ${source}` })
    keepAs(tree, `open ${source}`)
    p.sys('post', 'close', [tree])
    if (!idMap) return tree
    const what = `map the ids of ${source}`
    const attributes = this.#attributes(MOUNT_ATTR.IDMAP, 0)
    attributes.writeBigUInt64LE(BigInt(FIRST_PREPARED - 1), 24) // userns_fd
    p.sys('pre', 'openat', [AT_FDCWD, idMap.userNamespace, O_CLOEXEC], { out: this.#scratch, doing: `open ${idMap.userNamespace}` })
    keepAs(FIRST_PREPARED - 1, what)
    p.sys('pre', 'mount_setattr', [tree, '', AT_EMPTY_PATH | (idMap.recursive ? AT_RECURSIVE : 0), attributes, 32], { doing: what })
    return tree
  }

  /** A bind mount of something on the host. `kind` is what the source is, so that a missing target is made alike;
   * `prepared`, the source where it is open already. */
  bind(source: string, destination: string, kind: 'directory' | 'file', options: MountOptions, prepared?: number): void {
    const what = `mount ${source} on ${destination}`
    if (prepared === undefined) this.#openTree(source, options.recursive, what)
    else this.#program.sys('child', 'dup', [prepared], { out: this.#mount, doing: what })
    this.#setAttributes({ ...options, propagation: options.propagation ?? { type: MS.PRIVATE, recursive: options.recursive } }, what)
    this.openTarget(destination, kind)
    this.#attach(what)
  }

  /** A new file system (fsopen(2)). */
  mount(type: string, source: string, destination: string, options: MountOptions): void {
    const p = this.#program
    const what = `mount ${type} on ${destination}`
    const fs = this.#scratch
    p.sys('child', 'fsopen', [type, 1], { out: fs, doing: what })
    const configure = (command: number, key: Operand, value: Operand): void => p.sys('child', 'fsconfig', [fs, command, key, value, 0], { doing: what })
    configure(FSCONFIG.STRING, 'source', source)
    for (const { key, value } of options.data) configure(value === undefined ? FSCONFIG.FLAG : FSCONFIG.STRING, key, value ?? 0)
    configure(FSCONFIG.CREATE, 0, 0)
    p.sys('child', 'fsmount', [fs, 1, options.set], { out: this.#mount, doing: what })
    p.sys('child', 'close', [fs])
    if (options.propagation) this.#setAttributes({ ...options, set: 0, clear: 0 }, what)
    // elsewhere than where they belong, they would not be what is checked, masked and written to (CVE-2019-19921)
    this.openTarget(destination, 'directory', type === 'proc' || type === 'sysfs' ? { resolve: RESOLVE.NO_SYMLINKS } : {})
    this.#attach(what)
  }

  /** Binds a part of the root over itself with other attributes: read-only paths. A path that is not there is left out. */
  readonly(path: string): void {
    const p = this.#program
    this.#openIn(path, O_PATH, this.#target, { tolerate: [errno.ENOENT], skip: 5 })
    p.sys('child', 'open_tree', [this.#target, '', OPEN_TREE_CLONE | O_CLOEXEC | AT_EMPTY_PATH | AT_RECURSIVE], { out: this.#mount, doing: `make ${path} read-only` })
    p.sys('child', 'mount_setattr', [this.#mount, '', AT_EMPTY_PATH | AT_RECURSIVE, this.#attributes(MOUNT_ATTR.RDONLY, 0), 32], { doing: `make ${path} read-only` })
    this.#attach(`make ${path} read-only`)
  }

  /** Hides a path: a file under /dev/null, a directory under an empty read-only tmpfs. /dev/null is the host's, opened
   * before anything of the container's is looked at. */
  mask(path: string, nullDevice: Register): void {
    const p = this.#program
    const what = `mask ${path}`
    this.#openIn(path, O_PATH, this.#target, { tolerate: [errno.ENOENT, errno.ENOTDIR], skip: 10 })
    p.sys('child', 'open_tree', [nullDevice, '', OPEN_TREE_CLONE | O_CLOEXEC | AT_EMPTY_PATH], { out: this.#mount, doing: what })
    p.sys('child', 'move_mount', [this.#mount, '', this.#target, '', MOVE_EMPTY_PATHS], { doing: what, tolerate: [errno.ENOTDIR, errno.EINVAL], skip: 6, skipOnSuccess: true })
    p.sys('child', 'close', [this.#mount])
    p.sys('child', 'fsopen', ['tmpfs', 1], { out: this.#scratch, doing: what })
    p.sys('child', 'fsconfig', [this.#scratch, FSCONFIG.CREATE, 0, 0, 0], { doing: what })
    p.sys('child', 'fsmount', [this.#scratch, 1, MOUNT_ATTR.RDONLY], { out: this.#mount, doing: what })
    p.sys('child', 'move_mount', [this.#mount, '', this.#target, '', MOVE_EMPTY_PATHS], { doing: what })
    p.sys('child', 'close', [this.#scratch])
    p.sys('child', 'close', [this.#mount], { tolerate: 'all' })
    p.sys('child', 'close', [this.#target], { tolerate: 'all' })
  }

  /** A device node; in a user namespace, where mknod is refused, the host's node is bound instead. */
  device(device: Device, inUserNamespace: boolean): void {
    const p = this.#program
    const path = cleanPath(device.path)
    const what = `make the device ${path}`
    if (inUserNamespace) {
      this.bind(path, path, 'file', parseMountOptions(['bind']))
      return
    }
    const type = { c: S_IFCHR, u: S_IFCHR, b: S_IFBLK, p: S_IFIFO }[device.type]
    const name = posix.basename(path)
    this.#openParent(path)
    p.sys('child', 'unlinkat', [this.#parent, name, 0], { tolerate: [errno.ENOENT], doing: what })
    p.sys('child', 'mknodat', [this.#parent, name, type | (device.fileMode ?? 0o666) & 0o7777, makeDevice(device.major ?? 0, device.minor ?? 0)], { doing: what })
    if (device.uid || device.gid) p.sys('child', 'fchownat', [this.#parent, name, device.uid ?? 0, device.gid ?? 0, 0x100], { doing: what })
    p.sys('child', 'close', [this.#parent])
  }

  /** A symbolic link, unless something has its name. */
  link(target: string, path: string): void {
    this.#openParent(path)
    this.#program.sys('child', 'symlinkat', [target, this.#parent, posix.basename(path)], { tolerate: [errno.EEXIST, errno.EROFS], doing: `link ${path}` })
    this.#program.sys('child', 'close', [this.#parent])
  }

  /** An empty file, unless something has its name. */
  touch(path: string): void {
    this.#openParent(path)
    this.#program.sys('child', 'mknodat', [this.#parent, posix.basename(path), S_IFREG | 0o755, 0], { tolerate: [errno.EEXIST, errno.EROFS], doing: `make ${path}` })
    this.#program.sys('child', 'close', [this.#parent])
  }

  #openParent(path: string): void {
    const parent = posix.dirname(path)
    if (parent !== '/' && parent !== '/dev') {
      this.openTarget(parent, 'directory')
      this.#program.sys('child', 'dup', [this.#target], { out: this.#parent })
      this.#program.sys('child', 'close', [this.#target])
    } else this.#openIn(parent, O_PATH | O_DIRECTORY, this.#parent)
  }

  /** Binds an open descriptor (a terminal) over a file. */
  bindDescriptor(descriptor: Register, destination: string): void {
    this.#program.sys('child', 'open_tree', [descriptor, '', OPEN_TREE_CLONE | O_CLOEXEC | AT_EMPTY_PATH], { out: this.#mount, doing: `mount the terminal on ${destination}` })
    this.openTarget(destination, 'file')
    this.#attach(`mount the terminal on ${destination}`)
  }

  /** Writes a value below /proc/sys, once it is sure that it is procfs (CVE-2025-52881). */
  sysctl(name: string, value: string): void {
    const p = this.#program
    const path = '/proc/sys/' + name.replaceAll('.', '/')
    const fd = this.#scratch
    const statfs = p.space(128)
    this.#openIn(path, 1, fd)
    p.sys('child', 'fstatfs', [fd, statfs], { doing: `write sysctl key ${name}` })
    p.assert('child', { kind: 'word', at: statfs }, PROC_SUPER_MAGIC, errno.EINVAL, { doing: `write sysctl key ${name}: it is not procfs` })
    p.sys('child', 'write', [fd, value, Buffer.byteLength(value)], { doing: `write sysctl key ${name}` })
    p.sys('child', 'close', [fd])
  }

  /** Opens the slave and the master of a new terminal in the container's own devpts. */
  openTerminal(master: Register, slave: Register): void {
    const p = this.#program
    this.#openIn('/dev/pts/ptmx', constants.O_RDWR | constants.O_NOCTTY, master)
    openSlave(p, master, slave)
  }

  /** Mounts cgroups as a container sees them. */
  cgroups(mount: Mount, trees: CgroupTrees, cgroupPath: string, ownNamespace: boolean): void {
    const options = parseMountOptions(mount.options ?? [])
    const attributes = MOUNT_ATTR.NOSUID | MOUNT_ATTR.NODEV | MOUNT_ATTR.NOEXEC
    const readonly = options.set & MOUNT_ATTR.RDONLY
    if (trees.version === 2) {
      if (ownNamespace) this.mount('cgroup2', 'cgroup', mount.destination, { ...options, set: attributes | readonly, data: [] })
      else this.bind(posix.join(trees.trees.get('unified')!, cgroupPath), mount.destination, 'directory', { ...options, bind: true, recursive: true, set: attributes | readonly })
      return
    }
    this.mount('tmpfs', 'tmpfs', mount.destination, { ...parseMountOptions(['nosuid', 'nodev', 'noexec', 'mode=755']), set: attributes })
    const p = this.#program
    const seen = new Set<string>()
    // the tmpfs is new and nobody else's: names in it need no care
    this.#openIn(mount.destination, O_PATH | O_DIRECTORY, this.#parent)
    for (const [controller, mountPoint] of trees.trees) {
      const directory = posix.basename(mountPoint)
      if (controller !== directory && controller !== 'systemd') p.sys('child', 'symlinkat', [directory, this.#parent, controller], { tolerate: [errno.EEXIST], doing: `link ${controller}` })
      if (seen.has(mountPoint)) continue
      seen.add(mountPoint)
      const source = posix.join(mountPoint, cgroupPath)
      const what = `mount ${source} on ${mount.destination}/${directory}`
      this.#openTree(source, false, what)
      this.#setAttributes({ ...options, set: attributes | readonly, propagation: { type: MS.PRIVATE, recursive: false } }, what)
      p.sys('child', 'mkdirat', [this.#parent, directory, 0o755], { doing: what })
      p.sys('child', 'move_mount', [this.#mount, '', this.#parent, directory, MOVE_MOUNT_F_EMPTY_PATH], { doing: what })
      p.sys('child', 'close', [this.#mount])
    }
    p.sys('child', 'close', [this.#parent])
    if (readonly) this.remount(mount.destination, readonly)
  }

  /** Sets attributes of the mount at a path in the root. */
  remount(path: string, set: number): void {
    this.#openIn(path, O_PATH, this.#target)
    this.#program.sys('child', 'mount_setattr', [this.#target, '', AT_EMPTY_PATH, this.#attributes(set, 0), 32], { doing: `make ${path} read-only` })
    this.#program.sys('child', 'close', [this.#target])
  }
}

/** An absolute path without `.`, `..` and doubled slashes. A NUL or a relative path is refused. */
export function cleanPath(path: string): string {
  if (path.includes('\0')) throw invalid(`invalid path: ${JSON.stringify(path)}`)
  return posix.resolve('/', path)
}
