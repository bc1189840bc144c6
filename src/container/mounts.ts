import { existsSync } from 'node:fs'
import { posix } from 'node:path'
import { invalid, unsupported } from '../lib/errors.ts'
import { parseMountOptions } from '../libcontainer/mountflags.ts'
import type { Mount } from '../libcontainer/spec.ts'
import type { ContainerConfig, HostConfig } from './body.ts'

interface Place {
  /** An absolute path in the container. */
  destination: string
  writable: boolean
  /** The options as written, for `docker inspect`. */
  mode: string
}

/** A host path in a container. */
export interface BindPoint extends Place {
  type: 'bind'
  source: string
  recursive: boolean
  /** Read-only for the mounts below too. */
  readonlyRecursive: boolean
  /** '' where nobody asked for one. */
  propagation: string
  /** Make a directory where the source is missing. */
  createSource: boolean
}

/** A volume in a container. */
export interface VolumePoint extends Place {
  type: 'volume'
  /** '' until it has got one. */
  name: string
  driver: string
  /** Its path on the host, as far as that is known. */
  source: string
  /** An empty volume gets what the image has at the destination. */
  copy: boolean
  subpath: string
  /** What the volume is to be, if it has to be made. */
  options: Record<string, string>
  labels: Record<string, string>
  /** Nobody named it: it goes with this container, where that is asked. */
  anonymous: boolean
}

/** A file system in memory, of `--mount`: those of `--tmpfs` are not listed. */
export interface TmpfsPoint extends Place { type: 'tmpfs', options: string }

/** An image's files in a container, which are only read. `image` is its id. */
export interface ImagePoint extends Place { type: 'image', reference: string, image: string, subpath: string }

/** What is mounted in a container beside what all have. */
export type MountPoint = BindPoint | VolumePoint | TmpfsPoint | ImagePoint

const propagations = new Set(['private', 'rprivate', 'shared', 'rshared', 'slave', 'rslave'])
const labelModes = new Set(['z', 'Z'])
const consistencies = new Set(['consistent', 'cached', 'delegated', 'default'])

interface Mode { writable: boolean, propagation?: string, copy?: boolean, recursive?: boolean }

/** Reads an option list of `-v`: at most one of each kind. Undefined where it is not one. */
function parseMode(mode: string): Mode | undefined {
  const parsed: Mode = { writable: true }
  const kinds = new Set<string>()
  for (const option of mode.split(',')) {
    const kind = option === 'ro' || option === 'rw' ? 'access' : propagations.has(option) ? 'propagation' : option === 'rbind' || option === 'bind' ? 'recursion' : option === 'nocopy' ? 'copy' : labelModes.has(option) ? 'label' : consistencies.has(option) ? 'consistency' : undefined
    if (kind === undefined || kinds.has(kind)) return undefined
    kinds.add(kind)
    if (kind === 'access') parsed.writable = option === 'rw'
    else if (kind === 'propagation') parsed.propagation = option
    else if (kind === 'recursion') parsed.recursive = option === 'rbind'
    else if (kind === 'copy') parsed.copy = false
  }
  return parsed
}

/** Reads `-v [SOURCE:]TARGET[:OPTIONS]`; a source that is no path names a volume. */
export function parseBind(text: string, driver = ''): BindPoint | VolumePoint {
  const parts = text.split(':')
  const bad = (why: string): Error => invalid(`invalid volume specification: '${text}'${why && `: ${why}`}`)
  if (parts.length > 3 || parts.some((part, at) => part === '' && at < 2)) throw bad('')
  if (parts.length === 2 && parseMode(parts[1]!)) throw bad('') // a place and options make no volume
  const [source = '', target = '', mode = ''] = parts.length === 1 ? ['', ...parts] : parts
  const parsed: Mode | undefined = mode ? parseMode(mode) : { writable: true }
  if (!parsed) throw invalid(`invalid mode: ${mode}`)
  const type = source.startsWith('/') ? 'bind' : 'volume'
  const within = (why: string): Error => bad(`invalid mount config for type "${type}": ${why}`)
  const destination = checkDestination(target, within)
  if (type === 'bind') {
    if (parsed.copy !== undefined) throw within('field VolumeOptions must not be specified')
    return { type, source: posix.normalize(source), destination, writable: parsed.writable, recursive: parsed.recursive ?? true, readonlyRecursive: true, propagation: parsed.propagation ?? '', mode, createSource: true }
  }
  if (parsed.propagation !== undefined || parsed.recursive !== undefined) throw within('field BindOptions must not be specified')
  if (!source && !parsed.writable) throw within('must not set ReadOnly mode when using anonymous volumes')
  return { type, name: source, driver, source: '', destination, writable: parsed.writable, mode, copy: parsed.copy ?? true, subpath: '', options: {}, labels: {}, anonymous: !source }
}

