/** A reporter for Node's test runner, which fails the run for each skipped test whose reason is none of those listed
 * here: they name what a machine may lack. */
import type { TestEvent } from 'node:test/reporters'

const reasons = new Set([
  'this machine has cgroup v2 only',
  'no cgroup2 tree is mounted',
  'the directory of the tests is on no whole disk',
  'this kernel has no project quotas',
  'this machine serves no NFS',
])

export default async function* unlistedSkips(events: AsyncIterable<TestEvent>): AsyncGenerator<string> {
  for await (const { type, data } of events) {
    if (type !== 'test:pass' && type !== 'test:fail') continue
    const { name, skip } = data
    if (skip === undefined || skip === false || reasons.has(String(skip))) continue
    process.exitCode = 1
    yield `✖ ${name}: skipped, ${skip === true ? 'without a reason' : `for a reason that scripts/skips.ts does not list: ${skip}`}\n`
  }
}
