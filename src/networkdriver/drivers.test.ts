import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { randomId } from '../lib/ids.ts'
import { must } from '../sys/ffi.ts'
import { CLONE } from '../sys/process.ts'
import { nr } from '../sys/syscalls.ts'
import { Zygote } from '../sys/zygote.ts'
import { networkDriverConformance } from './conformance.ts'
import type { NetworkConfig } from './driver.ts'
import { networkDrivers } from './drivers.ts'
import { VNI_OPTION } from './overlay.ts'

// all that follows, and what is started from here on, is in a network namespace of its own
must('unshare', nr('unshare'), CLONE.network)
spawnSync('sh', ['-c', 'ip link set lo up; ip link add wire0 type veth peer name wire1; ip link set wire0 up; ip link set wire1 up'])

const directory = mkdtempSync(join(tmpdir(), 'berth-drivers-'))
const zygote = Zygote.start()
const driver = networkDrivers({
  cluster: { address: '127.0.0.1', keys: { secret: assert.fail, nonce: assert.fail, forget: assert.fail } }, plugin: assert.fail, bridge: {
    zygote, directory, table: 'berth-conformance', alias: `berth:${directory}`, defaultBridge: 'berth0', userlandProxy: true, guard: false, warn: assert.fail,
  },
})
after(async () => {
  await driver('bridge').close!()
  zygote.stop()
  rmSync(directory, { recursive: true, force: true })
})

const network = (options: Record<string, string>) => {
  const ids = new Map<string, string>() // the same network has the same id
  return (name: string, subnet: string): NetworkConfig => {
    if (!ids.has(name)) ids.set(name, randomId())
    return { id: ids.get(name)!, name, internal: false, options, ipv4: [{ subnet, gateway: subnet.replace('0/24', '1') }], ipv6: [] }
  }
}
const mtu = ['com.docker.network.driver.mtu', 'large'] as const

networkDriverConformance('bridge', () => ({ driver: driver('bridge'), zygote, directory, network: network({}), refused: [mtu, ['com.docker.network.bridge.enable_icc', 'perhaps'], ['com.docker.network.bridge.name', 'a name that is too long']] }))
networkDriverConformance('overlay', () => ({ driver: driver('overlay'), zygote, directory, network: network({ [VNI_OPTION]: '4200' }), refused: [mtu, [VNI_OPTION, 'x']] }))
networkDriverConformance('macvlan', () => ({ driver: driver('macvlan'), zygote, directory, network: network({ parent: 'wire0' }), refused: [mtu, ['parent', ''], ['macvlan_mode', 'sideways']] }))

for (const [name, only] of [['host', 'host'], ['null', 'none']] as const) {
  test(`${name}: there is one network of it, and no endpoint`, async () => {
    const config = network({})(only, '10.200.0.0/24')
    driver(name).check(config)
    assert.throws(() => driver(name).check({ ...config, name: 'another' }), /only one instance/)
    await driver(name).create(config)
    await assert.rejects(driver(name).join(config, { id: randomId(), owner: 'x', mac: '', options: {} }), /has no endpoints/)
    await driver(name).remove(config)
  })
}
