/** The closed list of what can go wrong for a reason that a person can act on; everything else is a bug. */
export type ErrorKind =
  | 'invalid'
  | 'unauthorized'
  | 'forbidden'
  | 'not-found'
  | 'not-modified'
  | 'conflict'
  | 'unsupported'
  | 'unavailable'
  | 'cancelled'
  | 'system'

/** The one error class: a kind for programs, a sentence for people. */
export class BerthError extends Error {
  readonly kind: ErrorKind

  constructor(kind: ErrorKind, message: string, options?: { cause?: unknown }) {
    super(message, options)
    this.name = 'BerthError'
    this.kind = kind
  }
}

/** True where `error` is a BerthError, of the given kind if one is named. */
export function isKind(error: unknown, kind?: ErrorKind): error is BerthError {
  return error instanceof BerthError && (kind === undefined || error.kind === kind)
}

/** The sentence of any thrown value. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}

/** The code (`ENOENT`, …) of a system error, or undefined. */
export function codeOf(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : undefined
}

export const invalid = (message: string, cause?: unknown): BerthError => new BerthError('invalid', message, { cause })
export const notFound = (message: string, cause?: unknown): BerthError => new BerthError('not-found', message, { cause })
export const forbidden = (message: string, cause?: unknown): BerthError => new BerthError('forbidden', message, { cause })
export const conflict = (message: string, cause?: unknown): BerthError => new BerthError('conflict', message, { cause })
export const unsupported = (message: string, cause?: unknown): BerthError => new BerthError('unsupported', message, { cause })
export const unavailable = (message: string, cause?: unknown): BerthError => new BerthError('unavailable', message, { cause })
export const system = (message: string, cause?: unknown): BerthError => new BerthError('system', message, { cause })
