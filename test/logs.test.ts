import assert from 'node:assert/strict'
import { createSocket } from 'node:dgram'
import { existsSync, mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, type AddressInfo, type Server, type Socket } from 'node:net'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { gunzipSync, inflateSync } from 'node:zlib'
import { ExtData, decodeMulti, encode } from '@msgpack/msgpack'
import { must, syscall } from '../src/sys/ffi.ts'
import { nr } from '../src/sys/syscalls.ts'
import { TestDaemon, succeeded, until } from './daemon.ts'

const daemon = new TestDaemon()
const { refused } = daemon
/** Its output as it is: log lines end as they were written. */
const ok = (...args: string[]): string => succeeded(daemon.cli(args), args)
/** As `ok`, while this process serves. */
const beside = async (...args: string[]): Promise<string> => succeeded(await daemon.cliBeside(args), args)

before(async () => {
  await daemon.start()
  await daemon.importStarter()
})
after(() => daemon[Symbol.asyncDispose]())

/** A server of streams that keeps what it hears. */
async function listen(at?: string, answer?: (data: Buffer, socket: Socket) => void): Promise<{ server: Server, port: number, heard: () => Buffer } & AsyncDisposable> {
  const chunks: Buffer[] = []
  const sockets = new Set<Socket>()
  const server = createServer((socket) => {
    sockets.add(socket)
    socket.on('data', (data: Buffer) => {
      chunks.push(data)
      answer?.(data, socket)
    })
    socket.on('error', () => {})
  })
  await new Promise<void>((resolve) => (at ? server.listen(at, resolve) : server.listen(0, '127.0.0.1', resolve)))
  return { server, port: at ? 0 : (server.address() as AddressInfo).port, heard: () => Buffer.concat(chunks), async [Symbol.asyncDispose]() {
    for (const socket of sockets) socket.destroy()
    await new Promise((resolve) => server.close(resolve))
  } }
}

/** A socket of datagrams at a path, that keeps what it hears. */
function listenUnixgram(path: string): { heard: () => string[] } & Disposable {
  const [AF_UNIX, SOCK_DGRAM, MSG_DONTWAIT] = [1, 2, 0x40]
  const fd = must('socket', nr('socket'), AF_UNIX, SOCK_DGRAM, 0)
  const address = Buffer.alloc(110)
  address.writeUInt16LE(AF_UNIX, 0)
  address.write(path, 2)
  must('bind', nr('bind'), fd, address, 3 + path.length)
  const messages: string[] = []
  const buffer = Buffer.alloc(1 << 16)
  return {
    heard() {
      for (let length = syscall(nr('recvfrom'), fd, buffer, buffer.length, MSG_DONTWAIT, null, null); length >= 0; length = syscall(nr('recvfrom'), fd, buffer, buffer.length, MSG_DONTWAIT, null, null)) messages.push(buffer.toString('utf8', 0, length))
      return messages
    },
    [Symbol.dispose]() {
      must('close', nr('close'), fd)
      rmSync(path)
    },
  }
}

const talk = 'echo out; echo err >&2; echo last'

for (const driver of ['json-file', 'local'])
  test(`${driver}: what was said, by time, by number, as it comes, across rotations`, async () => {
    const name = `own-${driver}`
    ok('run', '-d', '--name', name, '--log-driver', driver, '--log-opt', 'max-size=2k', '--log-opt', 'max-file=3', '--log-opt', 'compress=true', 'starter', 'sh', '-c', 'for i in $(seq 1 200); do echo "line $i of many"; done; echo err >&2; printf unended')
    ok('wait', name)
    const all = ok('logs', name).trim().split('\n')
    assert.ok(all.length > 10 && all.length < 202, `the oldest are gone: ${all.length}`)
    assert.equal(all.at(-1), 'unended')
    assert.equal(ok('logs', '-n', '1', name), 'unended')
    assert.equal(ok('logs', '-n', '0', name), '')
    const tail = ok('logs', '-n', '20', name).trim().split('\n')
    assert.ok(tail.includes('line 190 of many') && tail.length <= 20 && tail.length >= 19, tail.join())
    const [first = ''] = ok('logs', '-t', '-n', '20', name).split('\n')
    assert.match(first, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z line \d+ of many$/)
    assert.equal(ok('logs', '--since', '1h', '-n', '1', name), 'unended')
    assert.equal(ok('logs', '--until', '1h', name), '')
    const id = ok('inspect', '-f', '{{.Id}}', name).trim()
    const directory = join(daemon.directory, 'data/containers', id, driver === 'local' ? 'local-logs' : '')
    const files = await until('compressed files', () => readdirSync(directory).filter((file) => file.endsWith('.gz')).length === 2 && readdirSync(directory))
    assert.ok(!files.some((file) => file.endsWith('.tmp')), files.join())
    assert.equal(ok('logs', name).trim().split('\n').length, all.length, 'compressed ones are read too')
    ok('rm', name)
  })

