import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isKind } from '../../lib/errors.ts'
import type { Storage } from './driver.ts'

async function textOf(from: AsyncIterable<Buffer>): Promise<string> {
  let text = ''
  for await (const piece of from) text += piece.toString('latin1')
  return text
}

/** What every storage driver does. `open` opens an empty one. */
export function storageConformance(name: string, open: () => Storage): void {
  const of = (title: string, work: (storage: Storage) => Promise<void>): void => void test(`${name}: ${title}`, async () => {
    const storage = open()
    try {
      await work(storage)
    } finally {
      await storage.close()
    }
  })

  of('what is put is got, whole, and replaced', async (storage) => {
    assert.equal(await storage.get('a/b'), undefined)
    await storage.put('a/b', Buffer.from('one'))
    await storage.put('a/b', Buffer.from('second'))
    assert.equal((await storage.get('a/b'))?.toString(), 'second')
    assert.equal((await storage.stat('a/b'))?.size, 6)
    assert.equal(await storage.get('a'), undefined)
    assert.equal(await storage.stat('a/b/c'), undefined)
  })

  of('ranges are read', async (storage) => {
    await storage.put('x', Buffer.from('0123456789'))
    for (const [start, end, text] of [[0, 10, '0123456789'], [3, 5, '34'], [9, 10, '9'], [4, 4, '']] as const) assert.equal(await textOf(storage.read('x', start, end)), text)
    await assert.rejects(textOf(storage.read('nothing', 0, 1)), (error) => isKind(error, 'not-found'))
  })

  of('what is appended goes on where it ended', async (storage) => {
    const first = await storage.append('up/data')
    await first.write(Buffer.from('one '))
    await first.write(Buffer.from('two '))
    assert.equal(first.length, 8)
    await first.close()
    const second = await storage.append('up/data')
    assert.equal(second.length, 8)
    await second.write(Buffer.from('three'))
    assert.equal(await textOf(storage.read('up/data', 0, second.length)), 'one two three')
    await second.close()
    await storage.commit('up/data', 'lasting/data')
    assert.equal(await storage.stat('up/data'), undefined)
    assert.equal((await storage.get('lasting/data'))?.toString(), 'one two three')
    await assert.rejects(storage.commit('up/data', 'other'), (error) => isKind(error, 'not-found'))
  })

  of('directories are there as long as something is in them', async (storage) => {
    await storage.put('d/b/1', Buffer.from(''))
    await storage.put('d/a/1', Buffer.from(''))
    await storage.put('d/a/2', Buffer.from(''))
    assert.deepEqual(await storage.list('d'), ['a', 'b'])
    await storage.remove('d/b/1')
    assert.deepEqual(await storage.list('d'), ['a'])
    await storage.remove('d')
    assert.deepEqual(await storage.list('d'), [])
    assert.deepEqual(await storage.list(''), [])
    await storage.remove('d') // which does nothing
  })

  of('what is touched is newer', async (storage) => {
    await storage.put('t', Buffer.from('x'))
    const before = (await storage.stat('t'))!.changed
    await new Promise((resolve) => setTimeout(resolve, 20))
    await storage.touch('t')
    assert.ok((await storage.stat('t'))!.changed > before)
    await assert.rejects(storage.touch('nothing'), (error) => isKind(error, 'not-found'))
  })

  of('many write the same path at once, and one of them is last', async (storage) => {
    const texts = Array.from({ length: 20 }, (_, at) => String(at).repeat(1000))
    await Promise.all(texts.map((text) => storage.put('same', Buffer.from(text))))
    assert.ok(texts.includes((await storage.get('same'))!.toString()))
    assert.deepEqual(await storage.list(''), ['same'])
  })
}
