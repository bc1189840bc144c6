import assert from 'node:assert/strict'
import { spawn, spawnSync, type ChildProcess } from 'node:child_process'
import { test } from 'node:test'
import { randomId } from '../lib/ids.ts'
import { addInterfaces, type Interface } from '../libcontainer/network.ts'
import { runSteps, type Zygote } from '../sys/zygote.ts'
import type { EndpointConfig, NetworkConfig, NetworkDriver } from './driver.ts'

/** A driver under test, in this process's network namespace, and a network that it can have. */
export interface Conforming {
  driver: NetworkDriver
  zygote: Zygote
  /** Where FIFOs are meanwhile. */
  directory: string
  network: (name: string, subnet: string) => NetworkConfig
  /** Options that it must refuse: name and value. */
  refused: readonly (readonly [string, string])[]
}

/** What every network driver must do that has endpoints. */
export function networkDriverConformance(name: string, open: () => Conforming): void {
  const { driver, zygote, directory, network, refused } = open()
  /** The links that there are, but for those of endpoints: they go with their namespaces, a moment later. */
  const links = (): string[] => spawnSync('ip', ['-o', 'link']).stdout.toString().split('\n').map((line) => line.split(': ')[1] ?? '').map((link) => link.replace(/@.*/, '')).filter((link) => link && !link.startsWith('veth')).toSorted()
  const endpoint = (address: string): EndpointConfig => ({ id: randomId(), owner: `owner of ${address}`, mac: `02:42:${[...address.split('.')].map((part) => Number(part).toString(16).padStart(2, '0')).join(':')}`, ipv4: `${address}/24`, options: {} })

  /** Puts an endpoint's interface into a network namespace of its own. */
  const enter = async (config: NetworkConfig, place: EndpointConfig): Promise<ChildProcess> => {
    const { link, mtu, gateway4, prefix, routes = [] } = await driver.join(config, place)
    const child = spawn('unshare', ['-n', 'sh', '-c', 'echo; exec sleep 1000'], { stdio: ['ignore', 'pipe', 'inherit'] })
    await new Promise((resolve) => child.stdout!.once('data', resolve))
    const wanted: Interface = { name: `${prefix}0`, link, mac: place.mac, mtu, addresses: [place.ipv4!], routes: [...routes, ...(gateway4 ? [{ gateway: gateway4 }] : [])] }
    await runSteps(zygote, directory, 'enter', (p) => {
      const pidfd = p.register()
      p.sys('pre', 'pidfd_open', [child.pid!, 0], { out: pidfd })
      addInterfaces(p, 'pre', { pid: child.pid!, pidfd }, { interfaces: [wanted], resolver: false })
    })
    return child
  }
  const inside = (child: ChildProcess, ...command: string[]): { code: number, out: string } => {
    const { status, stdout } = spawnSync('nsenter', ['-n', '-t', String(child.pid), ...command])
    return { code: status ?? -1, out: stdout.toString() }
  }
  const leave = async (config: NetworkConfig, place: EndpointConfig, child: ChildProcess): Promise<void> => {
    const ended = new Promise((resolve) => child.once('exit', resolve))
    child.kill('SIGKILL')
    await ended
    await driver.leave(config, place)
  }

  test(`${name}: a network is made, again without harm, and removed, again without harm`, async () => {
    const before = links()
    const config = network('first', '10.201.0.0/24')
    driver.check(config)
    await driver.create(config)
    const made = links()
    await driver.create(config, { again: true })
    assert.deepEqual(links(), made)
    await driver.remove(config)
    await driver.remove(config)
    assert.deepEqual(links(), before)
  })

  test(`${name}: endpoints have their addresses, and reach each other`, async () => {
    const config = network('second', '10.202.0.0/24')
    await driver.create(config)
    const places = ['10.202.0.2', '10.202.0.3'].map(endpoint)
    const children = [await enter(config, places[0]!), await enter(config, places[1]!)]
    for (const [at, child] of children.entries()) {
      assert.match(inside(child, 'ip', 'addr').out, new RegExp(`inet ${places[at]!.ipv4} .*\n`))
      assert.match(inside(child, 'ip', '-o', 'link').out, /state UP|LOWER_UP/)
    }
    assert.equal(inside(children[0]!, 'busybox', 'ping', '-c1', '-W3', '10.202.0.3').code, 0)
    for (const [at, child] of children.entries()) await leave(config, places[at]!, child)
    await driver.leave(config, places[0]!)
    await driver.remove(config)
  })

  test(`${name}: options that it can not have are refused, and nothing is made`, () => {
    const before = links()
    const config = network('third', '10.203.0.0/24')
    for (const [option, value] of refused) assert.throws(() => driver.check({ ...config, options: { ...config.options, [option]: value } }), { kind: /invalid|unsupported/ }, option)
    assert.deepEqual(links(), before)
  })

  if (driver.publish) {
    test(`${name}: ports are published all or none, and a port that is taken names its holder`, async () => {
      const config = network('fourth', '10.204.0.0/24')
      await driver.create(config)
      const [one, two] = ['10.204.0.2', '10.204.0.3'].map(endpoint) as [EndpointConfig, EndpointConfig]
      for (const place of [one, two]) await driver.join(config, place)
      const ask = (port: number, to = 80, last = port) => ({ protocol: 'tcp' as const, hosts: ['0.0.0.0', '::'], from: port, last, to })
      assert.deepEqual((await driver.publish!(config, one, [ask(7001)])).map(({ host, port }) => `${host} ${port}`), ['0.0.0.0 7001', ':: 7001'])
      await assert.rejects(driver.publish!(config, two, [ask(7002), ask(7001)]), /port is already allocated \(by container owner of 10\.204\.0\.2\)/)
      assert.deepEqual((await driver.publish!(config, two, [ask(7001, 80, 7003)])).map(({ port }) => port), [7002, 7002])
      const any = await driver.publish!(config, two, [ask(0, 81)])
      assert.ok(any[0]!.port > 1024 && any[0]!.port === any[1]!.port)
      await driver.withdraw!(config, one, [{ protocol: 'tcp', host: '0.0.0.0', port: 7001, to: 80 }, { protocol: 'tcp', host: '::', port: 7001, to: 80 }])
      await driver.publish!(config, two, [ask(7001)])
      for (const place of [one, two]) await driver.leave(config, place)
      await driver.publish!(config, one, [ask(7002)])
      await driver.leave(config, one)
      await driver.remove(config)
    })
  }
}
