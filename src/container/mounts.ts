import { posix } from 'node:path'
import { invalid, unsupported } from '../lib/errors.ts'

/** A host path in a container. */
export interface BindMount {
  source: string
  destination: string
  readonly: boolean
  recursive: boolean
  /** Read-only for the mounts below too. */
  readonlyRecursive: boolean
  propagation: string
  /** The options as written, for `docker inspect`. */
  mode: string
  /** Make a directory where the source is missing. */
  createSource: boolean
}

const propagations = new Set(['private', 'rprivate', 'shared', 'rshared', 'slave', 'rslave'])

/** Reads `-v SOURCE:TARGET[:OPTIONS]`. */
export function parseBind(text: string): BindMount {
  const parts = text.split(':')
  const bad = (why: string): Error => invalid(`invalid volume specification: '${text}'${why && `: ${why}`}`)
  if (parts.length > 3 || parts.some((part, i) => part === '' && i < 2)) throw bad('')
  if (parts.length === 1) throw unsupported(`volumes are not supported: ${JSON.stringify(text)}`)
  const [source = '', target = '', mode = ''] = parts
  if (!source.startsWith('/')) throw unsupported(`volumes are not supported: ${JSON.stringify(text)} does not begin with a path on the host`)
  const destination = checkDestination(target, text)
  const bind: BindMount = { source: posix.normalize(source), destination, readonly: false, recursive: true, readonlyRecursive: true, propagation: 'rprivate', mode, createSource: true }
  for (const option of mode.split(',').filter(Boolean)) {
    if (option === 'ro') bind.readonly = true
    else if (propagations.has(option)) bind.propagation = option
    else if (option === 'rbind') bind.recursive = true
    else if (option === 'bind') bind.recursive = false
    else if (option !== 'rw' && option !== 'z' && option !== 'Z' && option !== 'nocopy' && option !== 'consistent' && option !== 'cached' && option !== 'delegated') throw bad(`invalid mode: ${mode}`)
  }
  return bind
}

/** A mount's place in a container: an absolute path that is not `/`. */
export function checkDestination(target: string, text: string): string {
  if (!target.startsWith('/')) throw invalid(`invalid volume specification: '${text}': invalid mount config for type "bind": invalid mount path: '${target}' mount path must be absolute`)
  const clean = posix.resolve('/', target)
  if (clean === '/') throw invalid(`invalid volume specification: '${text}': invalid mount config for type "bind": invalid specification: destination can't be '/'`)
  return clean
}
