/** `npm run guest -- test/limits.test.ts …`: runs tests on another kernel, Debian's, with cgroup version 2 and AppArmor, in
 * an emulated machine. What it needs is installed, and kept in /var/tmp/berth-guest. */
import { execFileSync, spawn } from 'node:child_process'
import { cpSync, existsSync, globSync, mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { installPackages } from './packages.ts'

const checkout = new URL('..', import.meta.url).pathname
const place = '/var/tmp/berth-guest'
const [base, tree, disk] = ['base', 'tree', 'disk.img'].map((name) => join(place, name)) as [string, string, string]
const tests = process.argv.slice(2)
const run = (command: string, args: string[]): void => void execFileSync(command, args, { stdio: 'inherit' })

if (tests.length === 0) {
  console.error('usage: npm run guest -- TEST-FILE…')
  process.exit(1)
}
installPackages({ '/usr/bin/qemu-system-x86_64': 'qemu-system-x86', '/usr/sbin/debootstrap': 'debootstrap', '/bin/busybox': 'busybox-static', '/sbin/mke2fs': 'e2fsprogs' })

mkdirSync(place, { recursive: true })
const wanted = 'linux-image-cloud-amd64,initramfs-tools,apparmor,kmod,procps,gcc,libc6-dev,libatomic1,openssl,busybox-static,iproute2,nftables,bind9-dnsutils,etcd-server,e2fsprogs,nfs-kernel-server'
if (!existsSync(join(base, 'complete')) || readFileSync(join(base, 'complete'), 'utf8') !== wanted) {
  rmSync(base, { recursive: true, force: true })
  run('debootstrap', ['--variant=minbase', `--include=${wanted}`, 'bookworm', base, 'http://deb.debian.org/debian'])
  writeFileSync(join(base, 'complete'), wanted)
}

rmSync(tree, { recursive: true, force: true })
run('cp', ['-a', base, tree])
const files = execFileSync('git', ['ls-files', '-co', '--exclude-standard', '-z'], { cwd: checkout }).toString().split('\0').filter((file) => file && existsSync(join(checkout, file)))
// what only checks and builds is large
const left = new Set(['typescript', 'oxlint', 'esbuild', 'undici-types', '@types', '@oxlint', '@esbuild', '@typescript'])
const modules = readdirSync(join(checkout, 'node_modules')).filter((name) => !left.has(name)).map((name) => join('node_modules', name))
for (const file of [...files, ...modules]) {
  mkdirSync(dirname(join(tree, 'work', file)), { recursive: true })
  cpSync(join(checkout, file), join(tree, 'work', file), { recursive: true, verbatimSymlinks: true })
}
const command = `node_modules/.bin/node --disable-warning=ExperimentalWarning --test --test-concurrency=1 ${tests.map((test) => `'${test}'`).join(' ')}`
writeFileSync(join(tree, 'guest-init'), `#!/bin/bash
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TMPDIR=/var/tmp
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev; mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts; mount -t tmpfs shm /dev/shm; mount -t tmpfs run /run; ln -s /proc/self/fd /dev/fd
mount -t cgroup2 cgroup2 /sys/fs/cgroup; mount -t securityfs security /sys/kernel/security; mount -o remount,rw /
modprobe -a overlay loop; ip link set lo up; cd /work; uname -a
${command}; echo "guest: status $?"
sync; echo o > /proc/sysrq-trigger; sleep 60
`, { mode: 0o755 })
rmSync(disk, { force: true })
run('truncate', ['-s', '4G', disk])
run('mke2fs', ['-q', '-t', 'ext4', '-d', tree, disk])
const boot = (name: string): string => join(tree, globSync(`boot/${name}-*`, { cwd: tree })[0]!)
const qemu = spawn('qemu-system-x86_64', ['-m', '4096', '-smp', '2', '-display', 'none', '-no-reboot', '-serial', 'stdio', '-monitor', 'none', '-kernel', boot('vmlinuz'), '-initrd', boot('initrd.img'),
  '-append', 'root=/dev/vda rw init=/guest-init console=ttyS0 quiet panic=-1 apparmor=1 security=apparmor', '-drive', `file=${disk},format=raw,if=virtio,cache=unsafe`], { stdio: ['ignore', 'pipe', 'inherit'] })
let said = ''
qemu.stdout.on('data', (data: Buffer) => {
  said += data
  process.stdout.write(data)
})
qemu.on('close', () => process.exit(/^guest: status 0\r?$/m.test(said) ? 0 : 1))
