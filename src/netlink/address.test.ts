import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { addressBytes, addressNumber, addressText, contains, overlap, parseSubnet, subnetText } from './address.ts'

test('addresses become numbers and text again', () => {
  fc.assert(fc.property(fc.ipV4(), (address) => assert.equal(addressText(addressNumber(address), 4), address)))
  fc.assert(fc.property(fc.ipV6(), (address) => {
    const number = addressNumber(address)
    assert.equal(addressNumber(addressText(number, 6)), number)
  }))
})

test('IPv6 addresses are written as RFC 5952 has it', () => {
  const cases = { '2001:0db8:0:0:0:0:2:1': '2001:db8::2:1', '2001:db8:0:1:1:1:1:1': '2001:db8:0:1:1:1:1:1', '2001:0:0:1:0:0:0:1': '2001:0:0:1::1', '::': '::', '::ffff:10.0.0.1': '::ffff:a00:1', 'fd00::': 'fd00::' }
  for (const [given, wanted] of Object.entries(cases)) assert.equal(addressText(addressNumber(given), 6), wanted)
  assert.equal(addressBytes('fe80::1%eth0').toString('hex'), 'fe800000000000000000000000000001')
})

test('a subnet begins where its prefix says, and is what it contains', () => {
  assert.equal(subnetText(parseSubnet('10.1.2.3/16')), '10.1.0.0/16')
  const subnet = parseSubnet('10.1.0.0/16')
  assert.deepEqual(['10.1.0.0', '10.1.255.255', '10.2.0.0', '10.0.255.255', '::1'].map((address) => contains(subnet, address)), [true, true, false, false, false])
  assert.ok(overlap(subnet, parseSubnet('10.1.4.0/24')) && overlap(parseSubnet('10.0.0.0/8'), subnet) && !overlap(subnet, parseSubnet('10.2.0.0/16')))
  for (const bad of ['', '10.0.0.0', '10.0.0.0/33', '10.0.0/8', 'fd00::/129', '10.0.0.0/8/8', '10.0.0.0/x']) assert.throws(() => parseSubnet(bad), /invalid CIDR address/)
})
