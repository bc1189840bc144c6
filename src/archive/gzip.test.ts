import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { test } from 'node:test'
import { gunzipSync } from 'node:zlib'
import fc from 'fast-check'
import { gzip } from './gzip.ts'

async function* pieces(data: Buffer, sizes: readonly number[]): AsyncGenerator<Buffer> {
  let at = 0
  for (let i = 0; at < data.length; i++) {
    const size = sizes[i % sizes.length]!
    yield data.subarray(at, at + size)
    at += size
  }
}

async function whole(from: AsyncIterable<Buffer>): Promise<Buffer> {
  const chunks: Buffer[] = []
  for await (const chunk of from) chunks.push(chunk)
  return Buffer.concat(chunks)
}

test('what is compressed on all cores is one gzip stream, and the same each time', async () => {
  await fc.assert(fc.asyncProperty(fc.uint8Array({ maxLength: 2000 }), fc.integer({ min: 0, max: 3000 }), fc.array(fc.integer({ min: 1, max: 3 << 20 }), { minLength: 1, maxLength: 4 }), async (seed, repeats, sizes) => {
    const data = Buffer.concat(Array.from({ length: repeats }, () => seed))
    const compressed = await whole(gzip(pieces(data, sizes)))
    assert.deepEqual(gunzipSync(compressed), data)
    assert.deepEqual(await whole(gzip(pieces(data, [1 << 20]))), compressed)
  }), { numRuns: 25 })
})

test('gzip itself reads it', async () => {
  const data = Buffer.alloc(5 << 20, 'all work and no play ')
  const compressed = await whole(gzip(pieces(data, [100_000])))
  assert.ok(compressed.length < 20_000)
  assert.deepEqual(execFileSync('gzip', ['-dc'], { input: compressed, maxBuffer: 64 << 20 }), data)
})
