import { ExitError, command } from '../command.ts'
import { containerPath } from '../targets.ts'

export const port = command({
  usage: 'CONTAINER [PRIVATE_PORT[/PROTO]]',
  args: [1, 2],
  flags: {},
  async run({ args: [name, wanted], session, console }) {
    const { NetworkSettings: { Ports } } = await (await session.client()).json<{ NetworkSettings: { Ports: Record<string, { HostIp: string, HostPort: string }[] | null> | null } }>('GET', containerPath(name!, '/json'))
    const show = ({ HostIp, HostPort }: { HostIp: string, HostPort: string }): string => `${HostIp.includes(':') ? `[${HostIp}]` : HostIp}:${HostPort}`
    if (wanted === undefined) {
      const sorted = Object.entries(Ports ?? {}).toSorted(([a], [b]) => a.localeCompare(b, 'en', { numeric: true }))
      for (const [from, bindings] of sorted) for (const binding of bindings ?? []) console.print(`${from} -> ${show(binding)}`)
      return
    }
    const key = wanted.includes('/') ? wanted : `${wanted}/tcp`
    const bindings = Ports?.[key]
    if (!bindings?.length) throw new ExitError(1, `no public port '${key}' published for ${name}`)
    for (const binding of bindings) console.print(show(binding))
  },
})
