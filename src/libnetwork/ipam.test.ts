import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parseSubnet } from '../netlink/address.ts'
import { AddressPool, checkPool, defaultSpaces, freeSubnet } from './ipam.ts'

test('addresses go out one after the other, and what came back goes out last', () => {
  const pool = new AddressPool({ subnet: '10.0.0.0/29', gateway: '10.0.0.1', auxiliary: { printer: '10.0.0.4' } })
  assert.deepEqual([pool.allocate(), pool.allocate(), pool.allocate()], ['10.0.0.2/29', '10.0.0.3/29', '10.0.0.5/29'])
  pool.release('10.0.0.2/29')
  assert.deepEqual([pool.allocate(), pool.allocate(), pool.allocate()], ['10.0.0.6/29', '10.0.0.2/29', undefined])
  assert.throws(() => pool.reserve('10.0.0.3'), /Address already in use/)
  pool.release('10.0.0.3')
  assert.equal(pool.reserve('10.0.0.3'), '10.0.0.3/29')
})

test('a range limits what is given out, not what is asked for', () => {
  const pool = new AddressPool({ subnet: '10.0.0.0/24', range: '10.0.0.128/31', gateway: '10.0.0.1', auxiliary: {} })
  assert.deepEqual([pool.allocate(), pool.allocate(), pool.allocate()], ['10.0.0.128/24', '10.0.0.129/24', undefined])
  assert.equal(pool.reserve('10.0.0.7'), '10.0.0.7/24')
})

test('a network of two addresses has no address of its own', () => {
  const pool = new AddressPool({ subnet: '10.0.0.0/31', auxiliary: {} })
  assert.deepEqual([pool.allocate(), pool.allocate(), pool.allocate()], ['10.0.0.0/31', '10.0.0.1/31', undefined])
})

test('a large subnet of IPv6 costs no more than a small one', () => {
  const pool = new AddressPool({ subnet: 'fd00::/64', gateway: 'fd00::1', auxiliary: {} })
  assert.deepEqual([pool.allocate(), pool.allocate()], ['fd00::2/64', 'fd00::3/64'])
})

test('the gateway is the first address that nobody else has', () => {
  assert.equal(checkPool({ subnet: '10.0.0.0/24' }).gateway, '10.0.0.1')
  assert.equal(checkPool({ subnet: '10.0.0.0/24', auxiliary: { x: '10.0.0.1' } }).gateway, '10.0.0.2')
  assert.equal(checkPool({ subnet: '10.0.0.9/24', gateway: '10.0.0.254' }).subnet, '10.0.0.0/24')
  assert.throws(() => checkPool({ subnet: '10.0.0.0/24', gateway: '10.1.0.1' }), /no matching subnet for gateway 10.1.0.1/)
  assert.throws(() => checkPool({ subnet: '10.0.0.0/24', range: '10.0.0.0/16' }), /no matching subnet for range/)
  assert.throws(() => checkPool({ subnet: '10.0.0.0/24', gateway: 'x' }), /no IP address/)
})

test('subnets come from the spaces, until those are used up', () => {
  const taken = ['172.17.0.0/16', '172.18.4.0/24'].map(parseSubnet)
  assert.equal(freeSubnet(defaultSpaces, 4, taken), '172.19.0.0/16')
  assert.equal(freeSubnet(defaultSpaces, 4, [parseSubnet('172.16.0.0/12')]), '192.168.0.0/20')
  assert.equal(freeSubnet(defaultSpaces, 4, [parseSubnet('172.16.0.0/12'), parseSubnet('192.168.0.0/17')]), '192.168.128.0/20')
  assert.throws(() => freeSubnet(defaultSpaces, 4, [parseSubnet('172.16.0.0/12'), parseSubnet('192.168.0.0/16')]), /all predefined address pools have been fully subnetted/)
  assert.equal(freeSubnet([{ base: 'fd00::/48', size: 64 }], 6, [parseSubnet('fd00::/64')]), 'fd00:0:0:1::/64')
})
