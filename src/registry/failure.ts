import type { IncomingMessage } from 'node:http'
import { BerthError, codeOf, messageOf, type ErrorKind } from '../lib/errors.ts'

/** What a registry said instead of what was asked for: the cause of the error that is thrown. */
export interface Refusal {
  status: number
  /** Its codes (OCI distribution-spec, "Error Codes"): `MANIFEST_UNKNOWN`, `DENIED`, … */
  codes: readonly string[]
  /** Milliseconds after which to come again, if it says. */
  retryAfter?: number
}

/** What the registry said, where an error comes of that. */
export function refusalOf(error: unknown): Refusal | undefined {
  const cause = error instanceof BerthError ? error.cause : undefined
  return typeof cause === 'object' && cause !== null && 'codes' in cause ? cause as Refusal : undefined
}

const MAX_TEXT = 64 << 10

/** Reads at most `limit` bytes of an answer; more is an error of the registry's. */
export async function bodyOf(response: IncomingMessage, limit = MAX_TEXT): Promise<Buffer> {
  const chunks: Buffer[] = []
  let length = 0
  try {
    for await (const chunk of response) {
      length += (chunk as Buffer).length
      if (length > limit) throw new BerthError('invalid', `the registry's answer is larger than ${limit} bytes`)
      chunks.push(chunk as Buffer)
    }
  } catch (error) {
    if (error instanceof BerthError) throw error
    throw new BerthError('unavailable', `the registry's answer ends early: ${messageOf(error)}`, { cause: error })
  }
  return Buffer.concat(chunks)
}

/** The error that an answer is, worded as Docker's registry client does: `CODE: message`. */
export async function refused(response: IncomingMessage, method: string, url: string): Promise<BerthError> {
  const status = response.statusCode ?? 0
  const text = method === 'HEAD' ? '' : (await bodyOf(response).catch(() => Buffer.alloc(0))).toString('utf8')
  let errors: { code?: unknown, message?: unknown }[] = []
  let details = ''
  try {
    const body = JSON.parse(text) as { errors?: unknown, details?: unknown, message?: unknown }
    if (Array.isArray(body.errors)) errors = body.errors.filter((item) => typeof item === 'object' && item !== null) as typeof errors
    details = [body.details, body.message].find((item) => typeof item === 'string') as string | undefined ?? ''
  } catch {
    // a proxy's page, say: then the status says it
  }
  const codes = errors.flatMap(({ code }) => (typeof code === 'string' ? [code] : []))
  const said = errors.map(({ code, message }) => `${String(code ?? 'unknown').toLowerCase().replaceAll('_', ' ')}: ${String(message ?? 'unknown error')}`).join('; ')
  const retryAfter = retryAfterOf(response)
  const refusal: Refusal = { status, codes, ...(retryAfter !== undefined && { retryAfter }) }
  return new BerthError(kindOf(status), said || details || wordsOf(status, method, url), { cause: refusal })
}

function kindOf(status: number): ErrorKind {
  if (status === 401) return 'unauthorized'
  if (status === 403) return 'forbidden'
  if (status === 404) return 'not-found'
  if (status === 429 || status === 408 || status >= 500 && status !== 501) return 'unavailable'
  return 'system'
}

function wordsOf(status: number, method: string, url: string): string {
  if (status === 401) return 'unauthorized: authentication required'
  if (status === 403) return 'denied: requested access to the resource is denied'
  if (status === 429) return 'toomanyrequests: too many requests'
  return `received unexpected HTTP status: ${status} for ${method} ${url}`
}

function retryAfterOf({ headers }: IncomingMessage): number | undefined {
  const value = headers['retry-after']
  if (!value) return undefined
  if (/^\d+$/.test(value)) return Number(value) * 1000
  const time = Date.parse(value)
  return Number.isNaN(time) ? undefined : Math.max(0, time - Date.now())
}

const words: Record<string, string> = {
  ECONNREFUSED: 'connect: connection refused', ENOTFOUND: 'no such host', EAI_AGAIN: 'temporary failure in name resolution', ECONNRESET: 'connection reset by peer', EPIPE: 'broken pipe', ETIMEDOUT: 'i/o timeout', EHOSTUNREACH: 'connect: no route to host', ENETUNREACH: 'connect: network is unreachable',
  DEPTH_ZERO_SELF_SIGNED_CERT: 'x509: certificate signed by unknown authority', SELF_SIGNED_CERT_IN_CHAIN: 'x509: certificate signed by unknown authority', UNABLE_TO_VERIFY_LEAF_SIGNATURE: 'x509: certificate signed by unknown authority', UNABLE_TO_GET_ISSUER_CERT_LOCALLY: 'x509: certificate signed by unknown authority', CERT_HAS_EXPIRED: 'x509: certificate has expired or is not yet valid',
}

/** True where a TLS handshake met a server that speaks plain HTTP. */
export function isPlainServer(error: unknown): boolean {
  return codeOf(error) === 'ERR_SSL_WRONG_VERSION_NUMBER' || codeOf(error) === 'EPROTO' || codeOf(error) === 'ERR_SSL_PACKET_LENGTH_TOO_LONG'
}

/** The error that a connection failed with, in the words that Docker's users know. Most are worth another try; a
 * certificate that is not trusted is not. */
export function unreachable(error: unknown, method: string, url: string): BerthError {
  if (error instanceof BerthError) return error
  const first = firstOf(error)
  const code = codeOf(first) ?? ''
  const { address, port, hostname } = first as { address?: string, port?: number, hostname?: string }
  const place = address && port ? `dial tcp ${address.includes(':') ? `[${address}]` : address}:${port}: ` : hostname ? `dial tcp: lookup ${hostname}: ` : ''
  const why = isPlainServer(first) ? 'http: server gave HTTP response to HTTPS client' : code === 'ERR_TLS_CERT_ALTNAME_INVALID' ? `x509: certificate is not valid: ${messageOf(first)}` : words[code] ? place + words[code] : messageOf(first)
  const hopeless = /^x509|HTTPS client$/.test(why) || code === 'ENOTFOUND'
  return new BerthError(hopeless ? 'system' : 'unavailable', `${requestOf(method, url)}: ${why}`, { cause: error })
}

/** A request in the words of Go's clients: `Get "https://…"`. */
export function requestOf(method: string, url: string): string {
  return `${method[0]}${method.slice(1).toLowerCase()} "${url}"`
}

/** Of the errors of several addresses, the first. */
function firstOf(error: unknown): unknown {
  return error instanceof AggregateError && error.errors.length ? error.errors[0] : error
}
