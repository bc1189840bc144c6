import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { closeSync, constants, existsSync, mkdirSync, openSync, readFileSync, rmdirSync } from 'node:fs'
import { after, test } from 'node:test'
import { join } from 'node:path'
import { errno } from '../../sys/errno.ts'
import { addressOf, must, syscall } from '../../sys/ffi.ts'
import { nr } from '../../sys/syscalls.ts'
import type { DeviceRule } from '../spec.ts'
import { compileDeviceRules, usualDeviceRules } from './devices.ts'

/** The version 2 tree: on hybrid machines it has no controllers, but takes programs. */
const tree = /^\S+ \S+ \S+ \S+ (\S+) .* - cgroup2 /m.exec(readFileSync('/proc/self/mountinfo', 'utf8'))?.[1]
const directory = tree && join(tree, 'berth-devices-test')
after(() => {
  if (directory && existsSync(directory)) rmdirSync(directory)
})

/** Has the kernel's verifier look at a program; returns its descriptor. */
function load(rules: readonly DeviceRule[]): number {
  const code = compileDeviceRules(rules)
  const license = Buffer.from('Apache\0')
  const log = Buffer.alloc(1 << 16)
  const attributes = Buffer.alloc(128) // union bpf_attr
  attributes.writeUInt32LE(15, 0) // BPF_PROG_TYPE_CGROUP_DEVICE
  attributes.writeUInt32LE(code.length / 8, 4)
  attributes.writeBigUInt64LE(addressOf(code), 8)
  attributes.writeBigUInt64LE(addressOf(license), 16)
  attributes.writeUInt32LE(1, 24)
  attributes.writeUInt32LE(log.length, 28)
  attributes.writeBigUInt64LE(addressOf(log), 32)
  let fd: number
  do fd = syscall(nr('bpf'), 5, attributes, 128)
  while (fd === -errno.EAGAIN) // a signal came
  assert.ok(fd >= 0, `${fd}: ${log.toString('latin1').replace(/\0[^]*/, '')}`)
  return fd
}

/** Which of these a shell in a cgroup with the rules may do. */
function allowed(rules: readonly DeviceRule[], attempts: readonly string[]): string[] {
  mkdirSync(directory!, { recursive: true })
  const [program, cgroup] = [load(rules), openSync(directory!, constants.O_RDONLY | constants.O_DIRECTORY)]
  const attributes = Buffer.alloc(128)
  attributes.writeInt32LE(cgroup, 0)
  attributes.writeInt32LE(program, 4)
  attributes.writeUInt32LE(6, 8) // BPF_CGROUP_DEVICE
  try {
    must('attach', nr('bpf'), 8, attributes, 128)
    const { stdout } = spawnSync('sh', ['-c', `echo $$ > ${directory}/cgroup.procs; ${attempts.map((attempt) => `(${attempt}) >&2 && echo '${attempt}'`).join('; ')}`])
    return stdout.toString().trim().split('\n').filter(Boolean)
  } finally {
    syscall(nr('bpf'), 9, attributes, 128)
    closeSync(program)
    closeSync(cgroup)
  }
}

const everything: DeviceRule = { allow: true, access: 'rwm' }
const nothing: DeviceRule = { allow: false, access: 'rwm' }
const zero = (allow: boolean, access: string): DeviceRule => ({ allow, type: 'c', major: 1, minor: 5, access })

test('the verifier takes every list of rules', () => {
  for (const rules of [[], [everything], [nothing], [nothing, ...usualDeviceRules], [everything, nothing, everything], [zero(true, 'r'), everything], [{ allow: true, type: 'b', access: 'm' }, zero(false, 'w')], Array.from({ length: 60 }, (_rule, i) => ({ allow: true, type: 'c', major: i, minor: i, access: 'rw' }))])
    closeSync(load(rules))
})

test('the last rule that matches decides', tree ? {} : { skip: 'no cgroup2 tree is mounted' }, () => {
  const read = 'head -c 1 /dev/zero'
  const write = 'echo > /dev/zero'
  const other = 'head -c 1 /dev/urandom'
  assert.deepEqual(allowed([everything], [read, write, other]), [read, write, other])
  assert.deepEqual(allowed([nothing], [read, write, other]), [])
  assert.deepEqual(allowed([nothing, zero(true, 'rw')], [read, write, other]), [read, write])
  assert.deepEqual(allowed([nothing, zero(true, 'r')], [read, write, other]), [read])
  assert.deepEqual(allowed([everything, zero(false, 'rwm')], [read, write, other]), [other])
  assert.deepEqual(allowed([nothing, ...usualDeviceRules], [read, write, other]), [read, write, other])
  assert.deepEqual(allowed([nothing, { allow: true, type: 'c', major: 1, minor: -1, access: 'rw' }, zero(false, 'w')], [read, write, other]), [read, other])
})
