import { codeOf } from '../lib/errors.ts'
import { Requests } from '../libcontainer/network.ts'
import { deleteLink, getLink, getLinks, parseLink, type Link } from '../netlink/link.ts'
import type { NetlinkSocket } from '../sys/netlink.ts'
import { runSteps, type Zygote } from '../sys/zygote.ts'

/** The link of a name in this process's network namespace, or undefined. */
export function findLink(route: NetlinkSocket, name: string): Link | undefined {
  try {
    const [answer] = route.request(`look for the link ${name}`, getLink(name))
    return answer && parseLink(answer.body)
  } catch (error) {
    if (codeOf(error) === 'ENODEV') return undefined
    throw error
  }
}

/** All links. */
export function listLinks(route: NetlinkSocket): Link[] {
  return route.request('list the links', getLinks()).filter(({ body }) => body.length > 16).map(({ body }) => parseLink(body))
}

/** Takes a link away, in a process of its own: it waits for all processors. */
export async function removeLink(zygote: Zygote, directory: string, name: string): Promise<void> {
  await runSteps(zygote, directory, `can't remove the link ${name}`, (p) => new Requests(p, 'pre').send('remove it', deleteLink(name)))
}
