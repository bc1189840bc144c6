import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { TestDaemon } from './daemon.ts'

// A whole distribution, made by its own installer: what people run in containers, rather than a tree of ours.

const daemon = new TestDaemon()
before(async () => {
  const tree = join(daemon.directory, 'debian')
  const made = spawnSync('debootstrap', ['--variant=minbase', '--include=python3-minimal,locales,sudo', 'bookworm', tree, 'http://deb.debian.org/debian'], { encoding: 'utf8' })
  assert.equal(made.status, 0, made.stdout.slice(-2000) + made.stderr)
  const archive = join(daemon.directory, 'debian.tar')
  assert.equal(spawnSync('tar', ['-C', tree, '-cf', archive, '.']).status, 0)
  rmSync(tree, { recursive: true })
  await daemon.start()
  const { code, err } = daemon.cli(['import', '-c', 'ENV LANG=C.UTF-8', archive, 'debian'])
  assert.equal(code, 0, err)
  rmSync(archive)
}, { timeout: 600_000 })
after(() => daemon[Symbol.asyncDispose]())

const bash = (script: string, ...flags: string[]) => daemon.cli(['run', '--rm', ...flags, 'debian', 'bash', '-c', script])

test('its files are as its packages say: owners, modes, contents', () => {
  assert.deepEqual(bash('dpkg --verify; dpkg -l | grep -c ^ii > /dev/null && echo ok'), { code: 0, out: 'ok\n', err: '' })
})

test('bash and python run', () => {
  assert.equal(bash('echo ${BASH_VERSINFO[0]} {1..3}; cat <(echo substituted); coproc cat; echo through >&${COPROC[1]}; read -u ${COPROC[0]} line; echo $line').out, '5 1 2 3\nsubstituted\nthrough\n')
  const script = 'import os, threading, subprocess, socket, tempfile; t = threading.Thread(target=lambda: print("thread")); t.start(); t.join(); print(subprocess.check_output(["id", "-u"]).decode().strip(), os.getpid() > 0, os.cpu_count() > 0); a, b = socket.socketpair(); a.send(b"x"); print(b.recv(1)); tempfile.TemporaryFile().write(b"x")'
  assert.deepEqual(daemon.cli(['run', '--rm', 'debian', 'python3', '-c', script]), { code: 0, out: "thread\n0 True True\nb'x'\n", err: '' })
})

test('apt installs, and what it installed runs', () => {
  const { code, out, err } = bash('apt-get update -q >/dev/null && apt-get install -qy --no-install-recommends hello >/dev/null 2>&1 && hello && apt-get purge -qy hello >/dev/null && test ! -e /usr/bin/hello', '--network', 'host')
  assert.deepEqual([code, out], [0, 'Hello, world!\n'], err)
})

test('users are made, become others by setuid programs, and are held by file modes', () => {
  const { out, err } = bash('useradd -m eve && echo "eve ALL=(ALL) NOPASSWD: ALL" > /etc/sudoers.d/eve && su - eve -c "id -un; pwd; sudo id -un; cat /etc/shadow 2>&1; touch ~/own && stat -c %U ~/own"')
  assert.equal(out, 'eve\n/home/eve\nroot\ncat: /etc/shadow: Permission denied\neve\n', err)
  assert.equal(bash('id -un; echo $HOME', '-u', 'games').out, 'games\n/usr/games\n')
  assert.match(bash('sudo id', '--security-opt', 'no-new-privileges', '-u', 'games').err, /no new privileges/)
})

test('locales are generated and used', () => {
  const { out } = bash('echo "de_DE.UTF-8 UTF-8" > /etc/locale.gen; locale-gen > /dev/null; LC_ALL=de_DE.UTF-8 date -d 2026-03-01 +%B; LC_ALL=de_DE.UTF-8 locale charmap; printf %.1f 1')
  assert.equal(out, 'März\nUTF-8\n1.0')
})
