import assert from 'node:assert/strict'
import { test } from 'node:test'
import { newAssociation, newPolicy } from './xfrm.ts'

/** What iproute2 6.1 sends for the same (strace -e write): `ip xfrm state add src 10.0.0.1 dst 10.0.0.2 proto esp spi 0x1001
 * mode transport replay-window 128 flag esn aead rfc4106(gcm(aes)) 0x0102… 128`, and `ip xfrm policy add src 10.0.0.1/32 dst
 * 10.0.0.2/32 proto udp dport 4789 dir out tmpl src 10.0.0.1 dst 10.0.0.2 proto esp mode transport`. */
const iproute2 = {
  association: '6c01000010000500a322026b' + '00'.repeat(60) + '0a000002' + '00'.repeat(14) + '1001320000000a000001' + '00'.repeat(12) + 'ff'.repeat(32) + '00'.repeat(84) + '02000000800000000000000060001200726663343130362867636d286165732929' + '00'.repeat(47) + 'a0000000800000000102030405060708090a0b0c0d0e0f10111213141c00170004' + '00'.repeat(19) + '80000000',
  policy: 'fc00000013000500a322026b000000000a000002' + '00'.repeat(12) + '0a000001' + '00'.repeat(12) + '12b5ffff000000000200202011' + '00'.repeat(11) + 'ff'.repeat(32) + '00'.repeat(72) + '0100000000000000440005000a000002' + '00'.repeat(16) + '32000000020000000a000001' + '00'.repeat(20) + 'ff'.repeat(12),
}

/** Without flags and sequence, which are the sender's own. */
const said = (hex: string): string => hex.slice(0, 12) + hex.slice(32)
const way = { from: '10.0.0.1', to: '10.0.0.2' }

test('associations and policies are packed as iproute2 packs them', () => {
  const key = Buffer.from('0102030405060708090a0b0c0d0e0f1011121314', 'hex')
  assert.equal(said(newAssociation(way, 0x1001, key).toString('hex')), said(iproute2.association))
  assert.equal(said(newPolicy('out', way, 4789).toString('hex')), said(iproute2.policy))
})
