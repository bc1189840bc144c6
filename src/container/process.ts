import type { HostFacts } from './deps.ts'
import { invalid } from '../lib/errors.ts'
import { resolveCapabilities } from '../libcontainer/capabilities.ts'
import { defaultSeccomp, parseSeccomp, type Seccomp, type SeccompContext } from '../libcontainer/seccomp/profile.ts'
import type { ProcessSpec } from '../libcontainer/spec.ts'
import { machine } from '../sys/syscalls.ts'
import type { HostConfig } from './body.ts'
import type { ContainerRecord } from './record.ts'
import type { ResolvedUser } from './user.ts'

/** A process of a container, its first or a further one: who it is, and what it may do. */
export function processOf(record: ContainerRecord, user: ResolvedUser, facts: HostFacts): { process: ProcessSpec, seccomp: Seccomp | undefined, security: SecurityOptions } {
  const { config, host } = record
  const security = parseSecurityOptions(host.SecurityOpt ?? [])
  const capabilities = resolveCapabilities(host.CapAdd ?? [], host.CapDrop ?? [], host.Privileged)
  const held = user.uid === 0 ? capabilities : []
  return {
    process: {
      terminal: config.Tty,
      user: { uid: user.uid, gid: user.gid, additionalGids: user.groups },
      args: [record.path, ...record.args],
      env: environmentOf(record, user.home),
      cwd: config.WorkingDir || '/',
      capabilities: { bounding: capabilities, permitted: held, effective: held, inheritable: [], ambient: [] },
      rlimits: (host.Ulimits ?? []).map(({ Name, Soft, Hard }) => ({ type: `RLIMIT_${Name.toUpperCase()}`, soft: Soft, hard: Hard })),
      noNewPrivileges: security.noNewPrivileges,
      ...(host.OomScoreAdj && { oomScoreAdj: host.OomScoreAdj }),
      ...labelsOf(security, host, facts),
    },
    seccomp: seccompOf(security, host, { capabilities, architecture: machine, kernel: facts.kernel }),
    security,
  }
}

const PATH = 'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'

/** The container's environment: Docker's own, then what image and client say, the last of a name winning. */
function environmentOf(record: ContainerRecord, home: string): string[] {
  const { config } = record
  const base = [PATH, `HOSTNAME=${hostnameOf(record)}`, ...(config.Tty ? ['TERM=xterm'] : [])]
  const merged = mergeEnvironment(base, config.Env)
  if (!merged.some((entry) => entry.startsWith('HOME='))) merged.push(`HOME=${home}`)
  return merged
}

/** Later entries replace earlier ones of the same name; a name without `=` takes the variable away. */
export function mergeEnvironment(base: readonly string[], more: readonly string[]): string[] {
  const merged = new Map<string, string | undefined>()
  for (const entry of [...base, ...more]) {
    const equals = entry.indexOf('=')
    merged.set(equals < 0 ? entry : entry.slice(0, equals), equals < 0 ? undefined : entry)
  }
  return [...merged.values()].filter((entry) => entry !== undefined)
}

export function hostnameOf({ id, config, host }: ContainerRecord): string {
  if (config.Hostname) return config.Hostname
  return host.UTSMode === 'host' || host.NetworkMode === 'host' ? '' : id.slice(0, 12)
}

/** Security options, taken apart. */
export interface SecurityOptions { seccomp?: string, apparmor?: string, labels: string[], noNewPrivileges: boolean, unmasked: boolean, writableCgroups: boolean }

/** Reads `--security-opt` in its forms, `=` or the old `:`. */
export function parseSecurityOptions(options: readonly string[]): SecurityOptions {
  const parsed: SecurityOptions = { labels: [], noNewPrivileges: false, unmasked: false, writableCgroups: false }
  for (const option of options) {
    if (option === 'no-new-privileges') {
      parsed.noNewPrivileges = true
      continue
    }
    if (option === 'disable') {
      parsed.labels.push(option)
      continue
    }
    const match = /^([a-z-]+)[=:](.*)$/s.exec(option)
    if (!match) throw invalid(`invalid --security-opt 1: ${JSON.stringify(option)}`)
    const [, name, value = ''] = match
    switch (name) {
      case 'seccomp': parsed.seccomp = value; break
      case 'apparmor': parsed.apparmor = value; break
      case 'label': parsed.labels.push(value); break
      case 'no-new-privileges': {
        if (value !== 'true' && value !== 'false') throw invalid(`invalid --security-opt 2: ${JSON.stringify(option)}`)
        parsed.noNewPrivileges = value === 'true'
        break
      }
      case 'systempaths': {
        if (value !== 'unconfined') throw invalid(`invalid --security-opt 2: ${JSON.stringify(option)}`)
        parsed.unmasked = true
        break
      }
      case 'writable-cgroups': parsed.writableCgroups = value === 'true'; break
      default: throw invalid(`invalid --security-opt 2: ${JSON.stringify(option)}`)
    }
  }
  return parsed
}

const profiles = new Map<string, Seccomp>()

/** Compiling a policy takes a millisecond: equal ones are one object, by which its filter is found again. */
function seccompOf(security: SecurityOptions, host: HostConfig, context: SeccompContext): Seccomp | undefined {
  if (security.seccomp === 'unconfined' || (host.Privileged && security.seccomp === undefined)) return undefined
  const key = `${security.seccomp ?? ''}\n${context.capabilities.join()}`
  let profile = profiles.get(key)
  if (!profile) {
    profile = security.seccomp === undefined || security.seccomp === 'builtin' ? defaultSeccomp(context) : parseSeccomp(security.seccomp, context)
    if (profiles.size > 100) profiles.clear()
    profiles.set(key, profile)
  }
  return profile
}

/** Words on what was asked of security modules that the kernel has not: as limits that it lacks, that is discarded. */
export function discardedLabels({ apparmor, labels }: Pick<SecurityOptions, 'apparmor' | 'labels'>, facts: HostFacts): string[] {
  const wanted = labels.filter((label) => label !== 'disable').join()
  return [
    ...(apparmor && apparmor !== 'unconfined' && !facts.apparmor ? [`AppArmor is not enabled in this kernel. Profile ${JSON.stringify(apparmor)} discarded.`] : []),
    ...(wanted && !facts.selinux ? [`SELinux is not enabled in this kernel. Label ${JSON.stringify(wanted)} discarded.`] : []),
  ]
}

/** What the security modules of the kernel are told of a container. */
export function labelsOf({ apparmor, labels }: Pick<SecurityOptions, 'apparmor' | 'labels'>, host: HostConfig, facts: HostFacts): { apparmorProfile?: string, selinuxLabel?: string } {
  const wanted = facts.selinux ? labels.filter((label) => label !== 'disable') : []
  const profile = apparmor ?? (host.Privileged ? undefined : facts.apparmorProfile)
  if (facts.apparmor && profile && profile !== 'unconfined') return { apparmorProfile: profile }
  if (!wanted.length) return {}
  const part = (name: string, otherwise: string): string => wanted.find((label) => label.startsWith(`${name}:`))?.slice(name.length + 1) ?? otherwise
  return { selinuxLabel: `${part('user', 'system_u')}:${part('role', 'system_r')}:${part('type', 'container_t')}:${part('level', 's0')}` }
}
