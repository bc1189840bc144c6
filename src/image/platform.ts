import { invalid } from '../lib/errors.ts'
import { goArchitecture, type ImageConfig } from './image.ts'

/** What an image is made for, in Go's words. */
export interface Platform { os: string, architecture: string, variant?: string }

const systems = new Set(['linux', 'windows', 'darwin', 'freebsd'])
const aliases: Record<string, string> = { x86_64: 'amd64', 'x86-64': 'amd64', aarch64: 'arm64', armhf: 'arm/v7', armel: 'arm/v6', i386: '386', i686: '386' }
const architectures = new Set(['386', 'amd64', 'arm', 'arm64', 'loong64', 'mips64', 'mips64le', 'ppc64le', 'riscv64', 's390x'])

/** Reads `OS`, `ARCHITECTURE`, `OS/ARCHITECTURE` or `OS/ARCHITECTURE/VARIANT`, as `--platform` takes it. */
export function parsePlatform(text: string): Platform {
  const parts = text.toLowerCase().split('/').flatMap((part) => (aliases[part] ?? part).split('/'))
  const [first = ''] = parts
  const fail = (): Error => invalid(`${JSON.stringify(text)}: cannot parse platform specifier: invalid argument`)
  if (parts.length > 3 || parts.some((part) => !/^[a-z0-9_-]+$/.test(part))) throw fail()
  if (parts.length === 1 && systems.has(first)) return { os: first, architecture: goArchitecture }
  const [os = '', architecture = '', variant] = architectures.has(first) ? ['linux', ...parts] : parts
  if (!architecture) throw fail()
  return { os, architecture, ...(variant && !(architecture === 'arm64' && variant === 'v8') && { variant }) }
}

export function platformOf({ os, architecture, variant }: ImageConfig): Platform {
  return { os: os || 'linux', architecture: architecture || goArchitecture, ...(variant && { variant }) }
}

/** `linux/arm/v7`. */
export function formatPlatform({ os, architecture, variant }: Platform): string {
  return [os, architecture, variant].filter(Boolean).join('/')
}

/** True where an image for one platform is what was asked for by the other, whose variant may be left open. */
export function matchesPlatform(image: Platform, wanted: Platform): boolean {
  return image.os === wanted.os && image.architecture === wanted.architecture && (!wanted.variant || !image.variant || image.variant === wanted.variant)
}

/** Variants that run where another does, best first (OCI image-spec, "Platform Variants"). */
function runsOn({ architecture, variant }: Platform): (string | undefined)[] {
  const number = Number(variant?.slice(1) ?? '')
  if (architecture === 'arm') return Array.from({ length: Math.max(1, (number || 7) - 4) }, (_, at) => `v${(number || 7) - at}`).concat('').map((name) => name || undefined)
  if (architecture === 'arm64') return [variant ?? 'v8', 'v8', undefined]
  if (architecture === 'amd64') return [...Array.from({ length: number || 1 }, (_, at) => `v${(number || 1) - at}`), undefined]
  return [variant, undefined]
}

/** Of an index's manifests, the one for a platform, or for this machine. One that does not say what it is for is taken
 * where no other fits. */
export function choosePlatform<T extends { platform?: Platform }>(manifests: readonly T[], wanted: Platform | undefined): T | undefined {
  const target = wanted ?? { os: 'linux', architecture: goArchitecture }
  const fitting = manifests.filter(({ platform }) => platform?.os === target.os && platform.architecture === target.architecture)
  for (const variant of runsOn(target)) {
    const found = fitting.find(({ platform }) => (platform!.variant || undefined) === variant)
    if (found) return found
  }
  return manifests.find(({ platform }) => !platform)
}
