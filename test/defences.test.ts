import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { closeSync, existsSync, mkdirSync, mkdtempSync, openSync, readFileSync, readlinkSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { messageOf } from '../src/lib/errors.ts'
import { Cgroup, findCgroupTrees, prepareCgroupParent } from '../src/libcontainer/cgroups/cgroup.ts'
import { assembleStart } from '../src/libcontainer/container.ts'
import type { Spec } from '../src/libcontainer/spec.ts'
import { exampleSpec } from '../src/runtime/describe.ts'
import { INHERITED, execute } from '../src/runtime/launch.ts'
import { makeFifo } from '../src/sys/fs.ts'
import { stages, type Program } from '../src/sys/program.ts'
import { nr } from '../src/sys/syscalls.ts'
import { Zygote } from '../src/sys/zygote.ts'
import { makeStarter } from './daemon.ts'

// Each attack is tried twice: on libcontainer as it is, and on its program with the defence taken out of it. The second
// must succeed, or the first shows nothing.

const directory = mkdtempSync(join(tmpdir(), 'berth-defences-'))
const trees = findCgroupTrees()
const PARENT = '/berth-defences'

/** A step of an encoded program: its place in the bytes, and what it does. */
interface Step { at: number, call: number, doing: string }

/** Takes a defence out of a program's bytes. */
type Removal = (bytes: Buffer, steps: Step[]) => void

const STEP = 64

/** Turns the steps that match into calls of getpid(2), which change nothing. */
const withoutSteps = (doing: RegExp): Removal => (bytes, steps) => {
  const found = steps.filter((step) => doing.test(step.doing))
  assert.ok(found.length > 0, `no step is ${doing}`)
  for (const { at } of found) {
    bytes.fill(0, at, at + STEP)
    bytes[at + 1] = 0xff // no register
    bytes.writeUInt32LE(nr('getpid'), at + 8)
    bytes.writeUInt16LE(0xffff, at + 4) // whatever it answers
  }
}

/** Clears flags of `resolve` in the struct open_how of the openat2(2) calls that match. */
const withoutResolve = (doing: RegExp): Removal => (bytes, steps) => {
  const found = steps.filter((step) => step.call === nr('openat2') && doing.test(step.doing))
  assert.ok(found.length > 0, `no openat2 is ${doing}`)
  for (const { at } of found) bytes.writeBigUInt64LE(0n, bytes.readUInt32LE(at + 16 + 2 * 8) + 16)
}

const all = (...removals: Removal[]): Removal => (bytes, steps) => removals.forEach((removal) => removal(bytes, steps))

/** The program with a removal applied once it is encoded. */
function altered(program: Program, removal: Removal | undefined): Program {
  if (!removal) return program
  const encode = (token: bigint): Buffer => {
    const bytes = program.encode(token)
    const steps = stages.flatMap((_stage, stage) => Array.from({ length: bytes.readUInt32LE(16 + stage * 8) }, (_step, i) => {
      const at = bytes.readUInt32LE(12 + stage * 8) + i * STEP
      return { at, call: bytes[at] === 0 ? bytes.readUInt32LE(at + 8) : -1, doing: program.describe(stage << 16 | i, 0).replace(/: [^:]*$/, '') }
    }))
    removal(bytes, steps)
    return bytes
  }
  return { encode, describe: (step: number, error: number) => program.describe(step, error) } as unknown as Program
}

interface Attempt {
  args: string[]
  change?: (spec: Spec) => void
  removal?: Removal | undefined
  /** Looks at the process when it waits before its execution; it goes on afterwards. */
  atGate?: (pid: number) => unknown
  /** Descriptors that the zygote has as further ones. */
  leak?: readonly number[]
}

let number = 0

/** Runs a container of the example spec and returns what it printed; what failed where it could not start. */
async function contain({ args, change = () => {}, removal, atGate, leak = [] }: Attempt): Promise<{ out: string, status: number }> {
  const id = `attack-${++number}`
  const at = (name: string): string => join(directory, `${id}-${name}`)
  const spec = exampleSpec()
  spec.process = { ...spec.process!, terminal: false, args }
  delete spec.process.rlimits
  spec.root!.readonly = false
  spec.linux!.resources = {}
  change(spec)
  writeFileSync(at('out'), '')
  const [input, output] = [openSync('/dev/null', 'r'), openSync(at('out'), 'a')]
  const zygote = Zygote.start({ pass: [input, output, output, ...leak] })
  const cgroup = new Cgroup(trees, `${PARENT}/${id}`)
  try {
    if (atGate) makeFifo(at('gate'), 0o600)
    const program = assembleStart({
      id, spec, root: { type: 'bind', source: join(directory, 'rootfs'), target: join(directory, 'rootfs') }, trees, cgroup, stdio: { kind: 'inherit', ...INHERITED },
      files: { events: at('events'), exit: at('exit'), pid: at('pid') }, sourceKind: (source) => (statSync(source).isDirectory() ? 'directory' : 'file'), ...(atGate && { gate: { path: at('gate'), hooks: false } }),
    })
    const running = await execute(zygote, altered(program, removal), at('events'))
    if (atGate) {
      while (!/^\d+ \d+\n/.test(existsSync(at('pid')) ? readFileSync(at('pid'), 'utf8') : '')) await new Promise((resolve) => setTimeout(resolve, 5))
      await atGate(Number(readFileSync(at('pid'), 'utf8').split(' ')[1]))
      writeFileSync(at('gate'), 'x')
    }
    const status = await running.exited
    running.release()
    return { out: readFileSync(at('out'), 'utf8'), status }
  } catch (error) {
    return { out: messageOf(error), status: -1 }
  } finally {
    closeSync(input)
    closeSync(output)
    zygote.stop()
    cgroup.kill('SIGKILL')
    await cgroup.removeSoon()
  }
}

before(() => {
  prepareCgroupParent(trees, PARENT)
})
after(async () => {
  await new Cgroup(trees, PARENT).removeSoon()
  rmSync(directory, { recursive: true, force: true })
})

/** A fresh root file system, with changes by an attacker. */
function image(change: (root: string) => void = () => {}): void {
  const root = join(directory, 'rootfs')
  rmSync(root, { recursive: true, force: true })
  makeStarter(root)
  change(root)
}

const bind = (spec: Spec, source: string, destination: string): void => void spec.mounts!.push({ destination, type: 'bind', source, options: ['bind'] })

test('CVE-2019-5736: the program that starts containers is not one on disk', async () => {
  image()
  let exe = ''
  assert.deepEqual(await contain({ args: ['true'], atGate: (pid) => (exe = readlinkSync(`/proc/${pid}/exe`)) }), { out: '', status: 0 })
  assert.equal(exe, '/memfd:berth-native (deleted)')
  // nor can the copy be changed, by which the next would be started
  const zygote = Zygote.start()
  await new Promise((resolve) => setTimeout(resolve, 100))
  const pid = spawnSync('pgrep', ['-n', '-f', '^berth-zygote$']).stdout.toString().trim()
  assert.match(pid, /^\d+$/)
  assert.throws(() => writeFileSync(`/proc/${pid}/exe`, 'x'), /ETXTBSY|EPERM/)
  zygote.stop()
})

test('CVE-2016-9962: a process that joins a container can not be traced before it executes', async () => {
  image()
  // one container's pid namespace, and in it one that waits and one that looks
  let held = 0
  const holder = contain({ args: ['sleep', '1000'], atGate: (pid) => (held = pid) })
  while (!held) await new Promise((resolve) => setTimeout(resolve, 5))
  const shared = (spec: Spec): void => {
    spec.linux!.namespaces = spec.linux!.namespaces!.map((namespace) => (namespace.type === 'pid' ? { type: 'pid', path: `/proc/${held}/ns/pid` } : namespace))
  }
  const look = async (removal?: Removal): Promise<string> => {
    let out = ''
    await contain({ args: ['true'], change: shared, removal, atGate: async (pid) => {
      const [, inside = ''] = /^NSpid:\t\d+\t(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8')) ?? []
      ;({ out } = await contain({ args: ['sh', '-c', `ls /proc/${inside}/root/ 2>&1`], change: shared }))
    } })
    return out
  }
  try {
    assert.match(await look(), /Permission denied/)
    assert.match(await look(withoutSteps(/^hide from tracing$/)), /^bin$/m)
  } finally {
    process.kill(held, 'SIGKILL')
    await holder
  }
})

test('CVE-2021-30465, CVE-2019-16884: a mount target behind a link of the image stays inside', async () => {
  const outside = join(directory, 'outside')
  mkdirSync(outside)
  image((root) => symlinkSync(outside, join(root, 'way')))
  const attack = async (removal?: Removal): Promise<boolean> => {
    await contain({ args: ['true'], removal, change: (spec) => spec.mounts!.push({ destination: '/way/made', type: 'tmpfs', source: 'tmpfs', options: [] }) })
    const escaped = existsSync(join(outside, 'made'))
    rmSync(join(outside, 'made'), { recursive: true, force: true })
    return escaped
  }
  mkdirSync(join(directory, 'rootfs', outside), { recursive: true })
  assert.equal(await attack(), false)
  assert.equal(await attack(withoutResolve(/in the root file system$/)), true)
})

test('CVE-2025-31133: what masks a path is the null device of the host', async () => {
  const attack = async (): Promise<string> => {
    image((root) => {
      mkdirSync(join(root, 'hidden'))
      writeFileSync(join(root, 'hidden/file'), 'secret')
      symlinkSync('/etc/passwd', join(root, 'dev/null'))
    })
    const { out } = await contain({ args: ['sh', '-c', 'cat /hidden/file; stat -c "%t %T" /hidden/file'], change: (spec) => {
      spec.mounts = spec.mounts!.filter(({ destination }) => !destination.startsWith('/dev'))
      spec.linux!.maskedPaths = ['/hidden/file']
    } })
    return out
  }
  assert.equal(await attack(), '1 3\n')
})

test('CVE-2025-52881: kernel parameters are written to procfs or not at all', async () => {
  const trap = join(directory, 'trap')
  mkdirSync(join(trap, 'sys/net/ipv4'), { recursive: true })
  const file = join(trap, 'sys/net/ipv4/ip_forward')
  image()
  const attack = async (removal?: Removal): Promise<string> => {
    writeFileSync(file, '')
    const { out } = await contain({ args: ['true'], removal, change: (spec) => {
      bind(spec, trap, '/proc')
      spec.linux!.sysctl = { 'net.ipv4.ip_forward': '1' }
      spec.linux!.maskedPaths = spec.linux!.readonlyPaths = []
    } })
    return readFileSync(file, 'utf8') || out
  }
  assert.match(await attack(), /it is not procfs/)
  assert.equal(await attack(withoutSteps(/it is not procfs$/)), '1')
})

test('CVE-2024-21626: a working directory can not be a descriptor that leads out', async () => {
  image()
  const leak = openSync(directory, 'r')
  const attack = (removal?: Removal) => contain({ args: ['ls'], removal, leak: [leak], change: (spec) => (spec.process!.cwd = '/proc/self/fd/6') })
  try {
    const refused = await attack()
    assert.match(refused.out, /chdir to cwd \("\/proc\/self\/fd\/6"\) set in config.json failed: too many levels of symbolic links/)
    // one defence is enough
    assert.match((await attack(withoutResolve(/^chdir to cwd/))).out, /it is outside the container/)
    assert.match((await attack(all(withoutResolve(/^chdir to cwd/), withoutSteps(/it is outside the container$/)))).out, /^rootfs$/m)
  } finally {
    closeSync(leak)
  }
})

test('CVE-2016-8867 and others of its kind: no descriptor of the host is open in the process', async () => {
  image()
  const leak = openSync(directory, 'r')
  const attack = async (removal?: Removal): Promise<string> => (await contain({ args: ['ls', '/proc/self/fd/'], removal, leak: [leak] })).out
  try {
    assert.equal(await attack(), '0\n1\n2\n3\n') // 3 is the listed directory itself
    assert.match(await attack(withoutSteps(/^close descriptors$/)), /^6$/m)
  } finally {
    closeSync(leak)
  }
})

test('CVE-2019-19921, CVE-2023-27561: procfs and sysfs are mounted where they belong or not at all', async () => {
  for (const name of ['proc', 'sys']) {
    image((root) => {
      rmSync(join(root, name), { recursive: true })
      mkdirSync(join(root, 'elsewhere'))
      symlinkSync('elsewhere', join(root, name))
    })
    const attack = (removal?: Removal) => contain({ args: ['true'], removal })
    assert.match((await attack()).out, new RegExp(`open /${name} in the root file system: too many levels of symbolic links`))
    assert.equal((await attack(withoutResolve(new RegExp(`^open /${name} in the root`)))).status === -1, false)
  }
})

test('CVE-2025-52565: the console is bound inside, whatever the image has in its place', async () => {
  const victim = join(directory, 'victim')
  writeFileSync(victim, '')
  const attack = async (removal?: Removal): Promise<string> => {
    image((root) => symlinkSync(victim, join(root, 'dev/console')))
    const { out } = await contain({ args: ['sh', '-c', 'test -L /dev/console && echo outside || echo inside'], removal, change: (spec) => {
      spec.mounts = spec.mounts!.filter(({ destination }) => !destination.startsWith('/dev'))
      bind(spec, '/dev/zero', '/dev/console')
    } })
    return out
  }
  assert.equal(await attack(), 'inside\n')
  assert.equal(await attack(withoutResolve(/^open \/dev\/console in the root/)), 'outside\n')
})
