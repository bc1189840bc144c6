import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { succeeded, type Said } from './daemon.ts'
import { TestHost } from './hosts.ts'

const host = new TestHost()
const echo = join(host.directory, 'echo')
before(async () => {
  execFileSync('cc', ['-static', '-O2', '-o', echo, new URL('echo.c', import.meta.url).pathname])
  await host.start()
  await host.importStarter()
})
after(() => host[Symbol.asyncDispose]())

const berth = (...args: string[]): Said => host.cli(args)
const ok = (...args: string[]): string => succeeded(berth(...args), args).trim()
const inspect = (name: string, format: string): string => ok('inspect', '-f', format, name)
const addressOf = (name: string, network = 'bridge'): string => inspect(name, `{{(index .NetworkSettings.Networks ${JSON.stringify(network)}).IPAddress}}`)

/** A container that answers HTTP with a word and the client's address, and any datagram with the word. */
function serve(name: string, word: string, ...flags: string[]): void {
  const script = `mkdir -p /www/cgi-bin && printf '#!/bin/sh\\necho; echo ${word} $REMOTE_ADDR\\n' > /www/cgi-bin/x && chmod +x /www/cgi-bin/x; /echo 53 ${word} & exec httpd -f -p 80 -h /www`
  ok('run', '-d', '--name', name, '-v', `${echo}:/echo:ro`, ...flags, 'starter', 'sh', '-c', script)
  for (let tries = 0; tries < 50 && !(/:0050 /.test(berth('exec', name, 'cat', '/proc/net/tcp', '/proc/net/tcp6').out) && /:0035 /.test(berth('exec', name, 'cat', '/proc/net/udp6').out)); tries++);
}
const ask = (address: string, port: number | string): string[] => ['sh', '-c', `printf 'GET /cgi-bin/x HTTP/1.0\r\n\r\n' | busybox nc -w 2 ${address} ${port} | tail -n 1`]
const askUdp = (address: string, port: number): string[] => ['timeout', '2', 'bash', '-c', `exec 3<>/dev/udp/${address}/${port}; echo x >&3; head -c 3 <&3`]
const answered = (said: Said): boolean => said.out.trim() !== ''
/** Links that match; a container's go with its namespace, a moment after it. */
async function linksLike(pattern: RegExp): Promise<string[]> {
  for (let tries = 0; ; tries++) {
    const found = host.onHost('ip', '-o', 'link').out.split('\n').filter((line) => pattern.test(line))
    if (found.length === 0 || tries === 100) return found
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}
const remove = (...names: string[]): void => void berth('rm', '-f', ...names)

test('a container of the default network has an address, and reaches the host and what is behind it, from the host\'s address', () => {
  ok('run', '-d', '--name', 'plain', 'starter', 'sleep', '1000')
  const address = addressOf('plain')
  assert.match(address, /^172\.\d+\.0\.\d+$/)
  assert.match(ok('exec', 'plain', 'ip', 'addr'), new RegExp(`inet ${address}/16 .* eth0`))
  assert.doesNotMatch(ok('exec', 'plain', 'ip', 'addr'), /inet6 fe80/)
  assert.match(ok('exec', 'plain', 'cat', '/etc/hosts'), new RegExp(`^${address}\t${inspect('plain', '{{.Config.Hostname}}')}$`, 'm'))
  assert.equal(berth('exec', 'plain', 'ping', '-c1', '-W2', inspect('plain', '{{.NetworkSettings.Gateway}}')).code, 0)
  assert.equal(berth('exec', 'plain', 'ping', '-c1', '-W2', '198.51.100.2').code, 0)
  assert.notEqual(host.outside('busybox', 'ping', '-c1', '-W1', address).code, 0)
  remove('plain')
})

test('a published port is reached by every address of the host, by who is outside, by containers, and by its own', () => {
  serve('web', 'hello', '-p', '8080:80', '-p', '5353:53/udp')
  assert.equal(ok('port', 'web'), '53/udp -> 0.0.0.0:5353\n53/udp -> [::]:5353\n80/tcp -> 0.0.0.0:8080\n80/tcp -> [::]:8080')
  assert.match(ok('ps', '--format', '{{.Ports}}'), /0\.0\.0\.0:8080->80\/tcp, \[::\]:8080->80\/tcp/)
  const gateway = inspect('web', '{{.NetworkSettings.Gateway}}')
  for (const address of ['127.0.0.1', '127.0.0.5', '198.51.100.1', '::1', '2001:db8::1', gateway]) assert.match(host.onHost(...ask(address, 8080)).out, /^hello/, address)
  for (const address of ['198.51.100.1', '2001:db8::1']) assert.match(host.outside(...ask(address, 8080)).out, /^hello/, address)
  // who asks is known to who answers
  assert.match(host.outside(...ask('198.51.100.1', 8080)).out, /198\.51\.100\.2/)
  for (const address of ['198.51.100.1', gateway]) {
    assert.match(ok('run', '--rm', 'starter', ...ask(address, 8080)), /^hello/)
    assert.match(ok('exec', 'web', ...ask(address, 8080)), /^hello/)
  }
  for (const address of ['127.0.0.1', '::1']) assert.equal(host.onHost(...askUdp(address, 5353)).out, 'hel', address)
  assert.equal(host.outside(...askUdp('198.51.100.1', 5353)).out, 'hel')
  remove('web')
  assert.ok(!answered(host.onHost(...ask('127.0.0.1', 8080))))
  assert.doesNotMatch(host.onHost('nft', 'list', 'ruleset').out, /8080/)
})

test('on a network with IPv6 a port is forwarded by its own addresses, and who asks is known', () => {
  ok('network', 'create', '--ipv6', 'six')
  serve('web6', 'sixth', '--network', 'six', '-p', '8096:80')
  assert.match(host.outside(...ask('2001:db8::1', 8096)).out, /^sixth .*2001:db8::2/)
  assert.match(host.outside(...ask('198.51.100.1', 8096)).out, /^sixth .*198\.51\.100\.2/)
  for (const address of ['::1', '127.0.0.1', '2001:db8::1']) assert.match(host.onHost(...ask(address, 8096)).out, /^sixth/, address)
  assert.match(host.onHost('nft', 'list', 'ruleset').out, /:: \. 8096 : fd[0-9a-f:]+ \. 80/)
  assert.match(ok('exec', 'web6', ...ask('2001:db8::1', 8096)), /^sixth/)
  assert.equal(berth('exec', 'web6', 'ping', '-c1', '-W2', '2001:db8::2').code, 0)
  remove('web6')
  ok('network', 'rm', 'six')
  ok('network', 'create', '--ipv4=false', '--ipv6', 'only')
  serve('only6', 'alone', '--network', 'only', '-p', '8096:80')
  assert.doesNotMatch(ok('exec', 'only6', 'ip', 'addr', 'show', 'eth0'), /inet /)
  for (const address of ['127.0.0.1', '::1', '2001:db8::1', '198.51.100.1']) assert.match(host.onHost(...ask(address, 8096)).out, /^alone/, address)
  assert.match(host.outside(...ask('2001:db8::1', 8096)).out, /^alone .*2001:db8::2/)
  remove('only6')
  ok('network', 'rm', 'only')
})

test('SCTP is published by rules alone', () => {
  ok('run', '-d', '--name', 'sctp', '-p', '9899:9899/sctp', 'starter', 'sleep', '1000')
  assert.match(host.onHost('nft', '-nn', 'list', 'ruleset').out, new RegExp(`132 \\. 0\\.0\\.0\\.0 \\. 9899 : ${addressOf('sctp')} \\. 9899`))
  assert.equal(ok('port', 'sctp'), '9899/sctp -> 0.0.0.0:9899\n9899/sctp -> [::]:9899')
  remove('sctp')
})

test('a port of one address is reached by that one, a range and any free port are given, and -P takes what is exposed', () => {
  serve('local', 'near', '-p', '127.0.0.1:8081:80')
  assert.match(host.onHost(...ask('127.0.0.1', 8081)).out, /^near/)
  assert.ok(!answered(host.outside(...ask('198.51.100.1', 8081))))
  ok('run', '-d', '--name', 'range', '-p', '8081-8083:80', 'starter', 'sleep', '1000')
  assert.equal(ok('port', 'range', '80'), '0.0.0.0:8082\n[::]:8082') // 8081 of all addresses is not free
  ok('run', '-d', '--name', 'any', '-P', '--expose', '90/udp', '-p', '80', 'starter', 'sleep', '1000')
  const [first = '', second = ''] = ok('port', 'any', '80').split('\n').map((line) => line.split(':').at(-1)!)
  assert.ok(first === second && Number(first) > 1024)
  assert.match(ok('port', 'any', '90/udp'), /^0\.0\.0\.0:\d+\n/)
  remove('local', 'range', 'any')
})

test('a port that somebody has is refused, naming who, and nothing is done', () => {
  ok('run', '-d', '--name', 'first', '-p', '8090:80', 'starter', 'sleep', '1000')
  const second = berth('run', '-d', '--name', 'second', '-p', '8091:80', '-p', '8090:81', 'starter', 'sleep', '1000')
  assert.equal(second.code, 125)
  assert.match(second.err, /driver failed programming external connectivity on endpoint second .*Bind for 0\.0\.0\.0:8090 failed: port is already allocated \(by container first\)/)
  assert.doesNotMatch(host.onHost('nft', 'list', 'ruleset').out, /8091/)
  const busy = host.onHost('sh', '-c', 'busybox nc -l -p 8092 >/dev/null 2>&1 </dev/null & sleep 0.2; exit 0')
  assert.equal(busy.code, 0)
  assert.match(berth('run', '--rm', '-p', '8092:80', 'starter', 'true').err, /failed to bind port 0\.0\.0\.0:8092\/tcp: address already in use \(by process \d+, busybox\)/)
  for (const bad of [['-p', '0:0:0:0'], ['-p', '70000:80'], ['-p', '80:x'], ['-p', '300.1.1.1:80:80']]) assert.equal(berth('run', '--rm', ...bad, 'starter', 'true').code, 125)
  host.onHost('sh', '-c', 'echo | busybox nc -w 1 127.0.0.1 8092')
  remove('first', 'second')
  assert.equal(berth('run', '--rm', '-p', '8090:80', 'starter', 'true').code, 0)
})

test('networks are apart from each other, and an internal one from everything', () => {
  ok('network', 'create', 'blue')
  ok('network', 'create', '--internal', 'inside')
  serve('b1', 'blue', '--network', 'blue')
  serve('i1', 'inside', '--network', 'inside')
  assert.match(ok('run', '--rm', '--network', 'blue', 'starter', ...ask('b1', 80)), /^blue/)
  assert.match(ok('run', '--rm', '--network', 'inside', 'starter', ...ask('i1', 80)), /^inside/)
  assert.ok(!answered(berth('run', '--rm', 'starter', ...ask(addressOf('b1', 'blue'), 80))))
  assert.ok(!answered(berth('run', '--rm', '--network', 'blue', 'starter', ...ask(addressOf('i1', 'inside'), 80))))
  assert.notEqual(berth('run', '--rm', '--network', 'inside', 'starter', 'ping', '-c1', '-W1', '198.51.100.2').code, 0)
  assert.equal(ok('run', '--rm', '--network', 'inside', 'starter', 'ip', 'route').includes('default'), false)
  // who is outside and knows the way comes no further than the ports
  host.outside('ip', 'route', 'add', '172.16.0.0/12', 'via', '198.51.100.1')
  assert.ok(!answered(host.outside(...ask(addressOf('b1', 'blue'), 80))))
  host.outside('ip', 'route', 'del', '172.16.0.0/12')
  remove('b1', 'i1')
  ok('network', 'rm', 'blue', 'inside')
})

test('with icc=false containers of a network do not reach each other, but what is outside', () => {
  ok('network', 'create', '-o', 'com.docker.network.bridge.enable_icc=false', 'alone')
  serve('a1', 'one', '--network', 'alone', '-p', '8085:80')
  assert.ok(!answered(berth('run', '--rm', '--network', 'alone', 'starter', ...ask(addressOf('a1', 'alone'), 80))))
  assert.equal(berth('run', '--rm', '--network', 'alone', 'starter', 'ping', '-c1', '-W2', '198.51.100.2').code, 0)
  assert.match(host.outside(...ask('198.51.100.1', 8085)).out, /^one/)
  remove('a1')
  ok('network', 'rm', 'alone')
})

test('a container may not use the loopback addresses of the host, and could without the rule', () => {
  const listener = host.onHost('sh', '-c', 'busybox nc -ll -p 7777 -e echo secret >/dev/null 2>&1 & echo $!; sleep 0.2').out
  assert.match(host.onHost(...ask('127.0.0.1', 7777)).out, /secret/)
  const attack = (): string => berth('run', '--rm', '--cap-add', 'NET_ADMIN', '--sysctl', 'net.ipv4.conf.all.route_localnet=1', 'starter', 'sh', '-c', 'ip addr del 127.0.0.1/8 dev lo; ip route add 127.0.0.9 via $(ip route | grep default | busybox cut -d" " -f3); busybox nc -w 2 127.0.0.9 7777').out
  assert.doesNotMatch(attack(), /secret/)
  const rules = host.onHost('nft', 'list', 'ruleset').out
  host.onHost('nft', 'flush', 'chain', 'inet', /^table inet (berth-\w+)/m.exec(rules)![1]!, 'loopback')
  assert.match(attack(), /secret/)
  process.kill(Number(listener))
  host.onHost('nft', 'delete', 'table', 'inet', /^table inet (berth-\w+)/m.exec(rules)![1]!)
})

test('names: containers, aliases, short ids, several addresses, reverse, and links', () => {
  ok('network', 'create', 'named')
  ok('run', '-d', '--name', 'db', '--network', 'named', '--network-alias', 'data', 'starter', 'sleep', '1000')
  ok('run', '-d', '--name', 'db2', '--network', 'named', '--network-alias', 'data', 'starter', 'sleep', '1000')
  ok('run', '-d', '--name', 'asks', '--network', 'named', '--link', 'db:store', 'starter', 'sleep', '1000')
  const pid = inspect('asks', '{{.State.Pid}}')
  const dig = (...args: string[]): string => host.onHost('nsenter', '-n', '-t', pid, 'dig', '+short', '+tries=1', '@127.0.0.11', ...args).out.trim()
  const [db, db2] = [addressOf('db', 'named'), addressOf('db2', 'named')]
  for (const name of ['db', 'DB', 'db.named', inspect('db', '{{.Id}}').slice(0, 12), 'store']) assert.equal(dig(name), db, name)
  assert.deepEqual(dig('data').split('\n').toSorted(), [db, db2].toSorted())
  assert.equal(dig('+tcp', 'db'), db)
  assert.equal(dig('db', 'AAAA'), '')
  assert.equal(dig('-x', db), 'db.named.')
  assert.match(ok('exec', 'asks', 'cat', '/etc/resolv.conf'), /^nameserver 127\.0\.0\.11\n/)
  assert.match(ok('exec', 'asks', 'ping', '-c1', 'db2'), /1 packets received/)
  ok('rename', 'db2', 'other')
  assert.deepEqual([dig('other'), dig('data').split('\n').length], [db2, 2])
  ok('stop', '-t', '0', 'other')
  assert.equal(dig('data'), db)
  remove('db', 'other', 'asks')
  ok('network', 'rm', 'named')
})

test('links of the default network are names in /etc/hosts and variables', () => {
  ok('run', '-d', '--name', 'linked', '--expose', '5432', '-e', 'COLOUR=green', 'starter', 'sleep', '1000')
  const address = addressOf('linked')
  const said = ok('run', '--rm', '--name', 'linking', '--link', 'linked:my-db', 'starter', 'sh', '-c', 'env; cat /etc/hosts; ping -c1 my-db')
  for (const line of [`MY_DB_PORT=tcp://${address}:5432`, `MY_DB_PORT_5432_TCP_ADDR=${address}`, 'MY_DB_PORT_5432_TCP_PORT=5432', 'MY_DB_NAME=/linking/my-db', 'MY_DB_ENV_COLOUR=green', `${address}\tmy-db ${inspect('linked', '{{.Config.Hostname}}')} linked`, '1 packets transmitted, 1 packets received, 0% packet loss']) assert.ok(said.split('\n').includes(line), `${line} in ${said}`)
  assert.match(berth('run', '--rm', '--link', 'nobody', 'starter', 'true').err, /could not get container for nobody: No such container: nobody/)
  remove('linked')
})

test('what is not known here is asked of the servers that the container was given, or of nobody', () => {
  const answers = join(host.directory, 'answers.ts')
  writeFileSync(answers, `
    import { createSocket } from 'node:dgram'
    import { createServer } from 'node:net'
    import { RCODE, encodeResponse, parseQuery } from ${JSON.stringify(new URL('../src/libnetwork/dns/message.ts', import.meta.url).pathname)}
    const answer = (query) => encodeResponse(query, parseQuery(query), RCODE.ok, [{ address: '203.0.113.7' }])
    const socket = createSocket('udp4').bind(53, '198.51.100.2')
    socket.on('message', (query, from) => socket.send(answer(query), from.port, from.address))
    createServer((c) => c.on('data', (d) => { const r = answer(d.subarray(2)); c.end(Buffer.concat([Buffer.from([0, r.length]), r])) })).listen(53, '198.51.100.2')
    setTimeout(() => process.exit(), 20_000)`)
  host.outside('sh', '-c', `${process.execPath} ${answers} >/dev/null 2>&1 & sleep 0.7`)
  ok('network', 'create', 'asking')
  ok('network', 'create', '--internal', 'silent')
  const look = (network: string, ...flags: string[]): Said => {
    ok('run', '-d', '--name', 'looks', '--network', network, '--dns', '198.51.100.2', 'starter', 'sleep', '100')
    const said = host.onHost('nsenter', '-n', '-t', inspect('looks', '{{.State.Pid}}'), 'dig', '+tries=1', '+time=5', '@127.0.0.11', 'example.test', ...flags)
    remove('looks')
    return said
  }
  assert.match(look('asking', '+short').out, /^203\.0\.113\.7$/m)
  assert.match(look('asking', '+short', '+tcp').out, /^203\.0\.113\.7$/m)
  assert.match(look('silent').out, /status: SERVFAIL/)
  ok('network', 'rm', 'asking', 'silent')
})

test('a running container is connected and disconnected, with its routes, ports and names', () => {
  ok('network', 'create', 'more')
  ok('run', '-d', '--name', 'peer', '--network', 'more', 'starter', 'sleep', '1000')
  serve('moves', 'moved', '-p', '8086:80')
  ok('network', 'connect', '--alias', 'nick', 'more', 'moves')
  assert.match(ok('exec', 'moves', 'ping', '-c1', 'peer'), /1 packets received/)
  assert.match(ok('exec', 'peer', 'ping', '-c1', 'nick'), /1 packets received/)
  assert.match(ok('exec', 'moves', 'ip', 'route'), /default via 172\.\d+\.0\.1 dev eth0/)
  assert.match(berth('network', 'connect', 'more', 'moves').err, /already exists in network more/)
  ok('network', 'disconnect', 'bridge', 'moves')
  assert.match(ok('exec', 'moves', 'ip', 'route'), /default via 172\.\d+\.0\.1 dev eth1/)
  assert.match(host.outside(...ask('198.51.100.1', 8086)).out, /^moved/)
  ok('network', 'disconnect', 'more', 'moves')
  assert.equal(ok('exec', 'moves', 'ls', '/sys/class/net'), 'lo')
  assert.match(berth('network', 'disconnect', 'more', 'moves').err, /is not connected to network more/)
  ok('network', 'connect', 'bridge', 'moves')
  ok('restart', '-t', '0', 'moves')
  assert.equal(ok('exec', 'moves', 'ls', '/sys/class/net'), 'eth0\nlo')
  remove('moves', 'peer')
  ok('network', 'rm', 'more')
})

test('several networks from the start, with addresses, priorities and hardware addresses that were asked for', () => {
  ok('network', 'create', '--subnet', '10.7.0.0/24', 'n1')
  ok('network', 'create', '--subnet', '10.8.0.0/24', '--ipv6', '--subnet', 'fd00:8::/64', 'n2')
  ok('run', '-d', '--name', 'both', '--network', 'name=n1,ip=10.7.0.9', '--network', 'name=n2,ip=10.8.0.9,ip6=fd00:8::9,mac-address=02:00:00:00:00:09,gw-priority=5', '--add-host', 'gate:host-gateway', '--add-host', 'x:1.2.3.4', 'starter', 'sleep', '1000')
  assert.deepEqual([addressOf('both', 'n1'), addressOf('both', 'n2'), inspect('both', '{{.NetworkSettings.Networks.n2.GlobalIPv6Address}}'), inspect('both', '{{.NetworkSettings.Networks.n2.MacAddress}}')], ['10.7.0.9', '10.8.0.9', 'fd00:8::9', '02:00:00:00:00:09'])
  assert.match(ok('exec', 'both', 'ip', 'route'), /default via 10\.8\.0\.1/)
  assert.match(ok('exec', 'both', 'ip', '-6', 'route'), /default via fd00:8::1/)
  assert.equal(berth('exec', 'both', 'ping', '-c1', '-W2', '2001:db8::2').code, 0)
  assert.match(ok('exec', 'both', 'cat', '/etc/hosts'), /^172\.\d+\.0\.1\tgate$/m)
  assert.match(berth('run', '--rm', '--network', 'n1', '--ip', '10.7.0.9', 'starter', 'true').err, /Address already in use/)
  assert.match(berth('run', '--rm', '--network', 'n1', '--ip', '10.9.0.9', 'starter', 'true').err, /no configured subnet contains IP address 10\.9\.0\.9/)
  assert.match(berth('run', '--rm', '--ip', '172.17.0.9', 'starter', 'true').err, /user specified IP address is supported on user defined networks only/)
  remove('both')
  ok('network', 'rm', 'n1', 'n2')
})

test('a network is made of the configuration of another, and a container has the link-local addresses that it asks for', () => {
  ok('network', 'create', '--config-only', '--subnet', '10.31.0.0/24', '--label', 'a=b', '-o', 'com.docker.network.driver.mtu=1300', 'config')
  assert.doesNotMatch(host.onHost('ip', '-o', 'addr').out, /10\.31\.0/)
  ok('network', 'create', '--config-from', 'config', 'made')
  assert.equal(ok('network', 'inspect', '-f', '{{.ConfigFrom.Network}} {{(index .IPAM.Config 0).Subnet}} {{.Labels.a}}', 'made'), 'config 10.31.0.0/24 b')
  assert.match(berth('network', 'rm', 'config').err, /configuration network "config" is in use by network made/)
  assert.match(berth('network', 'create', '--config-from', 'made', 'other').err, /"made" is not a configuration network/)
  assert.match(berth('run', '--rm', '--network', 'config', 'starter', 'true').err, /cannot attach to a configuration-only network/)
  ok('run', '-d', '--name', 'local', '--network', 'name=made,link-local-ip=169.254.7.7', 'starter', 'sleep', '1000')
  assert.match(ok('exec', 'local', 'ip', 'addr', 'show', 'eth0'), /mtu 1300[^]*inet 10\.31\.0\.2\/24[^]*inet 169\.254\.7\.7\/16/)
  remove('local')
  ok('network', 'rm', 'made', 'config')
})

test('addresses and subnets run out with an error that says so', () => {
  ok('network', 'create', '--subnet', '10.6.0.0/30', 'tiny')
  ok('run', '-d', '--name', 'only', '--network', 'tiny', 'starter', 'sleep', '1000')
  assert.match(berth('run', '--rm', '--network', 'tiny', 'starter', 'true').err, /no available IPv4 addresses on this network's address pools: tiny/)
  assert.match(berth('network', 'create', '--subnet', '10.6.0.0/16', 'large').err, /Pool overlaps with other one on this address space/)
  assert.match(berth('network', 'rm', 'tiny').err, /has active endpoints \(name:"only"/)
  remove('only')
  const names: string[] = []
  let refused = ''
  for (let i = 0; i < 40 && !refused; i++) {
    const { code, err } = berth('network', 'create', `many${i}`)
    if (code === 0) names.push(`many${i}`)
    else refused = err
  }
  assert.match(refused, /all predefined address pools have been fully subnetted/)
  assert.match(ok('network', 'prune', '-f'), /Deleted Networks:\ntiny\nmany0\n/)
  assert.equal(berth('network', 'create', 'again').code, 0)
  ok('network', 'rm', 'again')
})

test('a daemon that was killed leaves ports and names at work, and takes them up again', async () => {
  ok('network', 'create', 'lasting')
  serve('stays', 'stayed', '--network', 'lasting', '-p', '8087:80')
  ok('run', '-d', '--name', 'near', '--network', 'lasting', 'starter', 'sleep', '1000')
  serve('goes', 'gone', '-p', '8088:80')
  const [address, going] = [addressOf('stays', 'lasting'), Number(inspect('goes', '{{.State.Pid}}'))]
  await host.stop('SIGKILL')
  assert.match(host.outside(...ask('198.51.100.1', 8087)).out, /^stayed/)
  process.kill(going, 'SIGKILL')
  await host.start()
  assert.equal(addressOf('stays', 'lasting'), address)
  for (const where of ['198.51.100.1', '2001:db8::1']) assert.match(host.outside(...ask(where, 8087)).out, /^stayed/, where)
  assert.match(ok('exec', 'near', 'ping', '-c1', 'stays'), /1 packets received/)
  assert.match(berth('run', '--rm', '-p', '8087:80', 'starter', 'true').err, /already allocated \(by container stays\)/)
  assert.equal(berth('run', '--rm', '-p', '8088:80', 'starter', 'true').code, 0)
  remove('stays', 'goes', 'near')
  ok('network', 'rm', 'lasting')
})

const steps: Record<string, readonly string[]> = {
  'network.made': ['network', 'create', 'half'], 'network.removed': ['network', 'rm', 'whole'],
  'connect.joined': ['network', 'connect', 'whole', 'stays'], 'connect.linked': ['network', 'connect', 'whole', 'stays'],
  'disconnect.begin': ['network', 'disconnect', 'bridge', 'stays'], 'disconnect.unlinked': ['network', 'disconnect', 'bridge', 'stays'],
}

test('an engine killed at any step of a network comes back to a true state, and nothing leaks', async () => {
  const interfaces = (): string[] => ok('exec', 'stays', 'ls', '/sys/class/net').split('\n').filter((link) => link !== 'lo')
  for (const [step, command] of Object.entries(steps)) {
    ok('network', 'create', 'whole')
    ok('run', '-d', '--name', 'stays', '--stop-signal', 'KILL', '-p', '8095:80', 'starter', 'sleep', '1000')
    await host.stop()
    await host.start({ BERTH_FAILPOINT: step }, {})
    ok('start', 'stays')
    assert.notEqual(berth(...command).code, 0, step)
    await host.ended()
    await host.start()
    const networks = Object.entries(JSON.parse(inspect('stays', '{{json .NetworkSettings.Networks}}')) as Record<string, { IPAddress: string }>)
    const addresses = ok('exec', 'stays', 'ip', 'addr')
    assert.equal(interfaces().length, networks.length, `${step}: ${interfaces()} in ${networks.map(([name]) => name)}`)
    for (const [name, { IPAddress }] of networks) assert.ok(IPAddress !== '' && addresses.includes(IPAddress), `${step}: no ${IPAddress} of ${name}`)
    const known = ok('network', 'ls', '--no-trunc', '--format', '{{.ID}}').split('\n').map((id) => `br-${id.slice(0, 12)}`)
    for (const [, bridge = ''] of host.onHost('ip', '-o', 'link').out.matchAll(/ (br-\w+)/g)) assert.ok(known.includes(bridge), `${step}: ${bridge} is left`)
    remove('stays')
    berth('network', 'rm', 'whole', 'half')
    assert.doesNotMatch(host.onHost('nft', 'list', 'ruleset').out, /8095|br-/)
    assert.deepEqual(await linksLike(/ veth/), [], step)
  }
})

test('rules that somebody has flushed are made again, and those of others are left alone', async () => {
  const others = 'table inet other {\n\tchain input {\n\t\ttype filter hook input priority filter; policy accept;\n\t\ttcp dport 1 accept\n\t}\n}\n'
  host.onHost('sh', '-c', `printf '${others.replaceAll('\n', '\\n')}' | nft -f -`)
  const mine = (): string => /^table inet (berth-\w+)/m.exec(host.onHost('nft', 'list', 'ruleset').out)?.[1] ?? ''
  const table = mine()
  host.onHost('nft', 'delete', 'table', 'inet', table)
  serve('after', 'flushed', '-p', '8089:80')
  assert.equal(mine(), table)
  assert.match(host.outside(...ask('198.51.100.1', 8089)).out, /^flushed/)
  host.onHost('nft', 'flush', 'table', 'inet', table)
  await host.stop('SIGKILL')
  await host.start()
  assert.match(host.outside(...ask('198.51.100.1', 8089)).out, /^flushed/)
  assert.equal(host.onHost('nft', 'list', 'table', 'inet', 'other').out, others)
  remove('after')
})

test('a packet to a host whose firewall drops by default comes no further', () => {
  serve('guarded', 'open', '-p', '8093:80')
  host.onHost('nft', 'add', 'table', 'inet', 'wall')
  host.onHost('nft', 'add', 'chain', 'inet', 'wall', 'forward', '{ type filter hook forward priority 10; policy drop; }')
  assert.ok(!answered(host.outside(...ask('198.51.100.1', 8093))))
  host.onHost('nft', 'add', 'rule', 'inet', 'wall', 'forward', 'ct', 'status', 'dnat', 'accept')
  host.onHost('nft', 'add', 'rule', 'inet', 'wall', 'forward', 'ct', 'state', 'established', 'accept')
  assert.match(host.outside(...ask('198.51.100.1', 8093)).out, /^open/)
  host.onHost('nft', 'delete', 'table', 'inet', 'wall')
  remove('guarded')
})

test('the rules are those of the golden file', () => {
  ok('network', 'create', '--internal', '-o', 'com.docker.network.bridge.name=inner', 'inner')
  ok('run', '-d', '--name', 'golden', '-p', '127.0.0.1:8094:80', '-p', '[::1]:8094:80', 'starter', 'sleep', '100')
  const rules = host.onHost('nft', 'list', 'ruleset').out
  const own = /^table inet berth-\w+ \{\n[^]*?^\}\n/m.exec(rules)?.[0].replace(/berth-\w+/, 'berth-TEST').replaceAll(addressOf('golden'), 'ADDRESS').replaceAll('6 . 127.0.0.1', 'tcp . 127.0.0.1') // without /etc/protocols
    .replace(/elements = \{([^}]*)\}/g, (_whole, list: string) => `elements = { ${list.split(',').map((element) => element.trim()).toSorted().join(', ')} }`) ?? ''
  remove('golden')
  ok('network', 'rm', 'inner')
  assert.equal(own, readFileSync(new URL('rules.nft', import.meta.url), 'utf8'))
})

test('when the daemon stops, no link, rule or setting is left', async () => {
  ok('network', 'create', 'last')
  await host.stop()
  assert.deepEqual(await linksLike(/berth|br-|veth/), [])
  assert.doesNotMatch(host.onHost('nft', 'list', 'ruleset').out, /berth/)
  assert.equal(host.onHost('cat', '/proc/sys/net/ipv4/ip_forward').out, '0\n')
  await host.start()
  assert.match(ok('network', 'ls', '--format', '{{.Name}}'), /^bridge\nhost\nlast\nnone$/)
  assert.equal(host.onHost('cat', '/proc/sys/net/ipv4/ip_forward').out, '1\n')
  assert.equal(berth('run', '--rm', '--network', 'last', 'starter', 'true').code, 0)
})

test('100 networks, 300 containers on one of them, and 1000 ports of one: all are reached', async () => {
  await host.stop()
  await host.start({}, { flags: ['--default-address-pool', 'base=10.64.0.0/12,size=23'] })
  for (let at = 0; at < 100; at++) assert.equal((await host.call('POST', '/networks/create', { Name: `many${at}` })).status, 201)
  serve('ports', 'thousandth', '-p', '20000-20999:80')
  serve('range', 'ranged', ...Array.from({ length: 1000 }, (_item, at) => ['-p', `${21_000 + at}:80`]).flat())
  for (const port of [21_000, 21_500, 21_999]) assert.match(host.outside(...ask('198.51.100.1', port)).out, /^ranged/)
  assert.match(host.outside(...ask('198.51.100.1', Number(ok('port', 'ports', '80').split('\n')[0]!.split(':').at(-1)))).out, /^thousandth/)
  const ids: string[] = []
  await Promise.all(Array.from({ length: 8 }, async () => {
    while (ids.length < 300) {
      const at = ids.push('') - 1
      const { body: { Id } } = await host.call('POST', `/containers/create?name=crowd${at}`, { Image: 'starter', Cmd: ['sleep', '1000'], HostConfig: { NetworkMode: 'many50' } })
      assert.equal((await host.call('POST', `/containers/${Id}/start`)).status, 204)
      ids[at] = Id
    }
  }))
  assert.equal(ok('exec', 'crowd0', 'sh', '-c', 'for i in $(seq 0 299); do ping -c1 -W2 crowd$i >/dev/null || echo crowd$i; done'), '')
  await Promise.all(ids.map((id) => host.call('DELETE', `/containers/${id}?force=1`)))
  remove('ports', 'range')
  ok('network', 'prune', '-f')
  await host.stop()
  await host.start()
})

test('the host itself finds containers by name where it is asked to', async () => {
  await host.stop()
  await host.start({}, { flags: ['--host-names', '127.0.0.54:5300'] })
  ok('run', '-d', '--name', 'found', 'starter', 'sleep', '1000')
  const dig = (...args: string[]): string => host.onHost('dig', '+short', '+tries=1', '@127.0.0.54', '-p', '5300', ...args).out.trim()
  assert.equal(dig('found.berth'), addressOf('found'))
  assert.equal(dig('+tcp', 'found.bridge.berth'), addressOf('found'))
  assert.equal(dig('-x', addressOf('found')), 'found.bridge.berth.')
  assert.equal(dig('found'), '')
  remove('found')
  assert.equal(dig('found.berth'), '')
})

test('a daemon without a default network has containers with loopback alone, and networks that are made', async () => {
  await host.stop()
  await host.start({}, { flags: ['--bridge', 'none'] })
  assert.equal(ok('run', '--rm', 'starter', 'ls', '/sys/class/net'), 'lo')
  assert.doesNotMatch(host.onHost('ip', '-o', 'link').out, /berth0/)
  ok('network', 'create', 'made')
  assert.equal(ok('run', '--rm', '--network', 'made', 'starter', 'ls', '/sys/class/net'), 'eth0\nlo')
  ok('network', 'rm', 'made')
  await host.stop()
  await host.start({}, { flags: ['--bip', '10.42.0.1/24', '--fixed-cidr', '10.42.0.128/25', '--icc=false', '--mtu', '1400', '--ip', '127.0.0.1', '--dns', '192.0.2.53'] })
  ok('run', '-d', '--name', 'set', '-p', '8300:80', 'starter', 'sleep', '1000')
  assert.match(addressOf('set'), /^10\.42\.0\.1(2[89]|3\d)$/)
  assert.match(ok('exec', 'set', 'ip', 'link', 'show', 'eth0'), /mtu 1400/)
  assert.equal(ok('port', 'set'), '80/tcp -> 127.0.0.1:8300')
  assert.equal(ok('exec', 'set', 'cat', '/etc/resolv.conf').split('\n')[0], 'nameserver 192.0.2.53')
  remove('set')
  await host.stop()
  await host.start({}, { flags: ['--bip', '10.43.0.1/24', '--ipv6'] })
  assert.match(ok('run', '--rm', 'starter', 'ip', 'addr'), /inet 10\.43\.0\.2\/24[^]*inet6 fd/)
  await host.stop()
  await host.start()
  assert.match(ok('run', '--rm', 'starter', 'ip', 'addr'), /inet 10\.43\.0\.2\/24/)
})

test('macvlan: a container is on the link of the host, with an address of its own, and a VLAN is made and removed', () => {
  ok('network', 'create', '-d', 'macvlan', '-o', 'parent=up0', '--subnet', '198.51.100.0/24', '--gateway', '198.51.100.2', '--ip-range', '198.51.100.128/25', 'wire')
  ok('run', '-d', '--name', 'wired', '--network', 'wire', 'starter', 'sleep', '1000')
  const address = addressOf('wired', 'wire')
  assert.match(address, /^198\.51\.100\.1[23]\d$/)
  assert.equal(host.outside('busybox', 'ping', '-c1', '-W2', address).code, 0)
  assert.match(ok('exec', 'wired', 'ip', 'route'), /default via 198\.51\.100\.2 dev eth0/)
  assert.match(host.outside('ip', 'neigh', 'show', address).out, new RegExp(inspect('wired', '{{.NetworkSettings.Networks.wire.MacAddress}}')))
  assert.match(berth('network', 'create', '-d', 'macvlan', '-o', 'parent=up0', 'twice').err, /network wire is already using parent interface up0/)
  assert.match(berth('network', 'create', '-d', 'macvlan', '-o', 'parent=none0', 'bad').err, /failed to find the parent link none0/)
  assert.match(berth('network', 'create', '-d', 'macvlan', '-o', 'parent=up0', '-o', 'macvlan_mode=x', 'bad').err, /requested macvlan mode 'x' is not valid/)
  assert.match(berth('network', 'create', '-d', 'macvlan', 'bad').err, /needs a link of the host/)
  remove('wired')
  ok('network', 'rm', 'wire')
  const tagged = berth('network', 'create', '-d', 'macvlan', '-o', 'parent=up0.50', 'tagged')
  if (tagged.code !== 0) return assert.match(tagged.err, /this kernel has no vlan links/)
  assert.match(host.onHost('ip', '-d', 'link', 'show', 'up0.50').out, /vlan protocol 802\.1Q id 50/)
  ok('run', '--rm', '--network', 'tagged', 'starter', 'true')
  ok('network', 'rm', 'tagged')
  assert.notEqual(host.onHost('ip', 'link', 'show', 'up0.50').code, 0)
})

test('ipvlan works where the kernel has it, and is refused in words where it has not', () => {
  const { code, err } = berth('network', 'create', '-d', 'ipvlan', '-o', 'parent=up0', '--subnet', '198.51.100.0/24', '--gateway', '198.51.100.2', '--ip-range', '198.51.100.64/28', 'ip')
  if (code !== 0) return assert.match(err, /this kernel has no ipvlan links/)
  ok('run', '-d', '--name', 'shares', '--network', 'ip', 'starter', 'sleep', '1000')
  assert.equal(host.outside('busybox', 'ping', '-c1', '-W2', addressOf('shares', 'ip')).code, 0)
  remove('shares')
  ok('network', 'rm', 'ip')
})

test('ports of a running container are published and withdrawn, and stay so', () => {
  serve('grows', 'grown', '-p', '8100:80')
  const get = (port: number): boolean => host.outside(...ask('198.51.100.1', port)).out.startsWith('grown')
  ok('update', '--publish-add', '8101:80', '--publish-add', '127.0.0.1:8102:80', 'grows')
  assert.deepEqual([get(8100), get(8101), get(8102)], [true, true, false])
  assert.match(host.onHost(...ask('127.0.0.1', 8102)).out, /^grown/)
  ok('update', '--publish-rm', '8100:80', 'grows')
  assert.deepEqual([get(8100), get(8101)], [false, true])
  ok('run', '-d', '--name', 'other', '-p', '8103:80', 'starter', 'sleep', '1000')
  assert.match(berth('update', '--publish-add', '8104:80', '--publish-add', '8103:80', '--publish-rm', '80', 'grows').err, /already allocated \(by container other\)/)
  assert.match(berth('update', '--publish-rm', '99', 'grows').err, /does not publish port 99\/tcp/)
  assert.deepEqual([get(8101), get(8104)], [true, false])
  ok('restart', '-t', '0', 'grows')
  assert.equal(ok('port', 'grows', '80'), '0.0.0.0:8101\n[::]:8101\n127.0.0.1:8102')
  ok('update', '--publish-rm', '80', 'grows')
  assert.equal(ok('port', 'grows'), '')
  remove('grows', 'other')
})

test('what a container sends and receives is limited, delayed and lost as asked', () => {
  ok('network', 'create', 'slow')
  ok('run', '-d', '--name', 'source', '--network', 'slow', 'starter', 'sh', '-c', 'while :; do busybox nc -l -p 80 -e dd if=/dev/zero bs=64k count=12; done')
  ok('run', '-d', '--name', 'sink', '--network', 'slow', 'starter', 'sleep', '1000')
  const took = (): number => {
    const before = process.hrtime.bigint()
    assert.equal(ok('exec', 'sink', 'sh', '-c', 'for i in 1 2 3 4 5; do n=$(busybox nc -w 9 source 80 </dev/null | wc -c); [ $n -gt 0 ] && break; sleep 0.1; done; echo $n'), String(12 * 65_536))
    return Number(process.hrtime.bigint() - before)
  }
  ok('network', 'impair', '--rate', '4mbit', 'slow', 'sink')
  const least = 12 * 65_536 * 8 / 4e6 * 1e9
  const limited = took()
  assert.ok(limited > 0.8 * least, `${limited} ns at 4 Mbit/s, where ${least} are the least`)
  ok('restart', '-t', '0', 'sink')
  assert.match(host.onHost('nsenter', '-n', '-t', inspect('sink', '{{.State.Pid}}'), 'tc', 'qdisc').out, /tbf .* rate 4Mbit/)
  const { code, err } = berth('network', 'impair', '--delay', '100ms', '--loss', '1%', 'slow', 'sink')
  if (code !== 0) assert.match(err, /this kernel has no netem/)
  else assert.match(host.onHost('nsenter', '-n', '-t', inspect('sink', '{{.State.Pid}}'), 'tc', 'qdisc').out, /netem .* delay 100ms loss 1%/)
  ok('network', 'impair', 'slow', 'sink')
  assert.doesNotMatch(host.onHost('nsenter', '-n', '-t', inspect('sink', '{{.State.Pid}}'), 'tc', 'qdisc').out, /tbf|netem/)
  assert.match(berth('network', 'impair', '--rate', 'x', 'slow', 'sink').err, /invalid rate "x"/)
  assert.match(berth('network', 'impair', '--rate', '1mbit', 'bridge', 'sink').err, /is not connected to network bridge/)
  remove('source', 'sink')
  ok('network', 'rm', 'slow')
})
