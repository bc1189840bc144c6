/** `npm test`: installs what the tests need, then type check, lint, and all tests; the runner's summary comes last. */
import { spawnSync } from 'node:child_process'
import { globSync } from 'node:fs'
import { installNewest, installPackages } from './packages.ts'

const root = new URL('..', import.meta.url).pathname
const run = (command: string, args: string[]): void => {
  console.log(`> ${command} ${args.join(' ')}`)
  const { status } = spawnSync(command, args, { cwd: root, stdio: 'inherit' })
  if (status !== 0) process.exit(status ?? 1)
}

if (process.getuid?.() !== 0) {
  console.error('the tests make containers: run them as root')
  process.exit(1)
}
installPackages({ '/usr/bin/cc': 'gcc', '/usr/include/stdio.h': 'libc6-dev', '/bin/busybox': 'busybox-static', '/usr/bin/openssl': 'openssl', '/usr/sbin/debootstrap': 'debootstrap', '/bin/ps': 'procps', '/sbin/ip': 'iproute2', '/usr/sbin/nft': 'nftables', '/usr/bin/dig': 'bind9-dnsutils', '/usr/bin/etcd': 'etcd-server', '/usr/bin/docker-registry': 'docker-registry', '/usr/bin/skopeo': 'skopeo', '/usr/bin/buildah': 'buildah', '/usr/bin/umoci': 'umoci', '/usr/sbin/dockerd': 'docker.io', '/usr/bin/docker-compose': 'docker-compose' })
installNewest({ '/usr/bin/oras': 'oras' })
installNewest({ '/opt/docker-compose-2/usr/libexec/docker/cli-plugins/docker-compose': 'docker-compose' }, '/opt/docker-compose-2')
run('npm', ['ci', '--prefix', 'conformance', '--ignore-scripts', '--no-audit', '--no-fund', '--silent'])
run('node_modules/.bin/tsc', ['--noEmit'])
run('node_modules/.bin/oxlint', ['--deny-warnings', 'src', 'scripts', 'test', 'bench', 'conformance'])
run(process.execPath, ['--disable-warning=ExperimentalWarning', '--test', '--test-concurrency=1', '--test-timeout=120000', '--test-reporter=./scripts/skips.ts', '--test-reporter-destination=stdout', '--test-reporter=spec', '--test-reporter-destination=stdout', ...globSync('{src,test}/**/*.test.ts', { cwd: root })])
