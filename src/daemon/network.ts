import { createHash } from 'node:crypto'
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { isIP } from 'node:net'
import { networkInterfaces } from 'node:os'
import { join } from 'node:path'
import type { GraphDB } from '../graphdb/graphdb.ts'
import { invalid } from '../lib/errors.ts'
import { readIfThere } from '../lib/files.ts'
import { randomId } from '../lib/ids.ts'
import { Plugin } from '../lib/plugin.ts'
import { NameServer } from '../libnetwork/dns/server.ts'
import { namesForHost } from '../libnetwork/names.ts'
import { Networks, type NetworkRequest } from '../libnetwork/controller.ts'
import { Etcd } from '../libnetwork/shared/etcd.ts'
import { Shared } from '../libnetwork/shared/shared.ts'
import type { Link } from '../netlink/link.ts'
import { Batch } from '../netlink/nft.ts'
import { networkDrivers } from '../networkdriver/drivers.ts'
import type { TunnelKeys } from '../networkdriver/overlay.ts'
import { listLinks, removeLink } from '../networkdriver/links.ts'
import { NetlinkSocket } from '../sys/netlink.ts'
import type { Zygote } from '../sys/zygote.ts'
import type { DaemonOptions, NetworkOptions } from './options.ts'

const MARK = 'berth:'
const FORWARDING = ['/proc/sys/net/ipv4/ip_forward', '/proc/sys/net/ipv6/conf/all/forwarding'] as const

interface Hooks { warn: (message: string, error?: unknown) => void, failpoint: (name: string) => void }

/** The networks of a daemon, and what is to be done with the host for them. `close` undoes it. */
export async function openNetworks(graph: GraphDB, zygote: Zygote, { dataRoot, execRoot, network }: DaemonOptions, { warn, failpoint }: Hooks): Promise<{ networks: Networks, close: () => Promise<void> }> {
  const alias = MARK + dataRoot
  const links = await sweptLinks(zygote, execRoot)
  const kept = join(dataRoot, 'forwarding')
  if (network.forward) turnForwardingOn(kept)
  const cluster = clusterOf(network, dataRoot, warn)
  const driver = networkDrivers({ cluster, plugin: (name) => Plugin.find(name), bridge: {
    zygote, directory: execRoot, alias, userlandProxy: network.userlandProxy, guard: existsSync(kept), warn, defaultBridge: freeBridge(links, alias),
    table: tableOf(dataRoot),
  } })
  const networks = new Networks({ graph, driver, zygote, directory: execRoot, spaces: network.spaces, shared: cluster?.shared, plugin: (name) => Plugin.find(name), warn, failpoint })
  await networks.open(network.bridge === 'none' ? undefined : defaultNetwork(network))
  const names = network.hostNames && new NameServer(network.hostNames, namesForHost(networks), (error) => warn('the name server of the host', error))
  return { networks, async close() {
    names?.[Symbol.dispose]()
    if (await networks.close()) turnForwardingOff(kept)
  } }
}

/** What this host shares with others. */
function clusterOf({ clusterStore, clusterAdvertise }: NetworkOptions, dataRoot: string, warn: Hooks['warn']): { shared: Shared, address: string, keys: TunnelKeys } | undefined {
  if (!clusterStore && !clusterAdvertise) return undefined
  if (!clusterStore || !clusterAdvertise) throw invalid('--cluster-store and --cluster-advertise go together')
  const at = clusterAdvertise.replace(/:\d+$/, '').replace(/^\[(.*)\]$/, '$1')
  const address = isIP(at) ? at : networkInterfaces()[at]?.find(({ family }) => family === 'IPv4')?.address
  if (!address) throw invalid(`--cluster-advertise: ${clusterAdvertise} is neither an address nor a link that has one`)
  const file = join(dataRoot, 'host-id')
  if (!existsSync(file)) writeFileSync(file, randomId())
  const nonce = nonceIn(join(dataRoot, 'tunnel-nonce'))
  const shared = new Shared({ store: new Etcd(clusterStore), host: readFileSync(file, 'utf8'), address, nonce: nonce.read, warn })
  return { address, shared, keys: { secret: () => shared.secret(), nonce: nonce.read, forget: nonce.forget } }
}

