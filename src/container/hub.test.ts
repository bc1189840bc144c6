import assert from 'node:assert/strict'
import { PassThrough } from 'node:stream'
import { test } from 'node:test'
import { OutputHub, type Sink } from './hub.ts'

const collect = (): Sink & { data: string[], ended: boolean } => {
  const sink = { data: [] as string[], ended: false, write: (stream: string, data: Buffer) => sink.data.push(`${stream} ${data.toString()}`) > 0, drained: () => {}, end: () => void (sink.ended = true) }
  return sink
}

test('every sink gets every byte, in order', async () => {
  const hub = new OutputHub()
  const [one, two] = [collect(), collect()]
  hub.add(one)
  hub.add(two)
  const source = new PassThrough()
  const over = hub.read(source, 'stdout')
  source.write('a')
  source.end('b')
  await over
  hub.end()
  assert.deepEqual(one.data, two.data)
  assert.equal(one.data.join('').replaceAll('stdout ', ''), 'ab')
  assert.ok(one.ended)
})

test('a source that ended before anybody read it is over at once', async () => {
  const source = new PassThrough()
  source.resume().end()
  await new Promise((resolve) => source.once('close', resolve))
  await new OutputHub().read(source, 'stdout')
})

test('a sink that is full makes the source wait, and the others lose nothing', async () => {
  const hub = new OutputHub()
  const fast = collect()
  let goOn: (() => void) | undefined
  let full = true
  hub.add(fast)
  hub.add({ write: () => !full, drained: (then) => (goOn = then), end: () => {} })
  const source = new PassThrough()
  const over = hub.read(source, 'stdout')
  source.write('first')
  await new Promise((resolve) => setImmediate(resolve))
  source.end('second')
  await new Promise((resolve) => setImmediate(resolve))
  assert.deepEqual(fast.data, ['stdout first'])
  full = false
  goOn!()
  await over
  assert.deepEqual(fast.data, ['stdout first', 'stdout second'])
})
