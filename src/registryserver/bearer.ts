import { X509Certificate, createPublicKey } from 'node:crypto'
import { readFileSync } from 'node:fs'
import type { JWTHeaderParameters, JWTPayload } from 'jose'
import { BerthError, invalid, messageOf } from '../lib/errors.ts'
import type { Authenticator, Identity, Wanted } from './access.ts'

export interface TokenOptions {
  /** Where clients get tokens: a URL. */
  realm: string
  service: string
  issuer: string
  /** A PEM file of certificates, or public keys, of whoever signs tokens. */
  roots: string
}

/** Tokens that a server of its own has signed (distribution, "Token Authentication Specification"). */
export async function bearer({ realm, service, issuer, roots }: TokenOptions): Promise<Authenticator> {
  const { jwtVerify, errors } = await import('jose')
  const blocks = readFileSync(roots, 'utf8').match(/-----BEGIN [A-Z ]+-----[^-]+-----END [A-Z ]+-----/g) ?? []
  if (blocks.length === 0) throw invalid(`${roots} has no certificate and no public key`)
  const trusted = blocks.map((block) => (block.includes('CERTIFICATE') ? new X509Certificate(block) : createPublicKey(block)))

  /** The key that a token says it was signed with, if its certificate leads to one of ours; else any of ours. */
  const keyOf = (header: JWTHeaderParameters, at: number): ReturnType<typeof createPublicKey> => {
    const [first, ...rest] = (header.x5c ?? []).map((text) => new X509Certificate(Buffer.from(text, 'base64')))
    if (!first) {
      const root = trusted[at]!
      return root instanceof X509Certificate ? root.publicKey : root
    }
    const authorities = trusted.filter((root) => root instanceof X509Certificate)
    for (let current = first, depth = 0; depth < 8; depth++) {
      const now = Date.now()
      if (Date.parse(current.validFrom) > now || Date.parse(current.validTo) < now) break
      if (authorities.some((root) => root.raw.equals(current.raw) || current.checkIssued(root) && current.verify(root.publicKey))) return first.publicKey
      const next = rest.find((certificate) => current.checkIssued(certificate) && current.verify(certificate.publicKey))
      if (!next) break
      current = next
    }
    throw new BerthError('unauthorized', 'the token was signed by nobody whom this registry trusts')
  }

  const verify = async (token: string): Promise<JWTPayload> => {
    let failure: unknown
    for (let at = 0; at < trusted.length; at++) {
      try {
        return (await jwtVerify(token, (header) => keyOf(header, at), { issuer, audience: service, algorithms: ['RS256', 'RS384', 'RS512', 'PS256', 'ES256', 'ES384', 'ES512', 'EdDSA'], clockTolerance: 60 })).payload
      } catch (error) {
        failure = error
        if (!(error instanceof errors.JWSSignatureVerificationFailed) && !(error instanceof TypeError)) break
      }
    }
    throw new BerthError('unauthorized', `invalid token: ${messageOf(failure)}`, { cause: failure })
  }

  return {
    async identify({ headers: { authorization = '' } }): Promise<Identity> {
      const [, token] = /^Bearer\s+(\S+)$/i.exec(authorization) ?? []
      if (!token) return { name: '' }
      const payload = await verify(token)
      const access = Array.isArray(payload['access']) ? payload['access'] as { type?: unknown, name?: unknown, actions?: unknown }[] : []
      return { name: payload.sub ?? '', grants: access.map(({ type, name, actions }) => ({ type: String(type), name: String(name), actions: Array.isArray(actions) ? actions.map(String) : [] })) }
    },
    challenge(wanted: Wanted, because) {
      const scope = wanted === 'base' ? '' : wanted === 'catalog' ? ',scope="registry:catalog:*"' : `,scope="repository:${wanted.repository}:${wanted.action === 'push' ? 'pull,push' : wanted.action}"`
      return `Bearer realm="${realm}",service="${service}"${scope}${because === 'insufficient' ? ',error="insufficient_scope"' : ''}`
    },
  }
}