/** Something made up that lasts as long as the machine runs, also while the engine does not. */
function nonceIn(file: string): { read: () => string, forget: () => void } {
  const boot = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()
  return {
    read() {
      const [kept, since] = (readIfThere(file) ?? '').split(' ')
      if (kept && since === boot) return kept
      const nonce = randomId()
      writeFileSync(file, `${nonce} ${boot}`, { mode: 0o600 })
      return nonce
    },
    forget: () => rmSync(file, { force: true }),
  }
}

/** What the default network is made of. */
function defaultNetwork(options: NetworkOptions): Partial<NetworkRequest> {
  const [address, prefix] = options.bip.split('/')
  const pools = [
    ...(options.bip || options.fixedCidr ? [{ subnet: options.bip ? `${address}/${prefix}` : options.fixedCidr, ...(address && { gateway: address }), ...(options.fixedCidr && options.bip && { range: options.fixedCidr }) }] : []),
    ...(options.fixedCidr6 ? [{ subnet: options.fixedCidr6 }] : []),
  ]
  return {
    pools, ipv6: options.ipv6 || options.fixedCidr6 !== '',
    options: {
      'com.docker.network.bridge.default_bridge': 'true', 'com.docker.network.bridge.enable_icc': String(options.icc), 'com.docker.network.bridge.enable_ip_masquerade': String(options.masquerade),
      'com.docker.network.bridge.host_binding_ipv4': options.publishAddress || '0.0.0.0', 'com.docker.network.driver.mtu': String(options.mtu || 1500), ...(options.bridge && { 'com.docker.network.bridge.name': options.bridge }),
    },
  }
}

/** The first of berth0, berth1, … that is free, or is ours already. */
function freeBridge(links: readonly Link[], alias: string): string {
  for (let number = 0; ; number++) {
    const there = links.find(({ name }) => name === `berth${number}`)
    if (!there || there.alias === alias) return `berth${number}`
  }
}

/** The name of an engine's nftables table. */
function tableOf(dataRoot: string): string {
  return dataRoot === '/var/lib/berth' ? 'berth' : `berth-${createHash('sha256').update(dataRoot).digest('hex').slice(0, 8)}`
}

/** The links of this host, without the bridges of engines whose data root is gone, which are removed with their rules. */
async function sweptLinks(zygote: Zygote, directory: string): Promise<Link[]> {
  using route = new NetlinkSocket('route')
  for (const { name, alias = '' } of listLinks(route)) {
    const root = alias.slice(MARK.length).replace(/ tunnel$/, '')
    if (!alias.startsWith(MARK) || existsSync(root)) continue
    await removeLink(zygote, directory, name)
    using netfilter = new NetlinkSocket('netfilter')
    netfilter.request(`remove the firewall rules of ${root}`, new Batch(tableOf(root)).table().deleteTable().encode())
  }
  return listLinks(route)
}

/** Lets the kernel pass packets between links. That this engine did it is kept in a file: then nothing passes that is
 * neither from nor to one of its networks, and in the end it is undone. */
function turnForwardingOn(kept: string): void {
  for (const path of FORWARDING) {
    if (!existsSync(path) || readFileSync(path, 'utf8').trim() === '1') continue
    writeFileSync(kept, `${path}\n`, { flag: 'a' })
    writeFileSync(path, '1')
  }
}

function turnForwardingOff(kept: string): void {
  for (const path of (readIfThere(kept) ?? '').split('\n').filter(Boolean)) writeFileSync(path, '0')
  rmSync(kept, { force: true })
}
