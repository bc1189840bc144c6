/** Files and directories that the engine itself puts into a container's layer, which are no change of the container's. */
export function isPlumbing(path: string): boolean {
  return ['/.dockerenv', '/dev', '/proc', '/sys', '/etc/hosts', '/etc/hostname', '/etc/resolv.conf', '/etc/mtab'].includes(path)
    || path.startsWith('/dev/') || path.startsWith('/proc/') || path.startsWith('/sys/')
}
