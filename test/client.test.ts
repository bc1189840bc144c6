import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { mkdirSync, readFileSync, readlinkSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { TestDaemon } from './daemon.ts'

const daemon = new TestDaemon()
before(async () => {
  await daemon.start()
  await daemon.importStarter()
})
after(() => daemon[Symbol.asyncDispose]())

const berth = (...args: string[]) => daemon.cli(args)

test('run prints what the process says and ends as it does', () => {
  assert.deepEqual(berth('run', '--rm', 'starter', 'sh', '-c', 'echo out; echo err >&2; exit 7'), { code: 7, out: 'out\n', err: 'err\n' })
})

test("run's own failures have Docker's exit codes", () => {
  for (const [args, code, message] of [
    [['nope-here'], 127, /exec: "nope-here": executable file not found in \$PATH/], [['/etc/passwd'], 126, /permission denied/], [['/nope'], 127, /no such file or directory/],
  ] as [string[], number, RegExp][]) {
    const result = berth('run', '--rm', 'starter', ...args)
    assert.equal(result.code, code)
    assert.match(result.err, message)
    assert.match(result.err, /Run 'berth run --help' for more information/)
  }
  assert.equal(berth('run', '--nope', 'starter').code, 125)
  assert.equal(berth('run', '--rm', 'no/such:image', 'true').code, 125)
  assert.deepEqual(berth('ps', '-aq').out, '')
})

test('what is piped in arrives whole', () => {
  const input = randomBytes(20 << 20)
  const { out } = daemon.cli(['run', '-i', '--rm', 'starter', 'sha256sum'], { input })
  assert.equal(out.split(' ')[0], createHash('sha256').update(input).digest('hex'))
})

test('what a container prints arrives whole', () => {
  const { out } = berth('run', '--rm', 'starter', 'sh', '-c', 'dd if=/dev/zero bs=1M count=20 2>/dev/null')
  assert.equal(out.length, 20 << 20)
})

test('a wrong command line is explained', () => {
  assert.deepEqual(berth('ps', '--nope'), { code: 125, out: '', err: "unknown flag: --nope\n\nUsage:  berth ps [OPTIONS]\n\nRun 'berth ps --help' for more information\n" })
  assert.deepEqual(berth('rm').err.split('\n')[0], "berth: 'berth rm' requires at least 1 argument")
  assert.match(berth('run', '-m', 'much', 'starter').err, /invalid argument "much" for "-m, --memory" flag: invalid size: 'much'/)
  assert.match(berth('iamges').err, /unknown command: berth iamges\n\nDid you mean this\?\n {2}images/)
  assert.equal(berth('iamges').code, 1)
})

test('a container is created, listed, inspected, renamed, stopped, started and removed', () => {
  const id = berth('create', '--name', 'one', '--label', 'a=b', 'starter', 'sleep', '1000').out.trim()
  assert.match(id, /^[a-f0-9]{64}$/)
  assert.equal(berth('ps', '-a', '--filter', 'label=a=b', '--format', '{{.Names}} {{.State}} {{.Label "a"}}').out, 'one created b\n')
  assert.equal(berth('start', 'one').out, 'one\n')
  assert.equal(berth('inspect', '-f', '{{.State.Status}} {{json .Config.Cmd}}', 'one').out, 'running ["sleep","1000"]\n')
  assert.match(berth('ps').out, /^CONTAINER ID {3}IMAGE {5}COMMAND {8}CREATED .*STATUS .*PORTS {5}NAMES\n[a-f0-9]{12} {3}starter {3}"sleep 1000" .* Up .* one\n$/)
  assert.equal(berth('pause', 'one').code, 0)
  assert.match(berth('ps', '--format', '{{.Status}}').out, /\(Paused\)/)
  assert.equal(berth('unpause', 'one').code, 0)
  assert.match(berth('top', 'one').out, /^UID .*\n.*sleep 1000\n$/)
  assert.equal(berth('rename', 'one', 'two').code, 0)
  assert.match(berth('rm', 'two').err, /cannot remove container "\/two": container is running/)
  assert.equal(berth('stop', '-t', '0', 'two').out, 'two\n')
  assert.equal(berth('wait', 'two').out, '137\n')
  assert.match(berth('stats', '--no-stream', '--all', 'two').out, /^CONTAINER ID .*PIDS\n/)
  assert.equal(berth('rm', 'two', 'nope').out, 'two\n')
  assert.equal(berth('inspect', 'two').code, 1)
})

test('exec runs a further process, with its environment, user and directory', () => {
  berth('run', '-d', '--name', 'host', 'starter', 'sleep', '1000')
  const result = berth('exec', '-e', 'A=1', '-u', 'bob', '-w', '/tmp', 'host', 'sh', '-c', 'echo $A; id -un; pwd; exit 3')
  assert.deepEqual(result, { code: 3, out: '1\nbob\n/tmp\n', err: '' })
  assert.equal(daemon.cli(['exec', '-i', 'host', 'cat'], { input: 'through' }).out, 'through')
  assert.deepEqual(berth('exec', 'host', 'nope'), { code: 127, out: 'OCI runtime exec failed: exec failed: unable to start container process: exec: "nope": executable file not found in $PATH: unknown\r\n', err: '' })
  assert.equal(berth('exec', '-d', 'host', 'touch', '/tmp/made').code, 0)
  berth('rm', '-f', 'host')
})

test('cp follows the rules of Docker', () => {
  berth('run', '-d', '--name', 'cp', 'starter', 'sleep', '1000')
  const local = join(daemon.directory, 'cp')
  mkdirSync(join(local, 'dir/sub'), { recursive: true })
  writeFileSync(join(local, 'file'), 'f')
  writeFileSync(join(local, 'dir/sub/x'), 'x')
  symlinkSync('file', join(local, 'link'))
  const cp = (from: string, to: string, ...flags: string[]): string => berth('cp', ...flags, from, to).err
  assert.equal(cp(join(local, 'file'), 'cp:/tmp/'), '')
  assert.equal(cp(join(local, 'file'), 'cp:/tmp/other'), '')
  assert.equal(cp(join(local, 'dir'), 'cp:/tmp/new'), '')
  assert.equal(cp(join(local, 'dir'), 'cp:/tmp/new'), '')
  assert.equal(cp(`${join(local, 'dir')}/.`, 'cp:/tmp/content'), '')
  assert.equal(cp(join(local, 'link'), 'cp:/tmp/'), '')
  assert.equal(berth('exec', 'cp', 'sh', '-c', 'cd /tmp; cat file other new/sub/x new/dir/sub/x content/sub/x; readlink link').out, 'ffxxxfile\n')
  assert.match(cp(join(local, 'file'), 'cp:/nope/x'), /Could not find the file \/nope in container cp/)
  assert.match(cp(join(local, 'dir'), 'cp:/tmp/other'), /cannot copy directory/)
  assert.equal(cp('cp:/tmp/new', join(local, 'back')), '')
  assert.equal(cp('cp:/tmp/link', join(local, 'backlink')), '')
  assert.equal(readFileSync(join(local, 'back/dir/sub/x'), 'utf8'), 'x')
  assert.equal(readlinkSync(join(local, 'backlink')), 'file')
  assert.match(cp('cp:/nope', local), /Could not find the file \/nope/)
  assert.match(berth('diff', 'cp').out, /^C \/tmp\nA \/tmp\/content\n/)
  berth('rm', '-f', 'cp')
})

test('images are listed, tagged, saved, loaded, told the history of, and removed', () => {
  assert.match(berth('images').out, /^REPOSITORY {3}TAG {7}IMAGE ID {7}CREATED .* SIZE\nstarter {6}latest {4}[a-f0-9]{12} /)
  assert.equal(berth('tag', 'starter', 'other:1').code, 0)
  const archive = join(daemon.directory, 'other.tar')
  assert.equal(berth('save', '-o', archive, 'other:1').code, 0)
  assert.equal(berth('rmi', 'other:1').out, 'Untagged: other:1\n')
  assert.equal(berth('load', '-i', archive).out, 'Loaded image: other:1\n')
  assert.match(berth('history', 'other:1').out, /^IMAGE .*COMMENT\n/)
  berth('run', '--name', 'changed', 'starter', 'touch', '/new')
  const id = berth('commit', '-m', 'changed', '-c', 'CMD ["ls","/new"]', 'changed', 'committed').out.trim()
  assert.match(id, /^sha256:/)
  assert.equal(berth('run', '--rm', 'committed').out, '/new\n')
  assert.equal(berth('rmi', 'nope').code, 1)
  berth('rm', 'changed')
  assert.equal(berth('rmi', 'other:1', 'committed').code, 0)
})

test('the settings of config.json and the environment are used', () => {
  writeFileSync(join(daemon.directory, 'config.json'), JSON.stringify({ psFormat: '{{.Names}}!' }))
  berth('create', '--name', 'configured', 'starter', 'true')
  assert.equal(berth('ps', '-a').out, 'configured!\n')
  assert.equal(berth('ps', '-a', '--format', '{{.Names}}').out, 'configured\n')
  assert.match(daemon.cli(['ps'], { env: { DOCKER_API_VERSION: '1.10' } }).err, /client version 1.10 is too old/)
  assert.match(daemon.cli(['ps'], { env: { DOCKER_HOST: 'unix:///nope.sock' } }).err, /Cannot connect to the berth daemon at unix:\/\/\/nope.sock/)
  berth('rm', 'configured')
})

test('jobs are listed', () => {
  assert.match(berth('job', 'ls', '-a').out, /^JOB ID .*DURATION\n[^]*container\.create/)
  assert.match(berth('job', 'cancel', '123456').err, /123456/)
})

test('limits are seen by the kernel, and changed while the process runs', () => {
  berth('run', '-d', '--name', 'limited', '--memory', '64m', '--pids-limit', '20', '--cpus', '0.5', 'starter', 'sleep', '1000')
  const path = `/sys/fs/cgroup/memory/berth/${berth('inspect', '-f', '{{.Id}}', 'limited').out.trim()}/memory.limit_in_bytes`
  assert.equal(readFileSync(path, 'utf8'), `${64 << 20}\n`)
  assert.equal(berth('update', '-m', '32m', '--memory-swap', '64m', 'limited').out, 'limited\n')
  assert.equal(readFileSync(path, 'utf8'), `${32 << 20}\n`)
  berth('rm', '-f', 'limited')
})

test('an init reaps and forwards', () => {
  assert.deepEqual(berth('run', '--rm', '--init', 'starter', 'sh', '-c', 'echo $$; exit 5'), { code: 5, out: '2\n', err: '' })
  assert.equal(berth('run', '--rm', '--init', 'starter', 'nope').code, 127)
  berth('run', '-d', '--init', '--name', 'init', 'starter', 'sleep', '1000')
  assert.equal(berth('stop', 'init').code, 0)
  assert.equal(berth('inspect', '-f', '{{.State.ExitCode}}', 'init').out, '143\n')
  berth('rm', 'init')
})

test('completion scripts know every command', () => {
  for (const shell of ['bash', 'zsh', 'fish']) assert.match(berth('completion', shell).out, /unpause/)
  assert.equal(berth('completion', 'tcsh').code, 1)
})

test('every command has a help', () => {
  const words = [...berth('--help').out.matchAll(/^ {2}(\w+) {2,}/gm)].map((match) => match[1]!)
  assert.ok(words.length > 35)
  for (const word of ['run', 'cp', 'image', 'job', 'stats']) {
    assert.ok(words.includes(word))
    assert.match(berth(word, '--help').out, new RegExp(`^Usage:  berth ${word} `))
  }
})

test('system df shows each thing', () => {
  berth('run', '--name', 'sized', '-v', 'sized:/v', 'starter', 'sh', '-c', 'echo 12345 > /file; echo 1234567 > /v/file')
  const lines = berth('system', 'df', '-v').out.split('\n')
  const row = (begin: string, after: string): string[] => lines.slice(lines.indexOf(after)).find((line) => line.startsWith(begin))!.split(/ {2,}/)
  assert.equal(row('starter', 'Images space usage:').at(-1), '1')
  assert.ok(lines.some((line) => /^[0-9a-f]{12} +starter +"sh -c .* 1 +6B .* Exited \(0\) .* sized$/.test(line)), lines.join('\n'))
  assert.deepEqual(row('sized', 'Local Volumes space usage:'), ['sized', '1', '8B'])
  assert.equal(berth('system', 'df', '-v', '--format', '{{range .Volumes}}{{.Name}} {{.Size}};{{end}}').out, 'sized 8B;\n')
  berth('rm', '-v', 'sized')
  berth('volume', 'rm', 'sized')
})