test('a follower gets every line once, while files are rotated and compressed under it', async () => {
  ok('create', '--name', 'followed', '--log-opt', 'max-size=10k', '--log-opt', 'max-file=4', '--log-opt', 'compress=true', 'starter', 'sh', '-c', 'for i in $(seq 1 2000); do echo "number $i"; if [ $((i % 50)) = 0 ]; then sleep 0.02; fi; done')
  ok('start', 'followed')
  const lines = (await beside('logs', '-f', 'followed')).trim().split('\n')
  const first = Number(lines[0]!.split(' ')[1])
  assert.deepEqual(lines, Array.from({ length: 2001 - first }, (_, at) => `number ${first + at}`))
  ok('rm', 'followed')
})

test('labels, variables and tags are kept with the lines', () => {
  ok('run', '--name', 'marked', '-l', 'team=blue', '-l', 'app.x=1', '-e', 'STAGE=test', '--log-opt', 'labels=team', '--log-opt', 'labels-regex=^app', '--log-opt', 'env=STAGE', '--log-opt', 'tag={{.Name}}/{{.ImageName}}', 'starter', 'echo', 'hi')
  assert.equal(ok('logs', '--details', 'marked'), 'STAGE=test,app.x=1,tag=marked%2Fstarter,team=blue hi\n')
  const [file = ''] = [ok('inspect', '-f', '{{.LogPath}}', 'marked').trim()]
  assert.match(readFileSync(file, 'utf8'), /^\{"log":"hi\\n","stream":"stdout","attrs":\{.*\},"time":"[^"]*\.\d{9}Z"\}\n$/)
  ok('rm', 'marked')
})

test('options that there are not, or that can not be, are refused', () => {
  const cases: [driver: string, option: string, error: RegExp][] = [
    ['nope', '', /logger: no log driver named 'nope' is registered/], ['json-file', 'foo=1', /unknown log opt 'foo' for json-file log driver/], ['json-file', 'max-file=0', /max-file cannot be less than 1/], ['json-file', 'mode=odd', /logging mode not supported: odd/],
    ['json-file', 'max-buffer-size=1m', /max-buffer-size option is only supported with 'mode=non-blocking'/], ['json-file', 'tag={{.Nope', /invalid tag template/], ['syslog', 'syslog-address=http://x', /syslog-address should be in form proto:\/\/address/], ['syslog', 'syslog-facility=odd', /invalid syslog facility: odd/],
    ['syslog', 'syslog-format=odd', /Invalid syslog format/], ['gelf', '', /gelf-address is a required parameter/], ['gelf', 'gelf-address=udp://x:1,', /gelf-address: .* is no address/], ['fluentd', 'fluentd-retry-wait=soon', /invalid duration "soon"/], ['none', 'max-size=1', /unknown log opt 'max-size' for none log driver/],
  ]
  for (const [driver, option, error] of cases) assert.match(refused('create', '--log-driver', driver, ...(option ? ['--log-opt', option] : []), 'starter', 'true'), error)
  assert.match(refused('run', '--rm', '--log-driver', 'syslog', '--log-opt', 'syslog-address=tcp://127.0.0.1:1', 'starter', 'true'), /failed to initialize logging driver: dial tcp 127\.0\.0\.1:1: connect: connection refused/)
  assert.match(refused('run', '--rm', '--log-driver', 'fluentd', '--log-opt', 'fluentd-address=127.0.0.1:1', 'starter', 'true'), /failed to initialize logging driver: dial tcp 127\.0\.0\.1:1/)
  if (!existsSync('/run/systemd/journal/socket')) assert.match(refused('run', '--rm', '--log-driver', 'journald', 'starter', 'true'), /journald is not enabled on this host/)
  ok('container', 'prune', '-f') // a container that was made, and can't start
  assert.equal(ok('run', '--name', 'silent', '--log-driver', 'none', 'starter', 'echo', 'seen'), 'seen\n')
  assert.match(refused('logs', 'silent'), /configured logging driver does not support reading/)
  ok('rm', 'silent')
  assert.equal(ok('ps', '-aq'), '')
})

test('syslog by udp, tcp and both kinds of socket, in each format; and its lines can be read here', async () => {
  const udp = createSocket('udp4')
  const datagrams: string[] = []
  udp.on('message', (data) => datagrams.push(data.toString()))
  await new Promise<void>((resolve) => udp.bind(0, '127.0.0.1', resolve))
  try {
    await beside('run', '--name', 'logged', '--log-driver', 'syslog', '--log-opt', `syslog-address=udp://127.0.0.1:${udp.address().port}`, '--log-opt', 'tag=t-{{.Name}}', 'starter', 'sh', '-c', talk)
    await until('three datagrams', () => datagrams.length === 3)
    assert.match(datagrams.find((text) => text.endsWith('out'))!, /^<30>[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d t-logged\[\d+\]: out$/)
    assert.match(datagrams.find((text) => text.endsWith('err'))!, /^<27>/)
    assert.deepEqual((await beside('logs', 'logged')).split('\n').toSorted(), ['', 'last', 'out'], 'dual logging')
    await beside('rm', 'logged')
  } finally {
    udp.close()
  }
  await using tcp = await listen()
  await beside('run', '--rm', '--log-driver', 'syslog', '--log-opt', `syslog-address=tcp://127.0.0.1:${tcp.port}`, '--log-opt', 'syslog-format=rfc5424micro', '--log-opt', 'syslog-facility=local3', '--log-opt', 'tag=app', 'starter', 'echo', 'framed')
  assert.match(await until('a line', () => tcp.heard().includes(10) && tcp.heard().toString()), /^<158>1 \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z \S+ app \d+ app - framed\n$/)
  const path = join(daemon.directory, 'syslog.sock')
  await using stream = await listen(path)
  await beside('run', '--rm', '--log-driver', 'syslog', '--log-opt', `syslog-address=unix://${path}`, '--log-opt', 'syslog-format=rfc3164', 'starter', 'echo', 'local')
  assert.match(await until('a line', () => stream.heard().includes(10) && stream.heard().toString()), /^<30>[A-Z][a-z]{2} .* \S+ [0-9a-f]{12}\[\d+\]: local\n$/)
  using datagram = listenUnixgram(join(daemon.directory, 'syslog.dgram'))
  await beside('run', '--rm', '--log-driver', 'syslog', '--log-opt', `syslog-address=unixgram://${daemon.directory}/syslog.dgram`, 'starter', 'echo', 'gram')
  assert.match(await until('a datagram', () => datagram.heard()[0]), /: gram$/)
})

test('journald gets fields', { skip: existsSync('/run/systemd/journal/socket') ? 'this machine has a journal of its own' : false }, async () => {
  mkdirSync('/run/systemd/journal', { recursive: true })
  using journal = listenUnixgram('/run/systemd/journal/socket')
  await beside('run', '--rm', '--name', 'journaled', '--log-driver', 'journald', '-l', 'my.team=blue', '--log-opt', 'labels=my.team', 'starter', 'sh', '-c', 'echo hello >&2')
  const message = await until('a datagram', () => journal.heard()[0])
  const fields = Object.fromEntries(message.trim().split('\n').map((line) => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)]))
  assert.deepEqual([fields['MESSAGE'], fields['PRIORITY'], fields['CONTAINER_NAME'], fields['IMAGE_NAME'], fields['MY_TEAM']], ['hello', '3', 'journaled', 'starter', 'blue'])
  assert.match(fields['CONTAINER_ID_FULL']!, /^[0-9a-f]{64}$/)
})

