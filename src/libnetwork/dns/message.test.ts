import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { RCODE, TYPE, addressOfPointer, encodeResponse, parseQuery, truncate } from './message.ts'

/** `dig db.test A`, as dig 9.18 sends it without EDNS. */
const query = Buffer.from('1a2b01200001000000000000026462047465737400' + '0001' + '0001', 'hex')

test('a query is read', () => {
  assert.deepEqual(parseQuery(query), { id: 0x1a2b, name: 'db.test', type: TYPE.A, recursion: true, end: query.length })
})

test('an answer has the question, and each address under its name', () => {
  const response = encodeResponse(query, parseQuery(query)!, RCODE.ok, [{ address: '10.0.0.2' }, { address: 'fd00::2' }])
  assert.equal(response.toString('hex'), '1a2b81800001000200000000026462047465737400' + '00010001' + 'c00c0001000100000258' + '0004' + '0a000002' + 'c00c001c000100000258' + '0010' + 'fd000000000000000000000000000002')
  const cut = truncate(response, parseQuery(query)!)
  assert.deepEqual([cut.length, cut.readUInt16BE(2) & 0x0200, cut.readUInt16BE(6)], [query.length, 0x0200, 0])
})

test('a pointer stands for its address', () => {
  assert.equal(addressOfPointer('2.0.18.172.in-addr.arpa'), '172.18.0.2')
  assert.equal(addressOfPointer(`${'2.'}${'0.'.repeat(28)}0.d.f.ip6.arpa`), 'fd00::2')
  assert.equal(addressOfPointer('example.com'), undefined)
})

test('what is no query is none, whatever bytes it has', () => {
  fc.assert(fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
    const question = parseQuery(Buffer.from(bytes))
    if (question) assert.ok(question.end <= bytes.length && question.name.length <= 255)
  }))
  const loop = Buffer.from(query)
  loop[12] = 0xc0 // a pointer: there is nothing before a question to point at
  assert.equal(parseQuery(loop), undefined)
  assert.equal(parseQuery(query.subarray(0, 20)), undefined)
})
