import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { GenericContainer, Network, Wait, type StartedTestContainer } from 'testcontainers'

// testcontainers' ordinary use, with what Debian has of PostgreSQL, Redis and nginx

const nginx = (): GenericContainer => new GenericContainer('services').withCommand(['nginx', '-g', 'daemon off;']).withExposedPorts(80)
const redis = (): GenericContainer => new GenericContainer('services').withCommand(['redis-server', '--bind', '0.0.0.0', '--protected-mode', 'no']).withExposedPorts(6379)
const postgres = (): GenericContainer => new GenericContainer('services').withUser('postgres').withExposedPorts(5432).withCommand(['bash', '-c', `
  bin=$(echo /usr/lib/postgresql/*/bin); export PATH=$bin:$PATH; initdb -D /tmp/db -A trust > /dev/null && echo "host all all all trust" >> /tmp/db/pg_hba.conf && exec postgres -D /tmp/db -k /tmp -c listen_addresses='*'`])

/** Sends a line to a container's port and returns the first answer. */
function ask(container: StartedTestContainer, port: number, line: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect(container.getMappedPort(port), container.getHost())
    socket.once('error', reject)
    socket.once('data', (data: Buffer) => {
      resolve(data.toString())
      socket.destroy()
    })
    socket.write(line, 'latin1')
  })
}

test('nginx: ports, copied content, HTTP wait strategy, restart', async () => {
  const container = await nginx().withCopyContentToContainer([{ content: '<p>hello</p>', target: '/var/www/html/hello.html' }]).withWaitStrategy(Wait.forHttp('/hello.html', 80).forStatusCode(200)).start()
  try {
    const get = async (): Promise<string> => (await fetch(`http://${container.getHost()}:${container.getMappedPort(80)}/hello.html`)).text()
    assert.equal(await get(), '<p>hello</p>')
    await container.restart()
    assert.equal(await get(), '<p>hello</p>')
  } finally {
    await container.stop()
  }
})

test('redis: port wait strategy, commands, logs as a stream, a network with an alias', async () => {
  const network = await new Network().start()
  const server = await redis().withNetwork(network).withNetworkAliases('cache').withWaitStrategy(Wait.forListeningPorts()).start()
  try {
    assert.equal(await ask(server, 6379, 'PING\r\n'), '+PONG\r\n')
    let said = ''
    const logs = await server.logs()
    logs.on('data', (data: Buffer) => (said += data.toString()))
    const client = await new GenericContainer('services').withNetwork(network).withCommand(['redis-cli', '-h', 'cache', 'set', 'key', 'value']).withWaitStrategy(Wait.forOneShotStartup()).start()
    assert.equal(await ask(server, 6379, 'GET key\r\n'), '$5\r\nvalue\r\n')
    assert.match(said, /Ready to accept connections/)
    await client.stop()
  } finally {
    await server.stop()
    await network.stop()
  }
})

test('postgres: log wait strategy, exec with output and exit code, files in and out', async () => {
  const container = await postgres().withWaitStrategy(Wait.forLogMessage(/database system is ready to accept connections/)).withStartupTimeout(60_000).start()
  const directory = mkdtempSync(join(tmpdir(), 'conformance-'))
  try {
    const made = await container.exec(['psql', '-h', '/tmp', '-c', 'create table t (n int); insert into t select generate_series(1, 100)'])
    assert.equal(made.exitCode, 0, made.output)
    const { output, exitCode } = await container.exec(['psql', '-h', '/tmp', '-Atc', 'select sum(n) from t'], { user: 'postgres', env: { PGCONNECT_TIMEOUT: '5' } })
    assert.deepEqual([output.trim(), exitCode], ['5050', 0])
    assert.notEqual((await container.exec(['psql', '-h', '/tmp', '-c', 'select nonsense'])).exitCode, 0)
    writeFileSync(join(directory, 'more.sql'), 'insert into t values (1000);')
    await container.copyFilesToContainer([{ source: join(directory, 'more.sql'), target: '/tmp/more.sql' }])
    assert.equal((await container.exec(['psql', '-h', '/tmp', '-f', '/tmp/more.sql'])).exitCode, 0)
    const archive = await container.copyArchiveFromContainer('/tmp/more.sql')
    let bytes = ''
    for await (const chunk of archive) bytes += chunk.toString()
    assert.match(bytes, /insert into t values \(1000\);/)
    // the server's own protocol, through the published port: a request for TLS, which it has not
    assert.equal(await ask(container, 5432, '\0\0\0\x08\x04\xd2\x16\x2f'), 'N')
  } finally {
    await container.stop()
    rmSync(directory, { recursive: true })
  }
})

test('health as a wait strategy; environment, labels, mounts, limits', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'conformance-'))
  writeFileSync(join(directory, 'file'), 'bound')
  const container = await nginx()
    .withHealthCheck({ test: ['CMD-SHELL', 'curl -fs localhost'], interval: 250, timeout: 2000, retries: 20 }).withWaitStrategy(Wait.forHealthCheck())
    .withEnvironment({ A: 'b' }).withLabels({ team: 'blue' }).withBindMounts([{ source: directory, target: '/bound', mode: 'ro' }]).withTmpFs({ '/scratch': 'rw' }).withResourcesQuota({ memory: 0.25, cpu: 1 }).start()
  try {
    const { output } = await container.exec(['sh', '-c', 'echo $A; cat /bound/file; echo; touch /bound/x 2>&1; df /scratch | tail -1'])
    assert.match(output, /^b\nbound\ntouch: .*Read-only file system\ntmpfs/)
  } finally {
    await container.stop()
    rmSync(directory, { recursive: true })
  }
})

test('a container is used again where that is asked', async () => {
  const first = await redis().withReuse().start()
  const second = await redis().withReuse().start()
  try {
    assert.equal(first.getId(), second.getId())
  } finally {
    await second.stop()
  }
})

test('what can not start says why', async () => {
  await assert.rejects(new GenericContainer('services').withCommand(['/nonexistent']).start(), /no such file or directory/)
  await assert.rejects(nginx().withWaitStrategy(Wait.forLogMessage('never')).withStartupTimeout(1000).start(), /not received after 1000ms/)
})