test('gelf by udp, compressed and in chunks, and by tcp', async () => {
  const udp = createSocket('udp4')
  const datagrams: Buffer[] = []
  udp.on('message', (data) => datagrams.push(data))
  await new Promise<void>((resolve) => udp.bind(0, '127.0.0.1', resolve))
  const address = `gelf-address=udp://127.0.0.1:${udp.address().port}`
  try {
    await beside('run', '--rm', '--name', 'grey', '--log-driver', 'gelf', '--log-opt', address, '-e', 'STAGE=x', '--log-opt', 'env=STAGE', 'starter', 'sh', '-c', 'echo small >&2')
    const message = JSON.parse(gunzipSync(await until('a datagram', () => datagrams[0])).toString())
    assert.deepEqual([message.version, message.short_message, message.level, message._container_name, message._image_name, message._STAGE, message._command], ['1.1', 'small', 3, 'grey', 'starter', 'x', 'sh -c echo small >&2'])
    assert.ok(Math.abs(message.timestamp - Date.now() / 1000) < 60)
    datagrams.length = 0
    await beside('run', '--rm', '--log-driver', 'gelf', '--log-opt', address, '--log-opt', 'gelf-compression-type=zlib', 'starter', 'sh', '-c', 'for i in $(seq 1 300); do printf "%s" "$(echo $i | sha256sum)"; done; echo')
    const chunks = await until('all chunks', () => datagrams.length > 0 && datagrams[0]!.readUInt16BE(0) === 0x1e0f && datagrams.length >= datagrams[0]![11]! && datagrams)
    const count = chunks[0]![11]!
    const whole = Buffer.concat(chunks.slice(0, count).toSorted((a, b) => a[10]! - b[10]!).map((chunk) => chunk.subarray(12)))
    assert.ok(JSON.parse(inflateSync(whole).toString()).short_message.length > 1000)
    assert.ok(chunks.every((chunk) => chunk.length <= 1420))
  } finally {
    udp.close()
  }
  await using tcp = await listen()
  await beside('run', '--rm', '--log-driver', 'gelf', '--log-opt', `gelf-address=tcp://127.0.0.1:${tcp.port}`, 'starter', 'sh', '-c', 'echo one; echo two')
  const texts = (await until('two messages', () => tcp.heard().filter((byte) => byte === 0).length === 2 && tcp.heard())).toString().split('\0').filter(Boolean)
  assert.deepEqual(texts.map((text) => JSON.parse(text).short_message), ['one', 'two'])
})

