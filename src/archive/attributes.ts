import { readAttributes } from '../sys/fs.ts'

/** The extended attributes that belong in an archive: not those by which overlayfs keeps its books. */
export function keptAttributes(path: string, follow = false): Map<string, Buffer> {
  const attributes = readAttributes(path, follow)
  for (const name of attributes.keys()) if (name.startsWith('trusted.overlay.') || name === 'security.selinux') attributes.delete(name)
  return attributes
}
