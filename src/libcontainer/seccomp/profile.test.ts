import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { existsSync, readFileSync } from 'node:fs'
import { test } from 'node:test'
import { compileSeccomp } from './compile.ts'
import { defaultSeccomp, parseSeccomp, type Seccomp } from './profile.ts'

const conditional = ['CAP_SYS_ADMIN', 'CAP_SYS_PTRACE', 'CAP_BPF', 'CAP_PERFMON', 'CAP_SYS_CHROOT', 'CAP_SYS_TIME', 'CAP_SYS_MODULE', 'CAP_DAC_READ_SEARCH', 'CAP_SYS_BOOT', 'CAP_SYS_PACCT', 'CAP_SYS_RAWIO', 'CAP_SYS_TTY_CONFIG', 'CAP_SYS_NICE', 'CAP_SYSLOG']

/** What a profile says of each system call, in an order that does not depend on how its rules are written. */
const flat = ({ defaultAction, defaultErrnoRet, syscalls = [] }: Seccomp): string[] =>
  [`${defaultAction} ${defaultErrnoRet}`, ...new Set(syscalls.flatMap((rule) => rule.names.map((name) => JSON.stringify([name, rule.action, rule.errnoRet ?? null, rule.args ?? []]))))].toSorted()

const contexts = [[], ...conditional.map((name) => [name]), conditional].flatMap((capabilities) => (['x86_64', 'aarch64'] as const).flatMap((architecture) => ['4.4.0', '6.1.0'].map((kernel) => ({ capabilities, architecture, kernel }))))

test('the default policy is Docker\'s, under every condition that it has', () => {
  // the digest of Docker's own table, read under the same conditions; where the table is at hand, it is read again
  const table = process.env['BERTH_SECCOMP_TABLE'] ?? new URL('../../../../shared/data/docker-seccomp-default.json', import.meta.url).pathname
  const digest = createHash('sha256')
  for (const context of contexts) {
    const rules = flat(defaultSeccomp(context))
    digest.update(rules.join('\n'))
    if (existsSync(table)) assert.deepEqual(rules, flat(parseSeccomp(readFileSync(table, 'utf8'), context)), JSON.stringify(context))
  }
  assert.equal(digest.digest('hex'), 'c61b3fb008c36dceb8f0828481d6e4a8c29528532e4cf720848e250717cbc4c0')
})

test('a profile that is none is refused', () => {
  const context = contexts[0]!
  for (const text of ['', '[]', '{', '{"defaultAction":1}']) assert.throws(() => parseSeccomp(text, context), /Decoding seccomp profile failed/)
  assert.throws(() => compileSeccomp(parseSeccomp('{"defaultAction":"SCMP_ACT_NOPE"}', context)), /invalid seccomp action: "SCMP_ACT_NOPE"/)
})
