import { invalid, messageOf } from '../lib/errors.ts'
import type { Credentials } from '../registry/tokens.ts'

/** Reads what the API calls AuthConfig. */
export function credentialsOf(value: unknown): Credentials {
  if (typeof value !== 'object' || value === null) return {}
  const field = (name: string): string | undefined => {
    const text = Object.entries(value).find(([key]) => key.toLowerCase() === name)?.[1]
    return typeof text === 'string' && text !== '' ? text : undefined
  }
  const [username, password, identityToken, registryToken, both] = ['username', 'password', 'identitytoken', 'registrytoken', 'auth'].map(field)
  const [name, ...rest] = both && username === undefined ? Buffer.from(both, 'base64').toString('utf8').split(':') : [username]
  return {
    ...(name && { username: name, password: password ?? rest.join(':') }), ...(identityToken && { identityToken }), ...(registryToken && { registryToken }),
  }
}

/** Reads header `X-Registry-Auth`: base64url of JSON (API, "Authentication"). */
export function readAuthHeader(header: string | string[] | undefined): Credentials {
  const text = Array.isArray(header) ? header[0] : header
  if (!text) return {}
  const json = Buffer.from(text, 'base64url').toString('utf8') // which takes the other alphabet, and padding, too
  if (json === '' || json === 'null') return {}
  try {
    return credentialsOf(JSON.parse(json))
  } catch (error) {
    throw invalid(`invalid X-Registry-Auth header: ${messageOf(error)}`, error)
  }
}
