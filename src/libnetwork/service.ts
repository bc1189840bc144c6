import * as v from 'valibot'
import { flag, map, parseBody, text } from '../api/body.ts'
import { hasLabel, passesLabels } from '../api/filters.ts'
import type { Engine, Job } from '../engine/engine.ts'
import type { Events } from '../engine/events.ts'
import { conflict, forbidden, invalid, notFound, unsupported } from '../lib/errors.ts'
import { parseTime } from '../lib/units.ts'
import type { Call, Route } from '../server/router.ts'
import type { NetworkRequest, Networks } from './controller.ts'
import { predefined, type NetworkRecord } from './network.ts'

const createBody = v.object({
  Name: text, CheckDuplicate: flag, Driver: text, Scope: text, Internal: flag, Attachable: flag, Ingress: flag, ConfigOnly: flag, ConfigFrom: v.nullish(v.object({ Network: text })),
  IPAM: v.nullish(v.object({ Driver: text, Config: v.nullish(v.array(v.object({ Subnet: text, IPRange: text, Gateway: text, AuxiliaryAddresses: map })), []), Options: map })),
  EnableIPv4: v.nullish(v.boolean(), true), EnableIPv6: flag, Options: map, Labels: map,
})

/** Reads the body of a create. */
function parseCreate(body: unknown): NetworkRequest {
  const { Name, Driver, Internal, Attachable, Ingress, ConfigOnly, ConfigFrom, IPAM, EnableIPv4, EnableIPv6, Options, Labels } = parseBody(createBody, body)
  if (Ingress) throw unsupported('ingress networks need swarm mode')
  if (ConfigOnly && Driver && Driver !== 'null' && Driver !== 'default') throw forbidden('configuration networks cannot have a driver')
  return {
    name: Name, driver: Driver || 'bridge', internal: Internal, attachable: Attachable, ipv4: EnableIPv4, ipv6: EnableIPv6, ipamDriver: IPAM?.Driver || 'default', ipamOptions: IPAM?.Options ?? {}, options: Options, labels: Labels, ...(ConfigOnly && { configOnly: true }), ...(ConfigFrom?.Network && { configFrom: ConfigFrom.Network }),
    pools: (IPAM?.Config ?? []).map(({ Subnet, IPRange, Gateway, AuxiliaryAddresses }) => ({ subnet: Subnet, ...(IPRange && { range: IPRange }), ...(Gateway && { gateway: Gateway }), auxiliary: AuxiliaryAddresses })),
  }
}

export interface NetworkServiceDeps { networks: Networks, engine: Engine, events: Events }

/** The routes of networks, but for connect and disconnect, which are done to containers. */
export function networkRoutes({ networks, engine, events }: NetworkServiceDeps): Route[] {
  const named = (call: Call): NetworkRecord => networks.resolve(call.params['name']!)
  const attributes = ({ name, driver }: NetworkRecord): Record<string, string> => ({ name, type: driver })
  return [
    { method: 'GET', path: '/networks', handler(call) {
      const filters = call.filters(['driver', 'id', 'label', 'name', 'scope', 'type', 'dangling'])
      call.send(200, networks.list().filter((record) => passes(networks, record, filters)).map((record) => wire(networks, record, false)))
    } },
    { method: 'POST', path: '/networks/create', async handler(call) {
      const request = parseCreate(await call.json())
      const job: Job<NetworkRequest, NetworkRecord> = { name: 'network.create', subject: ({ name }) => name, run: (input) => networks.create(input) }
      const record = await engine.run(job, request)
      events.emit('network', 'create', record.id, attributes(record))
      call.send(201, { Id: record.id, Warning: '' })
    } },
    { method: 'GET', path: '/networks/:name', handler(call) {
      const record = named(call)
      const scope = call.query.get('scope')
      if (scope && scope !== record.scope) throw notFound(`network ${call.params['name']} not found`)
      call.send(200, wire(networks, record, true))
    } },
    { method: 'DELETE', path: '/networks/:name', async handler(call) {
      const record = named(call)
      const job: Job<NetworkRecord, void> = { name: 'network.remove', subject: ({ name }) => name, run: (input) => networks.remove(input) }
      await engine.run(job, record)
      events.emit('network', 'destroy', record.id, attributes(record))
      call.empty()
    } },
    { method: 'POST', path: '/networks/prune', async handler(call) {
      const filters = call.filters(['until', 'label', 'label!'])
      const until = filters.get('until')?.map((value) => parseTime(value, Date.now()))[0] ?? Infinity
      const job: Job<null, string[]> = { name: 'network.prune', async run() {
        const deleted: string[] = []
        for (const record of networks.list()) {
          if (predefined.has(record.name) || networks.endpointsOf(record.id).length || Date.parse(record.created) > until || !passesLabels(record.labels, filters)) continue
          await networks.remove(record)
          events.emit('network', 'destroy', record.id, attributes(record))
          deleted.push(record.name)
        }
        return deleted
      } }
      const deleted = await engine.run(job, null)
      events.emit('network', 'prune', '', { reclaimed: '0' })
      call.send(200, { NetworksDeleted: deleted.length ? deleted : null })
    } },
  ]
}