export type MountBody = NonNullable<HostConfig['Mounts']>[number]

/** Reads one of the API's Mount. */
export function parseMount(mount: MountBody, driver = ''): MountPoint {
  const within = (why: string): Error => invalid(`invalid mount config for type "${mount.Type}": ${why}`)
  const only = (own: 'BindOptions' | 'VolumeOptions' | 'TmpfsOptions' | 'ImageOptions' | undefined): void => {
    for (const name of ['BindOptions', 'VolumeOptions', 'TmpfsOptions', 'ImageOptions'] as const) if (name !== own && mount[name]) throw within(`field ${name} must not be specified`)
  }
  if (!mount.Target) throw within('field Target must not be empty')
  const destination = checkDestination(mount.Target, within)
  const place = { destination, writable: !mount.ReadOnly, mode: '' }
  switch (mount.Type) {
    case 'bind': {
      only('BindOptions')
      const { Propagation, NonRecursive = false, ReadOnlyNonRecursive = false, ReadOnlyForceRecursive = false, CreateMountpoint = false } = mount.BindOptions ?? {}
      if (!mount.Source) throw within('field Source must not be empty')
      if (Propagation && !propagations.has(Propagation)) throw within(`invalid propagation mode: ${Propagation}`)
      if (!mount.Source.startsWith('/')) throw within(`invalid mount path: '${mount.Source}' mount path must be absolute`)
      if (ReadOnlyForceRecursive && (NonRecursive || ReadOnlyNonRecursive)) throw within('ReadOnlyForceRecursive goes neither with NonRecursive nor with ReadOnlyNonRecursive')
      if (!CreateMountpoint && !existsSync(mount.Source)) throw within(`bind source path does not exist: ${mount.Source}`)
      return { type: 'bind', ...place, source: posix.normalize(mount.Source), recursive: !NonRecursive, readonlyRecursive: !ReadOnlyNonRecursive, propagation: Propagation ?? '', createSource: CreateMountpoint }
    }
    case 'volume': {
      only('VolumeOptions')
      const { NoCopy = false, Labels = {}, Subpath = '', DriverConfig } = mount.VolumeOptions ?? {}
      if (!mount.Source && mount.ReadOnly) throw within('must not set ReadOnly mode when using anonymous volumes')
      if (Subpath && !mount.Source) throw within('must not set Subpath when using anonymous volumes')
      return { type: 'volume', ...place, name: mount.Source, driver: DriverConfig?.Name || driver, source: '', copy: !NoCopy, subpath: checkSubpath(Subpath, within), options: DriverConfig?.Options ?? {}, labels: Labels, anonymous: !mount.Source }
    }
    case 'tmpfs': {
      only('TmpfsOptions')
      if (mount.Source) throw within('field Source must not be specified')
      const { SizeBytes = 0, Mode = 0, Options = [] } = mount.TmpfsOptions ?? {}
      const options = [mount.ReadOnly ? 'ro' : '', SizeBytes ? `size=${SizeBytes}` : '', Mode ? `mode=${Mode.toString(8)}` : '', ...(Options ?? []).map((pair) => pair.join('='))]
      const text = options.filter(Boolean).join(',')
      checkTmpfsOptions(text)
      return { type: 'tmpfs', ...place, options: text }
    }
    case 'image':
      only('ImageOptions')
      if (!mount.Source) throw within('field Source must not be empty')
      return { type: 'image', ...place, writable: false, reference: mount.Source, image: '', subpath: checkSubpath(mount.ImageOptions?.Subpath ?? '', within) }
    case 'cluster': throw unsupported('cluster volumes need swarm mode')
    default: throw within('mount type unknown')
  }
}

