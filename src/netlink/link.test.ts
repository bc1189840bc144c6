import assert from 'node:assert/strict'
import { test } from 'node:test'
import { deleteLink, newAddress, newBridge, newForwarding, newLayered, newNeighbour, newRoute, newVeth, newVxlan, setLink } from './link.ts'

/** What iproute2 6.1 sends for the same (strace -e write): attributes may come in another order, and it does not flag
 * those that have others in them. */
const iproute2 = {
  bridge: '38000000100005060000000000000000000000000000000000000000000000000800030062723100100012000a00010062726964676500 00',
  veth: '84000000100005060000000000000000000000000000000000000000000000000800040078050000 08000a0002000000 0700030076610000 4c00120008000100 76657468 40000200 3c000100 00000000000000000000000000000000 0800040078050000 0a00010002420a0000020000 08001300d1130000 0900030065746830 00000000',
  up: '200000001000050000000000000000000000000003000000 0100000001000000',
  address4: '30000000140005050000000000000000 0210000002000000 080002000a000002 080001000a000002 080004000a00ffff',
  address6: '40000000140005050000000000000000 0a40020002000000 14000200fd000000000000000000000000000002 14000100fd000000000000000000000000000002',
  vxlan: '6c000000100005060000000000000000 00000000000000000000000000000000 08000400aa050000 0800030076783000 3c001200 0900010076786c616e000000 2c000200 05000b0001000000 0800010001100000 080004000a000001 0500070000000000 06000f0012b50000',
  macvlan: '6c000000100005060000000000000000 00000000000000000000000000000000 0800040078050000 0800130051780000 0a00010002420a0000020000 0800050002000000 0900030065746830 00000000 1c001200 0b0001006d6163766c616e00 0c000200 0800010004000000',
  forwarding: '300000001c0005050000000000000000 07000000 03000000 c0000200 0a00020002420a0000030000 080001000a000009',
  neighbour: '300000001c0005050000000000000000 02000000 03000000 80000000 080001000a010003 0a00020002420a0000030000',
  route: '2c000000180005050000000000000000 02000000fe030001 00000000 080005000a000001 0800040002000000',
}

/** Where attributes have others in them, and how many bytes come before those. */
const nested: Record<string, number> = { '18': 0, '18.2': 0, '18.2.1': 16 }

type Tree = { [type: string]: Tree | string }

function attributes(bytes: Buffer, at: number, path: string): Tree {
  const tree: Tree = {}
  while (at + 4 <= bytes.length) {
    const length = bytes.readUInt16LE(at)
    const type = String(bytes.readUInt16LE(at + 2) & 0x3fff)
    const value = bytes.subarray(at + 4, at + length)
    const here = path ? `${path}.${type}` : type
    const before = nested[here]
    // strings with and without a NUL at their end mean the same
    tree[type] = before === undefined ? value.toString('hex').replace(/^((?:[2-7][0-9a-f])+)00$/, '$1') : { before: value.toString('hex', 0, before), ...attributes(value, before, here) }
    at += (length + 3) & ~3
  }
  return tree
}

const known = (header: number) => (message: Buffer): Tree => ({ head: message.toString('hex', 4, 16 + header), ...attributes(message, 16 + header, '') })
const golden = (hex: string): Buffer => Buffer.from(hex.replaceAll(' ', ''), 'hex')

test('links are packed as iproute2 packs them', () => {
  const links = known(16)
  const plain = (message: Buffer): Buffer => golden(message.toString('hex'))
  assert.deepEqual(links(plain(newBridge({ name: 'br1' }))), links(golden(iproute2.bridge)))
  assert.deepEqual(links(newVeth({ name: 'va', mtu: 1400, master: 2 }, { name: 'eth0', mac: '02:42:0a:00:00:02', mtu: 1400 }, 0x13d1)), links(golden(iproute2.veth)))
  assert.deepEqual(links(setLink({ index: 3, up: true })), links(golden(iproute2.up)))
  assert.equal(deleteLink('br1').readUInt16LE(4), 17)
})

test('tunnels, links on links, and who is where are packed as iproute2 packs them', () => {
  assert.deepEqual(known(16)(newVxlan({ name: 'vx0', id: 4097, local: '10.0.0.1', mtu: 1450 })), known(16)(golden(iproute2.vxlan)))
  assert.deepEqual(known(16)(newLayered({ kind: 'macvlan', name: 'eth0', mac: '02:42:0a:00:00:02', mtu: 1400, parent: 2, mode: 4 }, 30_801)), known(16)(golden(iproute2.macvlan)))
  assert.deepEqual(known(12)(newForwarding({ index: 3, mac: '02:42:0a:00:00:03', host: '10.0.0.9', remove: false })), known(12)(golden(iproute2.forwarding)))
  assert.deepEqual(known(12)(newNeighbour({ index: 3, mac: '02:42:0a:00:00:03', address: '10.1.0.3', remove: false })), known(12)(golden(iproute2.neighbour)))
})

test('addresses and routes are packed as iproute2 packs them', () => {
  assert.deepEqual(known(8)(newAddress(2, '10.0.0.2/16')), known(8)(golden(iproute2.address4)))
  assert.deepEqual(known(8)(newAddress(2, 'fd00::2/64')), known(8)(golden(iproute2.address6)))
  assert.deepEqual(known(12)(newRoute({ gateway: '10.0.0.1', index: 2 })), known(12)(golden(iproute2.route)))
})
