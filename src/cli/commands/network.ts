import { isIP } from 'node:net'
import { contains, parseSubnet, withoutPrefix } from '../../netlink/address.ts'
import { shortId } from '../../lib/ids.ts'
import { ExitError, command } from '../command.ts'
import { parseMap } from '../create/words.ts'
import { readLabels } from '../environment.ts'
import { filtersOf, formatFlag, goTime, labelFields, printListing } from '../format/table.ts'
import { forEach, networkPath } from '../targets.ts'

interface Network { Id: string, Name: string, Created: string, Driver: string, Scope: string, EnableIPv4?: boolean, EnableIPv6: boolean, Internal: boolean, Labels: Record<string, string> | null }

export const ls = command({
  usage: '',
  args: [0, 0],
  flags: {
    filter: { type: 'list', word: 'filter', short: 'f', help: 'Provide filter values (e.g. "driver=bridge")' },
    format: formatFlag,
    'no-trunc': { type: 'bool', help: 'Do not truncate the output' },
    quiet: { type: 'bool', short: 'q', help: 'Only display network IDs' },
  },
  async run({ flags, session, console }) {
    const networks = await (await session.client()).json<Network[]>('GET', '/networks', { query: { filters: filtersOf(flags.filter) } })
    networks.sort((a, b) => a.Name.localeCompare(b.Name, 'en', { numeric: true }))
    const idOf = (id: string): string => (flags['no-trunc'] ? id : shortId(id))
    if (flags.quiet && !flags.format) return networks.forEach(({ Id }) => console.print(idOf(Id)))
    const rows = networks.map(({ Id, Name, Created, Driver, Scope, EnableIPv4 = true, EnableIPv6, Internal, Labels }) => ({
      ID: idOf(Id), Name, Driver, Scope, IPv4: String(EnableIPv4), IPv6: String(EnableIPv6), Internal: String(Internal), CreatedAt: goTime(Date.parse(Created) / 1000),
      ...labelFields(Labels),
    }))
    printListing(console, rows, { format: flags.format, columns: ['ID', 'Name', 'Driver', 'Scope'], heads: { ID: 'NETWORK ID', CreatedAt: 'CREATED AT' } })
  },
})

export const create = command({
  usage: 'NETWORK',
  args: [1, 1],
  flags: {
    attachable: { type: 'bool', help: 'Enable manual container attachment' },
    'aux-address': { type: 'list', word: 'map', help: 'Auxiliary IPv4 or IPv6 addresses used by Network driver' },
    'config-from': { type: 'string', help: 'The network from which to copy the configuration' },
    'config-only': { type: 'bool', help: 'Create a configuration only network' },
    driver: { type: 'string', short: 'd', otherwise: 'bridge', help: 'Driver to manage the Network' },
    gateway: { type: 'list', help: 'IPv4 or IPv6 Gateway for the master subnet' },
    internal: { type: 'bool', help: 'Restrict external access to the network' },
    'ip-range': { type: 'list', help: 'Allocate container ip from a sub-range' },
    'ipam-driver': { type: 'string', otherwise: 'default', help: 'IP Address Management Driver' },
    'ipam-opt': { type: 'list', word: 'map', help: 'Set IPAM driver specific options' },
    ipv4: { type: 'bool', otherwise: true, help: 'Enable or disable IPv4 address assignment' },
    ipv6: { type: 'bool', help: 'Enable or disable IPv6 address assignment' },
    label: { type: 'list', help: 'Set metadata on a network' },
    opt: { type: 'list', short: 'o', word: 'map', help: 'Set driver specific options' },
    scope: { type: 'string', help: "Control the network's scope" },
    subnet: { type: 'list', help: 'Subnet in CIDR format that represents a network segment' },
  },
  async run({ args: [name], flags, given, session, console }) {
    const { Id } = await (await session.client()).json<{ Id: string }>('POST', '/networks/create', { body: {
      Name: name, Driver: flags['config-only'] && !given.has('driver') ? '' : flags.driver, ConfigOnly: flags['config-only'], ...(flags['config-from'] && { ConfigFrom: { Network: flags['config-from'] } }), Scope: flags.scope, Internal: flags.internal, Attachable: flags.attachable, ...(given.has('ipv4') && { EnableIPv4: flags.ipv4 }), EnableIPv6: flags.ipv6,
      IPAM: { Driver: flags['ipam-driver'], Options: parseMap(flags['ipam-opt']), Config: poolsOf({ subnets: flags.subnet, ranges: flags['ip-range'], gateways: flags.gateway, auxiliary: parseMap(flags['aux-address']) }) },
      Options: parseMap(flags.opt), Labels: readLabels([], flags.label),
    } })
    console.print(Id)
  },
})

interface Pool { Subnet: string, IPRange?: string, Gateway?: string, AuxiliaryAddresses: Record<string, string> }

