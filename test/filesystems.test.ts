import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { TestDaemon } from './daemon.ts'

/** What only some kernels and file systems have: `npm run guest -- test/filesystems.test.ts` finds it all. */
const daemon = new TestDaemon()
const { ok, refused } = daemon
const data = join(daemon.directory, 'data')
const shell = (line: string) => spawnSync('sh', ['-c', line], { encoding: 'utf8' })
const limited = shell(`mkdir ${data} && truncate -s 256M ${data}.img && mke2fs -q -t ext4 -O quota,project -E quotatype=prjquota ${data}.img && mount -o loop,prjquota ${data}.img ${data}`).status === 0
const quotas = limited ? {} : { skip: 'this kernel has no project quotas' }
shell('modprobe -a nfs nfsd')
const serves = existsSync('/usr/sbin/rpc.nfsd') && ['nfs4', 'nfsd'].every((name) => readFileSync('/proc/filesystems', 'utf8').includes(`\t${name}\n`))
const nfs = serves ? {} : { skip: 'this machine serves no NFS' }

before(async () => {
  await daemon.start()
  await daemon.importStarter()
})
after(async () => {
  await daemon.stop()
  if (limited) execFileSync('umount', [data])
  await daemon[Symbol.asyncDispose]()
})

/** How many kilobytes `dd` could write to a file, of eight megabytes. */
function written(path: string, ...flags: string[]): number {
  return Number(ok('run', '--rm', ...flags, 'starter', 'sh', '-c', `dd if=/dev/zero of=${path} bs=1k count=8192 2>/dev/null; stat -c %s ${path}`)) / 1024
}

test('a volume of a size holds no more', quotas, () => {
  ok('volume', 'create', '-o', 'size=2m', 'small')
  ok('volume', 'create', '-o', 'size=4m', 'larger')
  ok('volume', 'create', 'endless')
  const near = (size: number, limit: number): void => assert.ok(size <= limit && size > limit * 0.9, `${size} kB of ${limit}`)
  near(written('/v/x', '-v', 'small:/v'), 2048)
  near(written('/v/x', '-v', 'larger:/v'), 4096)
  assert.equal(written('/v/x', '-v', 'endless:/v'), 8192)
  assert.match(refused('run', '--rm', '-v', 'small:/v', 'starter', 'sh', '-c', 'mkdir /v/below && dd if=/dev/zero of=/v/below/y bs=1k count=100 && sync'), /No space left|quota/i)
  ok('volume', 'rm', 'small', 'larger', 'endless')
})

test('a container of a size holds no more of its own', quotas, () => {
  const size = written('/x', '--storage-opt', 'size=3m')
  assert.ok(size <= 3072 && size > 2500, `${size} kB of 3072`)
  assert.equal(written('/x'), 8192)
  ok('create', '--name', 'limited', '--storage-opt', 'size=3m', 'starter', 'sleep', '1000')
  const large = join(daemon.directory, 'large')
  writeFileSync(large, Buffer.alloc(4 << 20, 1))
  assert.match(refused('cp', large, 'limited:/large'), /no space left on device|disk quota exceeded/)
  ok('rm', 'limited')
})

test('a volume of a file server is mounted while it is used', nfs, () => {
  const exported = '/srv/berth-test'
  mkdirSync(exported, { recursive: true })
  writeFileSync(join(exported, 'there'), 'served')
  const said = shell(`ip link set lo up; mount -t nfsd nfsd /proc/fs/nfsd; mkdir -p /run/rpcbind /var/lib/nfs/v4recovery; rpcbind -w; exportfs -o rw,no_root_squash,insecure,fsid=0 127.0.0.1:${exported} && rpc.nfsd -G 10 -L 10 -N 3 1 && rpc.mountd -N 3`)
  assert.equal(said.status, 0, said.stderr)
  try {
    // for the first seconds it gives files only to whom it knew before
    ok('volume', 'create', '-o', 'type=nfs4', '-o', 'o=addr=127.0.0.1,rw', '-o', 'device=:/', 'far')
    assert.equal(ok('run', '--rm', '-v', 'far:/far', 'starter', 'sh', '-ec', 'cat /far/there; echo written > /far/new'), 'served')
    assert.equal(readFileSync(join(exported, 'new'), 'utf8'), 'written\n')
    ok('volume', 'create', '-o', 'type=nfs', '-o', 'o=addr=localhost,vers=4', '-o', 'device=:/', 'named')
    assert.equal(ok('run', '--rm', '-v', 'named:/far:ro', 'starter', 'cat', '/far/new'), 'written')
    ok('volume', 'rm', 'far', 'named')
    assert.ok(!readFileSync('/proc/self/mountinfo', 'utf8').includes(' nfs4 '))
  } finally {
    shell('rpc.nfsd 0; exportfs -au; pkill rpc.mountd; pkill rpcbind')
  }
})
