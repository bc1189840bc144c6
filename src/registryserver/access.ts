import { readFileSync } from 'node:fs'
import type { IncomingMessage } from 'node:http'
import { invalid, messageOf } from '../lib/errors.ts'
import { refuse } from './answer.ts'

export type Action = 'pull' | 'push' | 'delete'

/** What is asked to be done: something with a repository, or the list of all. */
export type Wanted = { repository: string, action: Action } | 'catalog' | 'base'

/** Somebody whom a registry knows, or nobody in particular. */
export interface Identity {
  /** Empty for who has not said. */
  name: string
  /** For who has shown a token: what that grants. */
  grants?: readonly { type: string, name: string, actions: readonly string[] }[]
}

/** Finds out who asks. Throws UNAUTHORIZED where that is wrong, or must be said. */
export interface Authenticator {
  identify(request: IncomingMessage): Promise<Identity>
  /** Header `WWW-Authenticate` for who must say more. */
  challenge(wanted: Wanted, because: 'missing' | 'insufficient'): string
}

/** Who may do what: the first rule that names both the person and the repository decides. */
export interface Rule { users: string[], repositories: string[], actions: Action[] }

const ANONYMOUS = 'anonymous'

/** Reads the rules of a JSON file: a list of `{"users": […], "repositories": ["team/**"], "actions": ["pull", …]}`. `*` is
 * everybody who has said who they are, `anonymous` who has not; in repositories `*` is one part of a name, `**` any. */
export function readRules(path: string): Rule[] {
  const fail = (why: string, cause?: unknown): Error => invalid(`the file of rights ${path}: ${why}`, cause)
  let rules: unknown
  try {
    rules = JSON.parse(readFileSync(path, 'utf8'))
  } catch (error) {
    throw fail(messageOf(error), error)
  }
  const list = (value: unknown): value is string[] => Array.isArray(value) && value.every((item) => typeof item === 'string')
  if (!Array.isArray(rules)) throw fail('it is no list')
  return rules.map((rule: Partial<Rule>, at) => {
    const { users, repositories, actions } = rule ?? {}
    if (!list(users) || !list(repositories) || !list(actions)) throw fail(`rule ${at + 1} needs users, repositories and actions, each a list of texts`)
    for (const action of actions) if (!['pull', 'push', 'delete'].includes(action)) throw fail(`rule ${at + 1}: there is no action ${JSON.stringify(action)}`)
    return { users, repositories, actions }
  })
}

const matches = (pattern: string, name: string): boolean => new RegExp('^' + pattern.split('**').map((part) => part.replace(/[.+^${}()|\\[\]]/g, '\\$&').replaceAll('*', '[^/]*')).join('.*') + '$').test(name)

/** Decides who may do what. */
export class Access {
  readonly #authenticator: Authenticator | undefined
  readonly #rules: readonly Rule[] | undefined

  constructor(options: { authenticator?: Authenticator | undefined, rules?: readonly Rule[] | undefined }) {
    this.#authenticator = options.authenticator
    this.#rules = options.rules
  }

  /** True where everybody may do everything. */
  get open(): boolean {
    return !this.#authenticator && !this.#rules
  }

  /** Says who asks, if they may have what they want; otherwise throws UNAUTHORIZED or DENIED. */
  async check(request: IncomingMessage, wanted: Wanted): Promise<Identity> {
    const identity = await this.#authenticator?.identify(request).catch((error: unknown) => {
      throw this.#unauthorized(wanted, 'insufficient', messageOf(error))
    }) ?? { name: '' }
    if (this.allows(identity, wanted)) return identity
    if (this.#authenticator && (identity.name === '' && !identity.grants || identity.grants)) throw this.#unauthorized(wanted, identity.grants ? 'insufficient' : 'missing')
    throw refuse('DENIED', 'requested access to the resource is denied')
  }

  allows(identity: Identity, wanted: Wanted): boolean {
    if (this.open) return true
    if (wanted === 'base') return identity.name !== '' || identity.grants !== undefined || !this.#authenticator
    const { grants } = identity
    if (grants) {
      const [type, name, action] = wanted === 'catalog' ? ['registry', 'catalog', '*'] : ['repository', wanted.repository, wanted.action]
      if (!grants.some((grant) => grant.type === type && grant.name === name && (grant.actions.includes(action) || grant.actions.includes('*')))) return false
    }
    if (!this.#rules) return identity.name !== '' || grants !== undefined || !this.#authenticator
    if (wanted === 'catalog') return true // which shows each what they may pull
    const rule = this.#rules.find(({ users, repositories }) => users.some((user) => (identity.name === '' ? user === ANONYMOUS : user === identity.name || user === '*')) && repositories.some((pattern) => matches(pattern, wanted.repository)))
    return rule?.actions.includes(wanted.action) ?? false
  }

  #unauthorized(wanted: Wanted, because: 'missing' | 'insufficient', message = 'authentication required'): Error {
    return refuse('UNAUTHORIZED', message, { headers: this.#authenticator ? { 'WWW-Authenticate': this.#authenticator.challenge(wanted, because) } : {}, ...(typeof wanted === 'object' && { detail: [{ Type: 'repository', Class: '', Name: wanted.repository, Action: wanted.action }] }) })
  }
}
