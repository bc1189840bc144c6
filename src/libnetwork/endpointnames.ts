import type { Endpoint, Sandbox } from './sandbox.ts'

/** The names under which a sandbox is known in a network, its own name first. */
export function namesOf(sandbox: Pick<Sandbox, 'id' | 'name'>, endpoint: Pick<Endpoint, 'settings'>): string[] {
  return [...new Set([sandbox.name, ...endpoint.settings.aliases, sandbox.id.slice(0, 12)])]
}
