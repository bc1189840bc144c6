import { createHash, randomBytes } from 'node:crypto'

/** A new random identity: 64 lower-case hexadecimal digits, whose first twelve are never all decimal (Docker's rule,
 * so that a short id can't be read as a number, as a host name of digits would be). */
export function randomId(): string {
  for (;;) {
    const id = randomBytes(32).toString('hex')
    if (!/^\d{12}/.test(id)) return id
  }
}

/** A name that nobody else has, for what lasts a while: a file, a hold. */
export function randomName(): string {
  return randomBytes(8).toString('hex')
}

/** The first twelve digits of an id or digest, without its `sha256:`. */
export function shortId(id: string): string {
  return id.replace(/^sha256:/, '').slice(0, 12)
}

/** `sha256:` and the hexadecimal digest of the bytes. */
export function sha256(data: string | Uint8Array): string {
  return 'sha256:' + createHash('sha256').update(data).digest('hex')
}

/** The digest of the bytes, as `ALGORITHM:HEX`. */
export function digestOf(data: string | Uint8Array, algorithm: string): string {
  return `${algorithm}:${createHash(algorithm).update(data).digest('hex')}`
}
