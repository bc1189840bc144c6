import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { splitDevice } from '../src/sys/fs.ts'
import { defaultMaskedPaths, defaultReadonlyPaths } from '../src/container/spec.ts'
import { TestDaemon } from './daemon.ts'

const daemon = new TestDaemon()
const probe = join(daemon.directory, 'probe')
before(async () => {
  execFileSync('cc', ['-static', '-O1', '-o', probe, new URL('probe.c', import.meta.url).pathname])
  await daemon.start()
  await daemon.importStarter()
})
after(() => daemon[Symbol.asyncDispose]())

const run = (...args: string[]) => daemon.cli(['run', '--rm', ...args])
const sh = (script: string, ...flags: string[]) => run(...flags, 'starter', 'sh', '-c', script)

test('masked paths show nothing, read-only ones take nothing', () => {
  for (const path of defaultMaskedPaths.filter((path) => existsSync(path))) {
    const shown = statSync(path).isDirectory() ? `ls -A ${path}` : `cat ${path}`
    assert.equal(sh(shown).out, '', path)
  }
  const mounts = sh('cat /proc/self/mountinfo').out
  for (const path of defaultReadonlyPaths.filter((path) => existsSync(path))) assert.match(mounts, new RegExp(` ${path} ro,`))
  for (const path of ['/proc/sys/kernel/core_pattern', '/proc/sysrq-trigger', '/sys/kernel/uevent_helper', '/sys/fs/cgroup/memory/release_agent', '/sys/fs/cgroup/memory/cgroup.procs'].filter((path) => existsSync(path)))
    assert.match(sh(`echo x > ${path}`).err, /Read-only file system|nonexistent directory|Permission denied/, path)
})

test('system calls that lead out are refused, also to root', () => {
  const results = new Map(run('-v', `${probe}:/probe`, 'starter', '/probe').out.trim().split('\n').map((line) => line.split(' ') as [string, string]))
  assert.equal(results.size, 28)
  for (const [name, result] of results) assert.equal(result, name === 'getpid' ? 'done' : name === 'clone3' ? 'ENOSYS' : 'EPERM', name)
  const privileged = run('--privileged', '-v', `${probe}:/probe`, 'starter', '/probe').out
  for (const name of ['mount', 'umount', 'unshare', 'fsopen', 'keyctl']) assert.match(privileged, new RegExp(`^${name} done$`, 'm'))
})

test('neither processes, nor sockets, nor the keyring of the host are seen', () => {
  assert.deepEqual(sh('for p in /proc/[0-9]*; do echo ${p#/proc/}; done').out.trim().split('\n'), ['1'])
  assert.match(sh(`kill -0 ${process.pid}`).err, /No such process/)
  assert.equal(sh('grep -c . /proc/net/unix').out, '1\n') // the headings
  assert.equal(sh('ls /sys/class/net').out, 'eth0\nlo\n')
  assert.equal(sh('ls /sys/class/net', '--network', 'none').out, 'lo\n')
  assert.equal(sh('ls /proc/1/root/').out, sh('ls /').out)
})

test('a device of the host can be named, and not opened', () => {
  const { major, minor } = splitDevice(statSync('/').dev)
  const { out, err } = sh(`mknod /disk b ${major} ${minor} && mknod /mem c 1 1 && echo made; head -c 1 /disk; head -c 1 /mem`)
  assert.equal(out, 'made\n')
  assert.match(err, /\/disk: Operation not permitted\n.*\/mem: Operation not permitted/)
  assert.match(sh('ls /dev').out, /^(core\n)?fd\nfull\nmqueue\nnull\nptmx\npts\nrandom\nshm\nstderr\nstdin\nstdout\ntty\nurandom\nzero\n$/)
  const disk = ['/dev/loop0', '/dev/vda', '/dev/sda'].find((path) => existsSync(path))!
  assert.deepEqual(sh('head -c 0 /dev/x', '--device', `${disk}:/dev/x:r`), { code: 0, out: '', err: '' })
  assert.match(sh('echo > /dev/x', '--device', `${disk}:/dev/x:r`).err, /Operation not permitted/)
})