/** Puts ranges, gateways and further addresses to the subnets that they belong to. */
function poolsOf({ subnets, ranges, gateways, auxiliary }: { subnets: readonly string[], ranges: readonly string[], gateways: readonly string[], auxiliary: Record<string, string> }): Pool[] {
  if (subnets.length < ranges.length || subnets.length < gateways.length) throw new ExitError(1, 'every ip-range or gateway must have a corresponding subnet')
  const pools = subnets.map((Subnet): Pool => ({ Subnet, AuxiliaryAddresses: {} }))
  const of = (address: string, what: string): Pool => {
    const pool = isIP(address) ? pools.find(({ Subnet }) => contains(parseSubnet(Subnet), address)) : undefined
    if (!pool) throw new ExitError(1, `no matching subnet for ${what} ${address}`)
    return pool
  }
  for (const range of ranges) {
    const pool = of(withoutPrefix(range), 'range')
    if (pool.IPRange) throw new ExitError(1, `cannot configure multiple ranges (${range}, ${pool.IPRange}) on the same subnet (${pool.Subnet})`)
    pool.IPRange = range
  }
  for (const gateway of gateways) {
    const pool = of(gateway, 'gateway')
    if (pool.Gateway) throw new ExitError(1, `cannot configure multiple gateways (${gateway}, ${pool.Gateway}) for the same subnet (${pool.Subnet})`)
    pool.Gateway = gateway
  }
  for (const [key, address] of Object.entries(auxiliary)) of(address, 'aux-address').AuxiliaryAddresses[key] = address
  return pools
}

export const rm = command({
  usage: 'NETWORK [NETWORK...]',
  args: [1, Infinity],
  flags: { force: { type: 'bool', short: 'f', help: 'Do not error if the network does not exist' } },
  run: (invocation) => forEach(invocation, (client, name) => client.json('DELETE', networkPath(name)).then(() => name, (error: unknown) => {
    if (!invocation.flags.force || (error as { kind?: string }).kind !== 'not-found') throw error
    return name
  })),
})

export const connect = command({
  usage: 'NETWORK CONTAINER',
  args: [2, 2],
  flags: {
    alias: { type: 'list', help: 'Add network-scoped alias for the container' },
    'driver-opt': { type: 'list', help: 'driver options for the network' },
    'gw-priority': { type: 'int', help: 'Highest gw-priority provides the default gateway. Accepts positive and negative values.' },
    ip: { type: 'string', help: 'IPv4 address (e.g., "172.30.100.104")' },
    ip6: { type: 'string', help: 'IPv6 address (e.g., "2001:db8::33")' },
    link: { type: 'list', help: 'Add link to another container' },
    'link-local-ip': { type: 'list', help: 'Add a link-local address for the container' },
  },
  async run({ args: [network, container], flags, session }) {
    const { ip, ip6 } = flags
    await (await session.client()).json('POST', networkPath(network!, '/connect'), { body: { Container: container, EndpointConfig: {
      IPAMConfig: { IPv4Address: ip, IPv6Address: ip6, LinkLocalIPs: flags['link-local-ip'] }, Links: flags.link, Aliases: flags.alias, DriverOpts: parseMap(flags['driver-opt']), GwPriority: flags['gw-priority'],
    } } })
  },
})

export const disconnect = command({
  usage: 'NETWORK CONTAINER',
  args: [2, 2],
  flags: { force: { type: 'bool', short: 'f', help: 'Force the container to disconnect from a network' } },
  async run({ args: [network, container], flags, session }) {
    await (await session.client()).json('POST', networkPath(network!, '/disconnect'), { body: { Container: container, Force: flags.force } })
  },
})

export const impair = command({
  usage: 'NETWORK CONTAINER',
  args: [2, 2],
  flags: {
    delay: { type: 'duration', help: 'How long each packet waits (ns|us|ms|s)' },
    jitter: { type: 'duration', help: 'By how much the delay varies (ns|us|ms|s)' },
    loss: { type: 'string', help: 'Part of the packets that is lost, in percent (e.g. 1.5%)' },
    rate: { type: 'string', help: 'Most bits a second (e.g. 10mbit, 500kbit)' },
  },
  details: 'Limits and worsens what a container sends and receives in a network, now and after restarts. Without options all is as it was.',
  async run({ args: [network, container], flags, session }) {
    const { delay, jitter, loss, rate } = flags
    await (await session.client()).json('POST', networkPath(network!, '/impair'), { body: { Container: container, Delay: delay, Jitter: jitter, Loss: parseLoss(loss), Rate: parseRate(rate) } })
  },
})

function parseLoss(text: string): number {
  if (text === '') return 0
  const percent = Number(text.replace(/%$/, ''))
  if (!(percent >= 0 && percent <= 100)) throw new ExitError(1, `invalid loss ${JSON.stringify(text)}: it is a percentage`)
  return percent / 100
}

/** Bits a second with a unit, as tc(8) has it, in bytes. */
function parseRate(text: string): number {
  if (text === '') return 0
  const [, number = '', unit = ''] = /^(\d+(?:\.\d+)?)([kmg]?)bit$/i.exec(text) ?? []
  if (!number) throw new ExitError(1, `invalid rate ${JSON.stringify(text)}: a number and bit, kbit, mbit or gbit`)
  return Math.round(Number(number) * 1000 ** ' kmg'.indexOf(unit.toLowerCase() || ' ') / 8)
}
