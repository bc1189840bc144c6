import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { connect, type Socket } from 'node:net'
import { after, before, test } from 'node:test'
import { TestDaemon, freePort } from './daemon.ts'

const daemon = new TestDaemon()
let port = 0
before(async () => {
  port = await freePort()
  await daemon.start({}, { flags: ['-H', `tcp://127.0.0.1:${port}`] })
  await daemon.importStarter()
})
after(() => daemon[Symbol.asyncDispose]())

async function create(body: object): Promise<string> {
  const { status, body: { Id }, text } = await daemon.call('POST', '/containers/create', { Image: 'starter', ...body })
  assert.equal(status, 201, text)
  return Id
}

/** A connection taken over from HTTP, as clients do that send no `Upgrade`. */
async function hijack(path: string, headers = ''): Promise<{ socket: Socket, head: string, output: Promise<Buffer> }> {
  const socket = connect({ path: daemon.socket, allowHalfOpen: true })
  socket.write(`POST ${path} HTTP/1.1\r\nHost: x\r\n${headers}Content-Length: 0\r\n\r\n`)
  let seen = Buffer.alloc(0)
  const chunks: Buffer[] = []
  const output = new Promise<Buffer>((resolve) => socket.once('close', () => resolve(Buffer.concat(chunks))))
  const head = await new Promise<string>((resolve, reject) => {
    socket.once('error', reject)
    socket.on('data', function headOf(data: Buffer) {
      seen = Buffer.concat([seen, data])
      const end = seen.indexOf('\r\n\r\n')
      if (end < 0) return
      socket.off('data', headOf)
      chunks.push(seen.subarray(end + 4))
      socket.on('data', (data: Buffer) => chunks.push(data))
      socket.once('end', () => socket.end())
      resolve(seen.toString('latin1', 0, end))
    })
  })
  return { socket, head, output }
}

/** The pieces of a multiplexed stream, joined by stream. */
function split(data: Buffer): { stdout: string, stderr: string } {
  const out = { stdout: '', stderr: '' }
  for (let at = 0; at < data.length;) {
    const length = data.readUInt32BE(at + 4)
    out[data[at] === 2 ? 'stderr' : 'stdout'] += data.toString('utf8', at + 8, at + 8 + length)
    at += 8 + length
  }
  return out
}

test('a client without Upgrade gets the raw connection, and can end its input', async () => {
  const id = await create({ Cmd: ['sh', '-c', 'cat; echo over >&2'], OpenStdin: true, StdinOnce: true, AttachStdin: true })
  const { socket, head, output } = await hijack(`/containers/${id}/attach?stream=1&stdin=1&stdout=1&stderr=1`)
  assert.match(head, /^HTTP\/1.1 200 OK\r\nContent-Type: application\/vnd.docker.(raw|multiplexed)-stream/)
  await daemon.call('POST', `/containers/${id}/start`)
  socket.end('typed')
  assert.deepEqual(split(await output), { stdout: 'typed', stderr: 'over\n' })
  await daemon.call('DELETE', `/containers/${id}?force=1`)
})

test('a client with Upgrade is told that the protocol changes', async () => {
  const id = await create({ Cmd: ['echo', 'hello'] })
  const { head, output } = await hijack(`/containers/${id}/attach?stream=1&stdout=1`, 'Connection: Upgrade\r\nUpgrade: tcp\r\n')
  assert.match(head, /^HTTP\/1.1 101 UPGRADED\r\n/)
  await daemon.call('POST', `/containers/${id}/start`)
  assert.deepEqual(split(await output), { stdout: 'hello\n', stderr: '' })
  await daemon.call('DELETE', `/containers/${id}`)
})

test('attached before the start, a client misses nothing', async () => {
  for (let i = 0; i < 40; i++) {
    const id = await create({ Cmd: ['sh', '-c', 'echo first; echo second >&2; echo third'] })
    const [one, two] = [await hijack(`/containers/${id}/attach?stream=1&stdout=1&stderr=1`), await hijack(`/containers/${id}/attach?stream=1&stdout=1`)]
    await daemon.call('POST', `/containers/${id}/start`)
    assert.deepEqual(split(await one.output), { stdout: 'first\nthird\n', stderr: 'second\n' })
    assert.deepEqual(split(await two.output), { stdout: 'first\nthird\n', stderr: '' })
    await daemon.call('DELETE', `/containers/${id}?force=1`)
  }
})

