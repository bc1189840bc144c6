/** Files and directories that the engine itself puts into a container's layer, which are no change of the container's. */
export const plumbing: readonly string[] = ['/.dockerenv', '/dev', '/proc', '/sys', '/etc/hosts', '/etc/hostname', '/etc/resolv.conf', '/etc/mtab', '/sbin/docker-init']