/** A mount's place in a container: an absolute path that is not `/`. */
function checkDestination(target: string, within: (why: string) => Error): string {
  if (!target.startsWith('/')) throw within(`invalid mount path: '${target}' mount path must be absolute`)
  const clean = posix.resolve('/', target)
  if (clean === '/') throw within("invalid specification: destination can't be '/'")
  return clean
}

function checkSubpath(path: string, within: (why: string) => Error): string {
  if (path && (path.startsWith('/') || posix.normalize(path).split('/')[0] === '..')) throw within('subpath must be a relative path within the volume')
  return path
}

/** What is mounted in a container: what others lend it, what the client asked for, and, where that leaves room, what the
 * image wants to be volumes. `lender` finds the mounts of the container of a name. */
export function mountPointsOf(config: ContainerConfig, host: HostConfig, lender: (name: string) => readonly MountPoint[]): MountPoint[] {
  const points = new Map<string, MountPoint>()
  for (const text of host.VolumesFrom ?? []) for (const point of lentBy(text, lender)) points.set(point.destination, point)
  const asked = new Set(Object.keys(host.Tmpfs ?? {}).map((target) => posix.resolve('/', target)))
  for (const point of [...(host.Binds ?? []).map((text) => parseBind(text, host.VolumeDriver)), ...(host.Mounts ?? []).map((mount) => parseMount(mount, host.VolumeDriver))]) {
    if (asked.has(point.destination)) throw invalid(`Duplicate mount point: ${point.destination}`)
    asked.add(point.destination)
    points.set(point.destination, point)
  }
  for (const target of Object.keys(config.Volumes)) {
    const point = parseBind(target, host.VolumeDriver)
    if (!points.has(point.destination) && !asked.has(point.destination)) points.set(point.destination, point)
  }
  return [...points.values()]
}

/** `NAME[:MODE]` of `--volumes-from`. */
function lentBy(text: string, lender: (name: string) => readonly MountPoint[]): MountPoint[] {
  const colon = text.indexOf(':')
  const [name, mode] = colon < 0 ? [text, ''] : [text.slice(0, colon), text.slice(colon + 1)]
  if (!name) throw invalid(`malformed volumes-from specification: ${text}`)
  const parsed: Mode | undefined = mode ? parseMode(mode) : { writable: true }
  if (!parsed || parsed.propagation !== undefined || parsed.copy !== undefined) throw invalid(`invalid mode: ${mode}`)
  return lender(name).map((point) => ({ ...point, writable: point.writable && parsed.writable, mode, ...(point.type === 'volume' && { copy: false, anonymous: false }) }))
}

/** Where something is mounted in a container: its mounts, and those of `--tmpfs`. */
export function destinationsOf({ mounts, host }: { mounts: readonly MountPoint[], host: Pick<HostConfig, 'Tmpfs'> }): string[] {
  return [...mounts.map(({ destination }) => destination), ...Object.keys(host.Tmpfs ?? {})]
}

/** What tmpfs itself reads (kernel: filesystems/tmpfs). */
const tmpfsOptions = new Set(['size', 'mode', 'uid', 'gid', 'nr_inodes', 'nr_blocks', 'mpol', 'huge', 'noswap', 'inode32', 'inode64'])

/** Refuses options that a tmpfs does not have. */
export function checkTmpfsOptions(options: string): void {
  for (const { key, value } of parseMountOptions(options.split(',')).data)
    if (!tmpfsOptions.has(key)) throw invalid(`invalid tmpfs option [${[key, ...(value === undefined ? [] : [value])].map((part) => JSON.stringify(part)).join(' ')}]`)
}

/** A mount of `--tmpfs`, or of `--mount type=tmpfs`. */
export function tmpfsMount(destination: string, options: string): Mount {
  return { destination, type: 'tmpfs', source: 'tmpfs', options: ['noexec', 'nosuid', 'nodev', ...options.split(',').filter(Boolean)] }
}