test('with the log before it, a stream has every line once', async () => {
  const id = await create({ Cmd: ['sh', '-c', 'i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done; read x'], OpenStdin: true })
  await daemon.call('POST', `/containers/${id}/start`)
  const clients = []
  for (let i = 0; i < 5; i++) clients.push(await hijack(`/containers/${id}/attach?stream=1&logs=1&stdout=1&stderr=1`))
  const input = await hijack(`/containers/${id}/attach?stream=1&stdin=1`)
  for (let tries = 0; tries < 200 && !(await daemon.call('GET', `/containers/${id}/logs?stdout=1&tail=1`)).text.includes('line 2999'); tries++) await new Promise((resolve) => setTimeout(resolve, 20))
  input.socket.write('\n')
  const expected = Array.from({ length: 3000 }, (_line, i) => `line ${i}\n`).join('')
  for (const { output } of clients) assert.equal(split(await output).stdout, expected)
  await daemon.call('DELETE', `/containers/${id}?force=1`)
})

test('two attached clients get a large output whole', async () => {
  const id = await create({ Cmd: ['sh', '-c', 'head -c 30000000 /dev/zero'] })
  const [one, two] = [await hijack(`/containers/${id}/attach?stream=1&stdout=1`), await hijack(`/containers/${id}/attach?stream=1&stdout=1`)]
  await daemon.call('POST', `/containers/${id}/start`)
  const hash = (text: string): string => createHash('sha256').update(text).digest('hex')
  const expected = hash('\0'.repeat(30_000_000))
  assert.equal(hash(split(await one.output).stdout), expected)
  assert.equal(hash(split(await two.output).stdout), expected)
  await daemon.call('DELETE', `/containers/${id}?force=1`)
})

test('detach keys end a connection, and leave the process', async () => {
  const id = await create({ Cmd: ['sh', '-c', 'read a; echo got $a; sleep 1000'], Tty: true, OpenStdin: true })
  await daemon.call('POST', `/containers/${id}/start`)
  const { socket, output } = await hijack(`/containers/${id}/attach?stream=1&stdin=1&stdout=1&detachKeys=ctrl-a,b`)
  socket.write('text\r')
  socket.write('\x01')
  socket.write('b')
  await output
  assert.equal((await daemon.call('GET', `/containers/${id}/json`)).body.State.Running, true)
  const refused = await daemon.call('POST', `/containers/${id}/attach?stream=1&detachKeys=nope-x`)
  assert.equal(refused.status, 400)
  await daemon.call('DELETE', `/containers/${id}?force=1`)
})

test('a WebSocket carries input and output in messages', async () => {
  const id = await create({ Cmd: ['sh', '-c', 'read a; echo got $a; echo wrong >&2; cat'], OpenStdin: true, StdinOnce: true })
  await daemon.call('POST', `/containers/${id}/start`)
  const socket = new WebSocket(`ws://127.0.0.1:${port}/v1.41/containers/${id}/attach/ws?stream=1&stdin=1&stdout=1&stderr=1`)
  socket.binaryType = 'arraybuffer'
  let seen = ''
  const closed = new Promise<number>((resolve) => socket.addEventListener('close', ({ code }) => resolve(code)))
  await new Promise((resolve) => socket.addEventListener('open', resolve))
  const large = 'x'.repeat(100_000)
  socket.addEventListener('message', ({ data }) => {
    seen += Buffer.from(data as ArrayBuffer).toString()
    if (seen.includes('wrong') && !seen.includes('x')) socket.send(Buffer.from(large))
    if (seen.length > 100_000) socket.close()
  })
  socket.send('words\n')
  assert.equal(await closed, 1005)
  assert.equal(seen.replace(/x+/, ''), 'got words\nwrong\n')
  assert.equal(seen.match(/x+/)![0].length, large.length)
  assert.equal((await daemon.call('POST', `/containers/${id}/wait`)).body.StatusCode, 0)
  assert.equal((await daemon.call('GET', `/containers/${id}/attach/ws?stream=1`)).status, 400)
  await daemon.call('DELETE', `/containers/${id}`)
})
