import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import type { LogDriver, LogEntry, LogQuery } from './driver.ts'

/** What every log driver must do that can be read. `open` makes a driver on the same log each time it is called within a
 * test; `name` tells the tests' logs apart. */
export function logDriverConformance(name: string, open: (log: string) => LogDriver): void {
  const read = async (log: LogDriver, query: Partial<LogQuery> = {}): Promise<LogEntry[]> => {
    const entries: LogEntry[] = []
    for await (const batch of log.read!({ follow: false, signal: new AbortController().signal, ...query } as LogQuery)) entries.push(...batch)
    return entries
  }
  const lines = async (log: LogDriver, query?: Partial<LogQuery>): Promise<string[]> => (await read(log, query)).map(({ line }) => line)
  const started = async (log: string): Promise<LogDriver> => {
    const driver = open(log)
    await driver.open?.()
    return driver
  }

  test(`${name}: lines come back in order, with their stream and time, also when it is opened again`, async () => {
    const before = Date.now()
    const log = await started('order')
    log.write('stdout', Buffer.from('one\ntw'))
    log.write('stderr', Buffer.from('error\n'))
    log.write('stdout', Buffer.from('o\n\nünended'))
    log.close()
    const again = open('order')
    const entries = await read(again)
    assert.deepEqual(entries.map(({ stream, line }) => [stream, line]), [['stdout', 'one\n'], ['stderr', 'error\n'], ['stdout', 'two\n'], ['stdout', '\n'], ['stdout', 'ünended']])
    for (const { time } of entries) assert.ok(Date.parse(time) >= before - 1 && Date.parse(time) <= Date.now() + 1 && /\.\d{9}Z$/.test(time), time)
  })

  test(`${name}: a line that is too long comes in parts, of which nothing is missing`, async () => {
    const log = await started('long')
    const long = Array.from({ length: 40_000 }, (_letter, at) => String.fromCharCode(97 + at % 26)).join('')
    log.write('stdout', Buffer.from(`${long}\nnext\n`))
    log.close()
    const found = await lines(open('long'))
    assert.equal(found.join(''), `${long}\nnext\n`)
    assert.ok(found.length > 2)
  })

  test(`${name}: the last entries, and those of a time`, async () => {
    const log = await started('parts')
    for (let i = 0; i < 2000; i++) log.write('stdout', Buffer.from(`line ${i}\n`))
    await sleep(20)
    const middle = Date.now()
    await sleep(20)
    for (let i = 2000; i < 2010; i++) log.write('stderr', Buffer.from(`line ${i}\n`))
    log.close()
    const again = open('parts')
    assert.equal((await lines(again)).length, 2010)
    assert.deepEqual(await lines(again, { tail: 0 }), [])
    for (const tail of [1, 9, 11, 1500]) assert.deepEqual(await lines(again, { tail }), Array.from({ length: tail }, (_line, at) => `line ${2010 - tail + at}\n`))
    assert.equal((await lines(again, { tail: 5000 })).length, 2010)
    assert.deepEqual((await lines(again, { since: middle })).length, 10)
    assert.deepEqual((await lines(again, { until: middle })).length, 2000)
    assert.deepEqual(await lines(again, { since: middle, tail: 12 }), Array.from({ length: 10 }, (_line, at) => `line ${2000 + at}\n`))
  })

  test(`${name}: who follows hears what comes, until the log is closed or nobody wants it any more`, async () => {
    const log = await started('follow')
    log.write('stdout', Buffer.from('before\n'))
    const heard: string[] = []
    const gone = new AbortController()
    const follow = async (signal: AbortSignal, into: string[]): Promise<void> => {
      for await (const batch of log.read!({ follow: true, signal } as LogQuery)) into.push(...batch.map(({ line }) => line))
    }
    const [all, some] = [follow(new AbortController().signal, heard), follow(gone.signal, [])]
    await sleep(20)
    gone.abort()
    await some
    log.write('stdout', Buffer.from('after\n'))
    log.close()
    await all
    assert.deepEqual(heard, ['before\n', 'after\n'])
  })
}
