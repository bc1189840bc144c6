import { invalid, messageOf } from '../../lib/errors.ts'
import type { Architecture } from '../../sys/syscalls.ts'
import { defaultRules } from './default.ts'
import { kernelAtLeast } from '../../sys/kernel.ts'

export type SeccompAction =
  | 'SCMP_ACT_ALLOW' | 'SCMP_ACT_ERRNO' | 'SCMP_ACT_KILL' | 'SCMP_ACT_KILL_THREAD' | 'SCMP_ACT_KILL_PROCESS'
  | 'SCMP_ACT_LOG' | 'SCMP_ACT_TRACE' | 'SCMP_ACT_TRAP' | 'SCMP_ACT_NOTIFY'

export type SeccompOperator =
  | 'SCMP_CMP_NE' | 'SCMP_CMP_LT' | 'SCMP_CMP_LE' | 'SCMP_CMP_EQ' | 'SCMP_CMP_GE' | 'SCMP_CMP_GT' | 'SCMP_CMP_MASKED_EQ'

/** A comparison with a system call's argument. For MASKED_EQ, `value` is the mask and `valueTwo` what must remain. */
export interface SeccompArgument { index: number, value: number, valueTwo?: number, op: SeccompOperator }

/** A rule of Docker's profile format: OCI's `linux.seccomp.syscalls` with conditions. */
export interface SeccompRule {
  names: string[]
  action: SeccompAction
  errnoRet?: number
  args?: SeccompArgument[]
  includes?: SeccompCondition
  excludes?: SeccompCondition
}

export interface SeccompCondition { caps?: string[], arches?: string[], minKernel?: string }

/** OCI runtime-spec 1.2 `linux.seccomp`: what `compile.ts` turns into a filter. */
export interface Seccomp {
  defaultAction: SeccompAction
  defaultErrnoRet?: number
  architectures?: string[]
  flags?: string[]
  syscalls?: { names: string[], action: SeccompAction, errnoRet?: number, args?: SeccompArgument[] }[]
}

/** Docker's names of architectures (GOARCH) by the kernel's. */
const goArchitecture = { x86_64: 'amd64', aarch64: 'arm64' } as const
/** The architectures that a filter can know. */
export const architectures = ['SCMP_ARCH_X86', 'SCMP_ARCH_X86_64', 'SCMP_ARCH_X32', 'SCMP_ARCH_ARM', 'SCMP_ARCH_AARCH64']

const native: Record<'x86_64' | 'aarch64', string[]> = {
  x86_64: ['SCMP_ARCH_X86_64', 'SCMP_ARCH_X86', 'SCMP_ARCH_X32'],
  aarch64: ['SCMP_ARCH_AARCH64', 'SCMP_ARCH_ARM'],
}

/** What a profile's conditions are asked about. `kernel` is the release, as `uname -r` prints it. */
export interface SeccompContext { capabilities: readonly string[], architecture: 'x86_64' | 'aarch64', kernel: string }

/** Docker's default profile for a process with these capabilities. */
export function defaultSeccomp(context: SeccompContext): Seccomp {
  return { defaultAction: 'SCMP_ACT_ERRNO', defaultErrnoRet: 1, architectures: native[context.architecture], syscalls: select(defaultRules, context) }
}

interface ProfileFile extends Omit<Seccomp, 'syscalls'> {
  archMap?: { architecture: string, subArchitectures?: string[] | null }[]
  syscalls?: (Omit<SeccompRule, 'names'> & { name?: string, names?: string[] })[]
}

/** Reads a profile in Docker's JSON format (`--security-opt seccomp=FILE`; the client sends the file's text). */
export function parseSeccomp(text: string, context: SeccompContext): Seccomp {
  let profile: ProfileFile
  try {
    profile = JSON.parse(text)
  } catch (error) {
    throw invalid(`Decoding seccomp profile failed: ${messageOf(error)}`, error)
  }
  if (typeof profile !== 'object' || profile === null || typeof profile.defaultAction !== 'string')
    throw invalid('Decoding seccomp profile failed: it has no defaultAction')
  if (profile.architectures?.length && profile.archMap?.length) throw invalid("both 'architectures' and 'archMap' are specified in the seccomp profile, use either 'architectures' or 'archMap'")
  let architectures = profile.architectures ?? []
  const mapped = profile.archMap?.find((entry) => entry.architecture === native[context.architecture][0])
  if (mapped) architectures = [mapped.architecture, ...(mapped.subArchitectures ?? [])]
  const rules = (profile.syscalls ?? []).map((rule) => {
    if (rule.name && rule.names?.length) throw invalid("both 'name' and 'names' are specified in the seccomp profile, use either 'name' or 'names'")
    const named: SeccompRule = { ...rule, names: rule.name ? [rule.name] : (rule.names ?? []) }
    return named
  })
  const seccomp: Seccomp = { defaultAction: profile.defaultAction, architectures, syscalls: select(rules, context) }
  if (profile.defaultErrnoRet !== undefined) seccomp.defaultErrnoRet = profile.defaultErrnoRet
  if (profile.flags) seccomp.flags = profile.flags
  return seccomp
}

function select(rules: readonly SeccompRule[], context: SeccompContext): NonNullable<Seccomp['syscalls']> {
  return rules.filter((rule) => {
    const { includes, excludes } = rule
    if (excludes?.arches?.includes(goArchitecture[context.architecture])) return false
    if (excludes?.caps?.some((capability) => context.capabilities.includes(capability))) return false
    if (excludes?.minKernel && kernelAtLeast(context.kernel, excludes.minKernel)) return false
    if (includes?.arches?.length && !includes.arches.includes(goArchitecture[context.architecture])) return false
    if (includes?.caps?.some((capability) => !context.capabilities.includes(capability))) return false
    return !includes?.minKernel || kernelAtLeast(context.kernel, includes.minKernel)
  })
}

/** The kernel's name of a libseccomp architecture, or undefined for one that this machine can't run. */
export function architectureOf(name: string): Architecture | undefined {
  const known: Record<string, Architecture> = {
    SCMP_ARCH_X86_64: 'x86_64', SCMP_ARCH_X86: 'i386', SCMP_ARCH_X32: 'x32', SCMP_ARCH_AARCH64: 'aarch64', SCMP_ARCH_ARM: 'arm',
  }
  return known[name]
}
