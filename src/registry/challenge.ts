/** What a server asks of those who come without credentials (RFC 9110, "WWW-Authenticate"). */
export interface Challenge { scheme: 'basic' | 'bearer', parameters: Record<string, string> }

/** The challenges of a WWW-Authenticate header, of the schemes that registries use. */
export function parseChallenges(header: string): Challenge[] {
  const challenges: Challenge[] = []
  let current: Challenge | undefined
  const token = /\s*(?:,\s*)?([!#$%&'*+.^_`|~\w-]+)(?:\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+)))?/y
  for (let match = token.exec(header); match; match = token.exec(header)) {
    const [, name = '', quoted, plain] = match
    if (quoted === undefined && plain === undefined) {
      const scheme = name.toLowerCase()
      current = scheme === 'basic' || scheme === 'bearer' ? { scheme, parameters: {} } : undefined
      if (current) challenges.push(current)
    } else if (current) current.parameters[name.toLowerCase()] = quoted === undefined ? plain! : quoted.replace(/\\(.)/g, '$1')
  }
  return challenges
}
