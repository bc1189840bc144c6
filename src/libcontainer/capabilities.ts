import { readFileSync } from 'node:fs'
import { invalid } from '../lib/errors.ts'

/** All capabilities by number (capabilities(7)). */
export const capabilityNames = [
  'CAP_CHOWN', 'CAP_DAC_OVERRIDE', 'CAP_DAC_READ_SEARCH', 'CAP_FOWNER', 'CAP_FSETID', 'CAP_KILL', 'CAP_SETGID',
  'CAP_SETUID', 'CAP_SETPCAP', 'CAP_LINUX_IMMUTABLE', 'CAP_NET_BIND_SERVICE', 'CAP_NET_BROADCAST', 'CAP_NET_ADMIN',
  'CAP_NET_RAW', 'CAP_IPC_LOCK', 'CAP_IPC_OWNER', 'CAP_SYS_MODULE', 'CAP_SYS_RAWIO', 'CAP_SYS_CHROOT',
  'CAP_SYS_PTRACE', 'CAP_SYS_PACCT', 'CAP_SYS_ADMIN', 'CAP_SYS_BOOT', 'CAP_SYS_NICE', 'CAP_SYS_RESOURCE',
  'CAP_SYS_TIME', 'CAP_SYS_TTY_CONFIG', 'CAP_MKNOD', 'CAP_LEASE', 'CAP_AUDIT_WRITE', 'CAP_AUDIT_CONTROL',
  'CAP_SETFCAP', 'CAP_MAC_OVERRIDE', 'CAP_MAC_ADMIN', 'CAP_SYSLOG', 'CAP_WAKE_ALARM', 'CAP_BLOCK_SUSPEND',
  'CAP_AUDIT_READ', 'CAP_PERFMON', 'CAP_BPF', 'CAP_CHECKPOINT_RESTORE',
] as const

/** What a container's root may do unless asked otherwise: Docker's list. */
export const defaultCapabilities: readonly string[] = [
  'CAP_CHOWN', 'CAP_DAC_OVERRIDE', 'CAP_FSETID', 'CAP_FOWNER', 'CAP_MKNOD', 'CAP_NET_RAW', 'CAP_SETGID', 'CAP_SETUID',
  'CAP_SETFCAP', 'CAP_SETPCAP', 'CAP_NET_BIND_SERVICE', 'CAP_SYS_CHROOT', 'CAP_KILL', 'CAP_AUDIT_WRITE',
]

let held: readonly string[] | undefined

/** The capabilities in this process's bounding set: nothing more can be given to a container. */
export function availableCapabilities(): readonly string[] {
  if (!held) {
    const line = /^CapBnd:\s*([0-9a-f]+)/m.exec(readFileSync('/proc/self/status', 'utf8'))
    held = namesOf(BigInt('0x' + (line?.[1] ?? '0')))
  }
  return held
}

/** The names of the bits in a mask. */
export function namesOf(mask: bigint): string[] {
  return capabilityNames.filter((_, bit) => (mask >> BigInt(bit)) & 1n)
}

/** The mask of a list of names; names that this berth doesn't know are left out, as runc does with a warning. */
export function maskOf(names: readonly string[]): bigint {
  return names.reduce((mask, name) => {
    const bit = capabilityNames.indexOf(name as (typeof capabilityNames)[number])
    return bit < 0 ? mask : mask | (1n << BigInt(bit))
  }, 0n)
}

function normalize(names: readonly string[], field: 'CapAdd' | 'CapDrop'): string[] {
  return names.map((raw) => {
    const upper = raw.toUpperCase()
    if (upper === 'ALL') return 'ALL'
    const name = upper.startsWith('CAP_') ? upper : `CAP_${upper}`
    if (!capabilityNames.includes(name as (typeof capabilityNames)[number])) throw invalid(`invalid ${field}: unknown capability: ${JSON.stringify(name)}`)
    if (!availableCapabilities().includes(name)) throw invalid(`invalid ${field}: the engine itself does not have capability ${JSON.stringify(name)}`)
    return name
  })
}

/** The set that `--cap-add`, `--cap-drop` and `--privileged` make of the default one, in Docker's way: ALL in add is
 * all but the dropped, ALL in drop is only the added. Names come with or without CAP_. */
export function resolveCapabilities(add: readonly string[], drop: readonly string[], privileged: boolean): string[] {
  if (privileged) return [...availableCapabilities()]
  const added = normalize(add, 'CapAdd')
  const dropped = normalize(drop, 'CapDrop')
  if (added.includes('ALL')) return availableCapabilities().filter((name) => !dropped.includes(name))
  if (dropped.includes('ALL')) return [...new Set(added)]
  const kept = defaultCapabilities.filter((name) => !dropped.includes(name) && availableCapabilities().includes(name))
  return [...new Set([...kept, ...added])]
}
