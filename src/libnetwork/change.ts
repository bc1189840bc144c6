import { Requests } from '../libcontainer/network.ts'
import { LATER, deleteLink, newRoute } from '../netlink/link.ts'
import { errno } from '../sys/errno.ts'
import { CLONE } from '../sys/process.ts'
import type { Program } from '../sys/program.ts'
import { runSteps, type Zygote } from '../sys/zygote.ts'

interface Deps { zygote: Zygote, directory: string }

/** Sends requests in the network namespace of a process. */
async function inside(deps: Deps, pid: number, what: string, send: (requests: Requests) => void): Promise<void> {
  await runSteps(deps.zygote, deps.directory, what, (p: Program) => {
    const pidfd = p.register()
    p.sys('pre', 'pidfd_open', [pid, 0], { out: pidfd, doing: "find the container's process" })
    p.sys('pre', 'setns', [pidfd, CLONE.network], { doing: 'enter the network namespace' })
    send(new Requests(p, 'pre'))
  })
}

/** Takes an interface out of the network namespace of a process; one that is not there is no error. */
export async function removeInterface(deps: Deps, pid: number, name: string): Promise<void> {
  await inside(deps, pid, `can't remove the interface ${name}`, (requests) => requests.send('remove it', deleteLink(name), { tolerate: [errno.ENODEV] }))
}

/** Sets the default routes of a network namespace: interfaces by name, and gateways. */
export async function changeRoutes(deps: Deps, pid: number, routes: readonly { interface: string, gateway: string }[]): Promise<void> {
  await inside(deps, pid, "can't set the default route", (requests) => {
    for (const { interface: name, gateway } of routes) requests.send(`by ${gateway}`, newRoute({ gateway, index: LATER }), { later: requests.indexOf(name) })
  })
}
