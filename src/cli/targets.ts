import type { Client } from '../api/client.ts'
import { messageOf } from '../lib/errors.ts'
import type { Invocation } from './command.ts'

/** The API's path of a container. */
export const containerPath = (name: string, rest = ''): string => `/containers/${encodeURIComponent(name)}${rest}`

/** The API's path of an image. */
export const imagePath = (name: string, rest = ''): string => `/images/${encodeURIComponent(name)}${rest}`

/** The API's path of a network. */
export const networkPath = (name: string, rest = ''): string => `/networks/${encodeURIComponent(name)}${rest}`

/** The API's path of a volume. */
export const volumePath = (name: string, rest = ''): string => `/volumes/${encodeURIComponent(name)}${rest}`

/** Splits `host:5000/name:tag` before its tag, which is empty where there is none. */
export function splitTag(name: string): [repository: string, tag: string] {
  const colon = name.lastIndexOf(':')
  return colon > name.lastIndexOf('/') ? [name.slice(0, colon), name.slice(colon + 1)] : [name, '']
}

/** Does something to each named thing at the same time, and prints its name or why not. Exits with 1 if one failed. */
export async function forEach({ args, console, session }: Pick<Invocation, 'args' | 'console' | 'session'>, work: (client: Client, name: string) => Promise<string | void>): Promise<number> {
  const client = await session.client()
  const results = await Promise.allSettled(args.map((name) => work(client, name)))
  results.forEach((result, at) => {
    if (result.status === 'fulfilled') console.print(result.value ?? args[at]!)
    else console.complain(messageOf(result.reason))
  })
  return results.some(({ status }) => status === 'rejected') ? 1 : 0
}