test('capabilities are those of Docker, the inheritable and ambient sets empty (CVE-2022-24769)', () => {
  const sets = (...flags: string[]): string => sh('grep -E "Cap|NoNew|Seccomp:" /proc/self/status', ...flags).out.replace(/\s+/g, ' ').trim()
  assert.equal(sets(), 'CapInh: 0000000000000000 CapPrm: 00000000a80425fb CapEff: 00000000a80425fb CapBnd: 00000000a80425fb CapAmb: 0000000000000000 NoNewPrivs: 0 Seccomp: 2')
  assert.equal(sets('-u', '1000'), 'CapInh: 0000000000000000 CapPrm: 0000000000000000 CapEff: 0000000000000000 CapBnd: 00000000a80425fb CapAmb: 0000000000000000 NoNewPrivs: 0 Seccomp: 2')
  assert.match(sets('--cap-drop', 'ALL', '--cap-add', 'NET_RAW', '--security-opt', 'no-new-privileges'), /CapEff: 0000000000002000 CapBnd: 0000000000002000 .* NoNewPrivs: 1/)
  assert.match(sets('--security-opt', 'seccomp=unconfined'), /Seccomp: 0/)
  assert.match(run('--cap-add', 'NOPE', 'starter', 'true').err, /invalid CapAdd: unknown capability: "CAP_NOPE"/)
})

test('a user gets no more by a setuid program where new privileges are not wanted', () => {
  daemon.cli(['run', '--name', 'setuid', '-v', `${probe}:/probe`, 'starter', 'sh', '-c', 'cat /probe > /su; chmod 4755 /su'])
  daemon.cli(['commit', 'setuid', 'setuid'])
  assert.equal(run('-u', 'bob', 'setuid', '/su', 'euid').out, '0\n')
  assert.equal(run('-u', 'bob', '--security-opt', 'no-new-privileges', 'setuid', '/su', 'euid').out, '1000\n')
  daemon.cli(['rm', 'setuid'])
  daemon.cli(['rmi', 'setuid'])
})

test('a link in a container leads no copy out of it (CVE-2018-15664)', () => {
  const secret = join(daemon.directory, 'secret')
  mkdirSync(secret)
  writeFileSync(join(secret, 'key'), 'of the host')
  daemon.cli(['run', '-d', '--name', 'race', 'starter', 'sh', '-c', `mkdir -p /real /swap; echo own > /real/key; ln -s ${secret} /link; while :; do mv /real /hide; mv /link /real; mv /real /link; mv /hide /real; done`])
  const back = join(daemon.directory, 'back')
  assert.match(daemon.cli(['cp', 'race:/link/key', back]).err, /Could not find the file/)
  for (let tries = 0; tries < 30; tries++) {
    daemon.cli(['cp', 'race:/real/key', back])
    if (existsSync(back)) assert.equal(readFileSync(back, 'utf8'), 'own\n')
    daemon.cli(['cp', back, 'race:/real/made'])
    assert.equal(existsSync(join(secret, 'made')), false)
  }
  daemon.cli(['rm', '-f', 'race'])
})

test('users and groups are read inside the root, whatever /etc/passwd is a link to', () => {
  const outside = join(daemon.directory, 'outside')
  writeFileSync(outside, 'ghost:x:0:0::/:\n')
  daemon.cli(['run', '--name', 'links', 'starter', 'sh', '-c', `rm /etc/passwd; ln -s ${outside} /etc/passwd`])
  daemon.cli(['commit', 'links', 'links'])
  const { code, err } = run('-u', 'ghost', 'links', 'true')
  assert.match(err, /unable to find user ghost: no matching entries in passwd file/)
  assert.notEqual(code, 0)
  daemon.cli(['rm', 'links'])
  daemon.cli(['rmi', 'links'])
})

