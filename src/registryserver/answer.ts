import { BerthError, isKind, messageOf } from '../lib/errors.ts'

/** What a registry refuses, by its code (OCI distribution-spec 1.1, "Error Codes"; distribution's own for the last). */
const statuses = {
  BLOB_UNKNOWN: 404, BLOB_UPLOAD_INVALID: 400, BLOB_UPLOAD_UNKNOWN: 404, DIGEST_INVALID: 400, MANIFEST_BLOB_UNKNOWN: 404, MANIFEST_INVALID: 400, MANIFEST_UNKNOWN: 404, NAME_INVALID: 400, NAME_UNKNOWN: 404, SIZE_INVALID: 400,
  UNAUTHORIZED: 401, DENIED: 403, UNSUPPORTED: 405, TOOMANYREQUESTS: 429, RANGE_INVALID: 416, TAG_INVALID: 400, PAGINATION_NUMBER_INVALID: 400, UNAVAILABLE: 503, UNKNOWN: 500,
} as const

export type Code = keyof typeof statuses

/** The error of a code; its cause says more to programs. */
export function refuse(code: Code, message: string, { detail, status = statuses[code], headers }: { detail?: unknown, status?: number, headers?: Record<string, string> } = {}): BerthError {
  return new BerthError('invalid', message, { cause: { refusal: { code, detail, status, headers } } })
}

interface Refused { code: Code, detail?: unknown, status: number, headers?: Record<string, string> }

/** How an error is answered. */
export function answerOf(error: unknown): { status: number, headers: Record<string, string>, body: string } {
  const cause = error instanceof BerthError ? error.cause as { refusal?: Refused } | undefined : undefined
  const { code, detail, status, headers = {} } = cause?.refusal ?? (isKind(error, 'not-found') ? { code: 'UNKNOWN', status: 404 } as const : isKind(error, 'unavailable') ? { code: 'UNAVAILABLE', status: 503 } as const : { code: 'UNKNOWN', status: 500 } as const)
  return { status, headers, body: JSON.stringify({ errors: [{ code, message: messageOf(error), ...(detail !== undefined && { detail }) }] }) + '\n' }
}

/** True for what is no fault of whoever asked. */
export function isFault(error: unknown): boolean {
  return answerOf(error).status >= 500
}
