import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto'
import { readFileSync, statSync } from 'node:fs'
import { BerthError } from '../lib/errors.ts'
import type { Authenticator, Identity } from './access.ts'

/** How long a password that was right need not be checked again, in milliseconds: bcrypt is made to take its time. */
const REMEMBER = 60_000

/** Names and passwords from a file of Apache's, with bcrypt alone, as Docker's registry reads it. It is read again when it
 * has changed. */
export function htpasswd(path: string, realm: string): Authenticator {
  const key = randomBytes(32)
  const right = new Map<string, { proof: Buffer, until: number }>()
  let entries = new Map<string, string>()
  let changed = -1
  const read = (): void => {
    const { mtimeMs } = statSync(path)
    if (mtimeMs === changed) return
    entries = new Map(readFileSync(path, 'utf8').split(/\r?\n/).filter((line) => line.trim() && !line.startsWith('#')).map((line) => {
      const colon = line.indexOf(':')
      return [line.slice(0, colon), line.slice(colon + 1).trim()]
    }))
    right.clear()
    changed = mtimeMs
  }
  read()

  const check = async (name: string, password: string): Promise<boolean> => {
    const kept = entries.get(name)
    const proof = createHmac('sha256', key).update(password).digest()
    const known = right.get(name)
    if (known && known.until > Date.now() && timingSafeEqual(known.proof, proof)) return true
    const { compare } = await import('bcryptjs')
    // who is not known takes as long as who has the wrong password
    const good = await compare(password, kept?.replace(/^\$2y\$/, '$2b$') ?? '$2b$10$CwTycUXWue0Thq9StjUM0uJ8y5eYh0bT1dUuJbRrM4Hf1l8e4Z1mK')
    if (good && kept !== undefined) right.set(name, { proof, until: Date.now() + REMEMBER })
    return good && kept !== undefined
  }

  return {
    async identify({ headers: { authorization = '' } }): Promise<Identity> {
      if (authorization === '') return { name: '' }
      const [, encoded] = /^Basic\s+(\S+)$/i.exec(authorization) ?? []
      const [, name = '', password = ''] = /^([^:]*):([^]*)$/.exec(Buffer.from(encoded ?? '', 'base64').toString('utf8')) ?? []
      read()
      if (name === '' || !await check(name, password)) throw new BerthError('unauthorized', 'authentication required')
      return { name }
    },
    challenge: () => `Basic realm=${JSON.stringify(realm)}`,
  }
}