test('fluentd gets records, with exact times and acknowledgements where asked', async () => {
  await using server = await listen(undefined, (data, socket) => {
    for (const [, , , option] of decodeMulti(data) as Iterable<[string, unknown, unknown, { chunk: string } | undefined]>) if (option) socket.write(encode({ ack: option.chunk }))
  })
  const address = `fluentd-address=127.0.0.1:${server.port}`
  await beside('run', '--rm', '--name', 'fluent', '--log-driver', 'fluentd', '--log-opt', address, '--log-opt', 'tag=docker.{{.Name}}', 'starter', 'sh', '-c', 'echo out; echo err >&2')
  const first = await until('two records', () => [...decodeMulti(server.heard())].length === 2 && [...decodeMulti(server.heard())] as [string, number, Record<string, string>][])
  assert.deepEqual(first.map(([tag, , record]) => [tag, record['source'], record['log'], record['container_name']]).toSorted(), [['docker.fluent', 'stderr', 'err', '/fluent'], ['docker.fluent', 'stdout', 'out', '/fluent']])
  assert.ok(Math.abs(first[0]![1] - Date.now() / 1000) < 60)
  await beside('run', '--rm', '--log-driver', 'fluentd', '--log-opt', address, '--log-opt', 'fluentd-request-ack=true', '--log-opt', 'fluentd-sub-second-precision=true', 'starter', 'echo', 'exact')
  const [, time, , option] = await until('a third', () => ([...decodeMulti(server.heard())] as [string, ExtData, object, { chunk: string }][])[2])
  assert.deepEqual([time instanceof ExtData, time.type, typeof option.chunk], [true, 0, 'string'])
  await beside('run', '--rm', '--log-driver', 'fluentd', '--log-opt', 'fluentd-address=127.0.0.1:1', '--log-opt', 'fluentd-async=true', '--log-opt', 'fluentd-max-retries=0', 'starter', 'echo', 'nobody')
})

test('a log server that goes away and comes back gets what was said meanwhile', async () => {
  const path = join(daemon.directory, 'away.sock')
  const first = await listen(path)
  await beside('run', '-d', '--name', 'patient', '--log-driver', 'syslog', '--log-opt', `syslog-address=unix://${path}`, 'starter', 'sh', '-c', 'i=0; while true; do i=$((i+1)); echo tick $i; sleep 0.2; done')
  await until('ticks', () => first.heard().toString().includes('tick 2\n'))
  await first[Symbol.asyncDispose]()
  await sleep(700)
  await using again = await listen(path)
  await until('later ticks', () => /tick (\d+)\n(?:.*\n)*.*tick/.test(again.heard().toString()))
  await daemon.stop('SIGKILL')
  await daemon.start()
  const before = again.heard().length
  await until('ticks for the next engine', () => again.heard().length > before + 100)
  ok('rm', '-f', 'patient')
})

test('the daemon has a default driver and options', async () => {
  await daemon.stop()
  const file = join(daemon.directory, 'daemon.json')
  writeFileSync(file, JSON.stringify({ 'log-driver': 'local', 'log-opts': { 'max-size': '1m' } }))
  await daemon.start({}, { flags: ['--config-file', file] })
  ok('run', '--name', 'plain', 'starter', 'echo', 'hi')
  ok('run', '--name', 'other', '--log-driver', 'json-file', 'starter', 'echo', 'hi')
  assert.equal(ok('inspect', '-f', '{{json .HostConfig.LogConfig}}', 'plain').trim(), '{"Type":"local","Config":{"max-size":"1m"}}')
  assert.equal(ok('inspect', '-f', '{{json .HostConfig.LogConfig}}', 'other').trim(), '{"Type":"json-file","Config":{}}')
  assert.equal(ok('logs', 'plain'), 'hi\n')
  assert.equal(ok('info', '-f', '{{.LoggingDriver}}').trim(), 'local')
  ok('rm', 'plain', 'other')
  await daemon.stop()
  await assert.rejects(daemon.start({}, { flags: ['--log-driver', 'nope'] }), /the daemon has ended/)
  await daemon.start()
})