test('a bind mount is read-only with all that is below it', () => {
  const source = join(daemon.directory, 'source')
  mkdirSync(join(source, 'below'), { recursive: true })
  execFileSync('mount', ['-t', 'tmpfs', 'below', join(source, 'below')])
  try {
    const { err } = sh('touch /s/x; touch /s/below/x', '-v', `${source}:/s:ro`)
    assert.equal(err.match(/Read-only file system/g)?.length, 2)
    symlinkSync('/etc', join(source, 'link'))
    assert.equal(sh('ls /l', '-v', `${source}/link:/l`).out, execFileSync('ls', ['/etc']).toString()) // as with Docker, a source is a path of the host
  } finally {
    execFileSync('umount', [join(source, 'below')])
  }
})

test('options that there are not, and that contradict one another, are refused before anything is made', async () => {
  await daemon.call('POST', '/containers/create?name=lends', { Image: 'starter', Cmd: ['sleep', '1000'], Hostname: 'lender' })
  await daemon.call('POST', '/containers/lends/start')
  const cases: [object, RegExp][] = [
    [{ HostConfig: { Tmpfs: { '/t': 'bad=option' } } }, /invalid tmpfs option \["bad" "option"\]/],
    [{ HostConfig: { Tmpfs: { t: '' } } }, /invalid mount path: 't' mount path must be absolute/],
    [{ HostConfig: { UTSMode: 'host' }, Hostname: 'own' }, /conflicting options: hostname and the UTS mode/],
    [{ HostConfig: { NetworkMode: 'none' }, NetworkingConfig: { EndpointsConfig: { host: {} } } }, /Container cannot be connected to network endpoints: none, host/],
    [{ HostConfig: { NetworkMode: 'none' }, NetworkingConfig: { EndpointsConfig: { none: { IPAMConfig: { IPv4Address: '10.0.0.1' } } } } }, /user specified IP address is supported on user defined networks only/],
    [{ HostConfig: { NetworkMode: 'container:lends' }, Hostname: 'own' }, /conflicting options: hostname and the network mode/],
    [{ HostConfig: { NetworkMode: 'container:lends', Dns: ['1.1.1.1'] } }, /conflicting options: dns and the network mode/],
    [{ HostConfig: { NetworkMode: 'container:lends', ExtraHosts: ['a:1.2.3.4'] } }, /conflicting options: custom host-to-IP mapping and the network mode/],
    [{ HostConfig: { CpusetMems: '99' } }, /Requested memory nodes are not available - requested 99, available: 0/],
    [{ HostConfig: { StorageOpt: { sizzle: '1G' } } }, /Unknown option sizzle/],
  ]
  for (const [body, message] of cases) {
    const { status, body: said } = await daemon.call('POST', '/containers/create', { Image: 'starter', Cmd: ['true'], ...body })
    assert.equal(status, 400)
    assert.match(said.message, message)
  }
  assert.equal((await daemon.run({ Cmd: ['hostname'], HostConfig: { NetworkMode: 'container:lends' } })).logs, 'lender\n')
  await daemon.call('DELETE', '/containers/lends?force=1')
})

test('what is asked of a security module that the kernel has not is discarded, with a warning', async () => {
  const { body: info } = await daemon.call('GET', '/info')
  const has = (name: string): boolean => info.SecurityOptions.some((option: string) => option.startsWith(`name=${name}`))
  const { status, body } = await daemon.call('POST', '/containers/create', { Image: 'starter', Cmd: ['true'], HostConfig: { SecurityOpt: ['label=type:spc_t', 'apparmor=nonesuch'] } })
  assert.equal(status, 201)
  assert.deepEqual(body.Warnings, [
    ...(has('apparmor') ? [] : ['AppArmor is not enabled in this kernel. Profile "nonesuch" discarded.']),
    ...(has('selinux') ? [] : ['SELinux is not enabled in this kernel. Label "type:spc_t" discarded.']),
  ])
  await daemon.call('DELETE', `/containers/${body.Id}`)
})