/** The API's Network. */
function wire(networks: Networks, record: NetworkRecord, whole: boolean): object {
  const endpoints = whole ? networks.endpointsOf(record.id) : []
  const peers = whole ? networks.peersOf(record.id) : []
  return {
    Name: record.name, Id: record.id, Created: record.created, Scope: record.scope, Driver: record.driver, EnableIPv4: record.ipv4, EnableIPv6: record.ipv6,
    IPAM: {
      Driver: record.ipamDriver, Options: predefined.has(record.name) ? null : record.ipamOptions,
      Config: record.pools.map(({ subnet, range, gateway, auxiliary }) => ({ Subnet: subnet, ...(range && { IPRange: range }), ...(gateway && { Gateway: gateway }), ...(Object.keys(auxiliary).length && { AuxiliaryAddresses: auxiliary }) })),
    },
    Internal: record.internal, Attachable: record.attachable, Ingress: false, ConfigFrom: { Network: record.configFrom ?? '' }, ConfigOnly: record.configOnly ?? false,
    Containers: Object.fromEntries(endpoints.map(({ sandbox, endpoint }) => [sandbox.id, { Name: sandbox.name, EndpointID: endpoint.id, MacAddress: endpoint.mac, IPv4Address: endpoint.ipv4 ?? '', IPv6Address: endpoint.ipv6 ?? '' }]).concat(peers.map(({ id, names, mac, ipv4 = '', ipv6 = '' }) => [`ep-${id}`, { Name: names[0] ?? '', EndpointID: id, MacAddress: mac, IPv4Address: ipv4, IPv6Address: ipv6 }]))),
    Options: record.options, Labels: record.labels,
  }
}

function passes(networks: Networks, record: NetworkRecord, filters: Map<string, string[]>): boolean {
  for (const [name, values] of filters) {
    if (values.length === 0) continue
    const any = (test: (value: string) => boolean): boolean => values.some(test)
    if (name === 'name' && !any((value) => record.name.includes(value))) return false
    if (name === 'id' && !any((value) => record.id.startsWith(value))) return false
    if (name === 'driver' && !any((value) => record.driver === value)) return false
    if (name === 'scope' && !any((value) => record.scope === value)) return false
    if (name === 'label' && !values.every((value) => hasLabel(record.labels, value))) return false
    if (name === 'type') {
      const unknown = values.find((value) => value !== 'custom' && value !== 'builtin')
      if (unknown !== undefined) throw invalid(`invalid filter 'type=${unknown}'`)
      if (!any((value) => (value === 'builtin') === predefined.has(record.name))) return false
    }
    if (name === 'dangling') {
      if (values.length > 1) throw conflict('invalid filter \'dangling\': got more than one value')
      if (!/^(1|0|true|false)$/.test(values[0]!)) throw invalid(`invalid filter 'dangling=${values[0]}'`)
      const used = predefined.has(record.name) || networks.endpointsOf(record.id).length > 0
      if (used === /^(1|true)$/.test(values[0]!)) return false
    }
  }
  return true
}
