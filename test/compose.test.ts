import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { TestHost } from './hosts.ts'

const host = new TestHost()
const project = join(host.directory, 'shop')
before(async () => {
  await host.start()
  await host.importStarter()
  mkdirSync(project)
  writeFileSync(join(project, 'app.conf'), 'conf=1\n')
  writeFileSync(join(project, 'password.txt'), 'secret\n')
  writeFileSync(join(project, 'compose.env'), 'FROM_FILE=yes\n')
  writeFileSync(join(project, 'docker-compose.yml'), `
version: "3.9"
services:
  db:
    image: starter
    command: sh -c 'cat /run/secrets/password > /data/seen; touch /tmp/ready; exec sleep 1000'
    healthcheck:
      test: ["CMD", "stat", "/tmp/ready"]
      interval: 300ms
      retries: 10
    volumes: ["dbdata:/data"]
    networks: [back]
    secrets: [password]
    stop_grace_period: 0s
  web:
    image: starter
    command: sh -c 'cat /etc/app.conf; echo started; mkdir -p /www; echo page > /www/index.html; exec httpd -f -h /www -p 80'
    depends_on:
      db: {condition: service_healthy}
    networks:
      back: {}
      front: {aliases: [www]}
    volumes:
      - ./app.conf:/etc/app.conf:ro
      - {type: tmpfs, target: /scratch}
    ports: ["18080:80"]
    env_file: compose.env
    environment: {GREETING: hi}
    labels: {team: blue}
    restart: unless-stopped
    stop_grace_period: 0s
    logging: {driver: local}
  tool:
    image: starter
    profiles: [tools]
    command: echo tool
    networks: [back]
networks:
  back: {internal: true}
  front: {}
volumes:
  dbdata: {}
secrets:
  password: {file: ./password.txt}
`)
})
after(() => host[Symbol.asyncDispose]())

for (const [version, program] of [['1.29', '/usr/bin/docker-compose'], ['2.40', '/opt/docker-compose-2/usr/libexec/docker/cli-plugins/docker-compose']] as const)
  test(`docker-compose ${version} has its way`, () => {
    const compose = (...args: string[]): string => {
      const { status, stdout, stderr } = spawnSync(program, ['--ansi', 'never', ...args], { cwd: project, env: { PATH: process.env['PATH'], HOME: host.directory, DOCKER_HOST: `unix://${host.socket}`, DOCKER_CONFIG: host.directory }, stdio: ['ignore', 'pipe', 'pipe'], timeout: 90_000 })
      assert.equal(status, 0, `${args.join(' ')}: ${stderr.toString()}`)
      return stdout.toString()
    }
    const berth = (...args: string[]): string => host.cli(args).out.trim()
    const named = (service: string): string => berth('ps', '-aq', '-f', `label=com.docker.compose.service=${service}`)
    compose('up', '-d')
    assert.equal(berth('ps', '--format', '{{.Status}}', '-f', 'health=healthy').includes('(healthy)'), true, 'web waited for it')
    assert.match(compose('ps'), /18080->80\/tcp/)
    assert.match(compose('logs', '--no-color', 'web'), /conf=1\n.*started/)
    assert.equal(host.outside('busybox', 'wget', '-qO-', 'http://198.51.100.1:18080/index.html').out, 'page\n')
    assert.equal(compose('exec', '-T', 'web', 'sh', '-c', 'echo $FROM_FILE $GREETING; ls -d /scratch'), 'yes hi\n/scratch\n')
    assert.match(compose('exec', '-T', 'db', 'nslookup', 'web'), /Address/)
    assert.equal(compose('exec', '-T', 'db', 'cat', '/data/seen'), 'secret\n')
    assert.match(compose('--profile', 'tools', 'up', 'tool'), /tool/)
    const before = named('web')
    compose('up', '-d')
    assert.equal(named('web'), before, 'nothing has changed, and nothing is made anew')
    compose('up', '-d', '--scale', 'db=3')
    assert.equal(named('db').split('\n').length, 3)
    compose('up', '-d', '--scale', 'db=1')
    assert.equal(named('db').split('\n').length, 1)
    compose('restart', '-t', '0', 'web')
    compose('stop', '-t', '0', 'web')
    compose('start', 'web')
    compose('pause', 'db')
    compose('unpause', 'db')
    assert.match(compose('run', '--rm', '-T', 'tool', 'echo', 'once'), /once/)
    assert.match(compose('top'), /sleep 1000/)
    const file = readFileSync(join(project, 'docker-compose.yml'), 'utf8')
    writeFileSync(join(project, 'docker-compose.yml'), file.replace('GREETING: hi', 'GREETING: hello'))
    compose('up', '-d')
    assert.notEqual(named('web'), before, 'what has changed is made anew')
    assert.equal(compose('exec', '-T', 'web', 'sh', '-c', 'echo $GREETING'), 'hello\n')
    writeFileSync(join(project, 'docker-compose.yml'), file)
    compose('--profile', 'tools', 'down', '-v', '-t', '0')
    assert.deepEqual([berth('ps', '-aq'), berth('volume', 'ls', '-q'), berth('network', 'ls', '--format', '{{.Name}}').split('\n').toSorted()], ['', '', ['bridge', 'host', 'none']])
  })
