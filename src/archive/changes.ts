import { closeSync, readSync, readdirSync } from 'node:fs'
import { syscall } from '../sys/ffi.ts'
import { O_CLOEXEC, O_DIRECTORY, O_NOFOLLOW, S_IFMT, fileTypes, readLinkAt, statusAt, type Status } from '../sys/fs.ts'
import { nr } from '../sys/syscalls.ts'
import { keptAttributes } from './attributes.ts'

/** A difference between two trees; the path is absolute and a byte string. */
export interface Change { path: string, kind: 'modified' | 'added' | 'deleted' }

/** What turns the tree at `before` into that at `after`, both open directories: parents before children, siblings in
 * byte order. A directory in which something was added or deleted counts as modified, as Docker has it. The paths in
 * `ignore`, and what is below them, are not looked at. */
export function compareTrees(before: number, after: number, ignore: readonly string[] = []): Change[] {
  const changes: Change[] = []
  compareDirectories(before, after, '', { changes, ignore: new Set(ignore) })
  return changes
}

const bytes = (name: string): Buffer => Buffer.from(name + '\0', 'latin1')
const isDirectory = (status: Status): boolean => (status.mode & S_IFMT) === fileTypes.directory

/** True where something below was added or deleted directly. */
function compareDirectories(before: number, after: number, path: string, walk: { changes: Change[], ignore: ReadonlySet<string> }): boolean {
  const { changes, ignore } = walk
  const old = new Set(readdirSync(`/proc/self/fd/${before}`, 'latin1'))
  const now = readdirSync(`/proc/self/fd/${after}`, 'latin1')
  let own = false
  for (const name of [...new Set([...old, ...now])].sort()) {
    const at = `${path}/${name}`
    if (ignore.has(at)) continue
    const was = old.has(name) ? statusAt(before, name) : -2
    const is = statusAt(after, name)
    if (typeof is === 'number') {
      if (typeof was !== 'number') {
        changes.push({ path: at, kind: 'deleted' })
        own = true
      }
    } else if (typeof was === 'number') {
      own = true
      changes.push({ path: at, kind: 'added' })
      if (isDirectory(is)) within(after, name, (child) => addAll(child, at, changes))
    } else if (isDirectory(was) && isDirectory(is)) {
      const place = changes.length
      let inner = false
      within(before, name, (oldChild) => within(after, name, (newChild) => {
        inner = compareDirectories(oldChild, newChild, at, walk)
      }))
      if (inner || changes.length > place || changed(was, is) || attributesDiffer(entry(before, name), entry(after, name))) changes.splice(place, 0, { path: at, kind: 'modified' })
    } else if (isDirectory(was) !== isDirectory(is)) {
      changes.push({ path: at, kind: 'modified' })
      if (isDirectory(is)) within(after, name, (child) => addAll(child, at, changes))
    } else if (changed(was, is) || (was.mode & S_IFMT) === fileTypes.symlink && readLinkAt(before, name) !== readLinkAt(after, name) || rewritten(before, after, name, was, is)) changes.push({ path: at, kind: 'modified' })
  }
  return own
}

function changed(was: Status, is: Status): boolean {
  return was.mode !== is.mode || was.uid !== is.uid || was.gid !== is.gid || was.major !== is.major || was.minor !== is.minor
    || (!isDirectory(is) && (was.size !== is.size || was.seconds !== is.seconds || was.nanoseconds !== is.nanoseconds))
}

const entry = (directory: number, name: string): string => `/proc/self/fd/${directory}/${name}`

function attributesDiffer(before: string, after: string): boolean {
  const [old, now] = [keptAttributes(before), keptAttributes(after)]
  return old.size !== now.size || [...now].some(([name, value]) => !old.get(name)?.equals(value))
}

/** Whether a file that looks as it did is another, and differs: what writes keeps sizes and times, as package managers do.
 * Trees that share the file share its inode. */
function rewritten(before: number, after: number, name: string, was: Status, is: Status): boolean {
  if (was.inode === is.inode || (is.mode & S_IFMT) !== fileTypes.file) return false
  return attributesDiffer(entry(before, name), entry(after, name)) || contentsDiffer(before, after, name)
}

const buffers = [Buffer.alloc(64 << 10), Buffer.alloc(64 << 10)] as const

function contentsDiffer(before: number, after: number, name: string): boolean {
  const fds = [before, after].map((directory) => syscall(nr('openat'), directory, bytes(name), O_NOFOLLOW | O_CLOEXEC))
  try {
    if (fds.some((fd) => fd < 0)) return true // gone meanwhile
    for (;;) {
      const [old, now] = fds.map((fd, i) => buffers[i]!.subarray(0, readSync(fd, buffers[i]!, 0, buffers[i]!.length, null)))
      if (!old!.equals(now!)) return true
      if (now!.length === 0) return false
    }
  } finally {
    for (const fd of fds) if (fd >= 0) closeSync(fd)
  }
}

function addAll(directory: number, path: string, changes: Change[]): void {
  for (const name of readdirSync(`/proc/self/fd/${directory}`, 'latin1').sort()) {
    const status = statusAt(directory, name)
    if (typeof status === 'number') continue
    changes.push({ path: `${path}/${name}`, kind: 'added' })
    if (isDirectory(status)) within(directory, name, (child) => addAll(child, `${path}/${name}`, changes))
  }
}

function within(parent: number, name: string, work: (fd: number) => void): void {
  const fd = syscall(nr('openat'), parent, bytes(name), O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
  if (fd < 0) return // gone meanwhile
  try {
    work(fd)
  } finally {
    closeSync(fd)
  }
}
