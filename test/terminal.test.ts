import assert from 'node:assert/strict'
import { spawn, type ChildProcess } from 'node:child_process'
import { closeSync, constants, openSync } from 'node:fs'
import { after, before, test } from 'node:test'
import { ReadStream } from 'node:tty'
import { must } from '../src/sys/ffi.ts'
import { nr } from '../src/sys/syscalls.ts'
import { TIOCGPTPEER, TIOCSPTLCK, setWindowSize } from '../src/sys/terminal.ts'
import { TestDaemon } from './daemon.ts'

const daemon = new TestDaemon()
before(async () => {
  await daemon.start()
  await daemon.importStarter()
})
after(() => daemon[Symbol.asyncDispose]())

/** A person at a terminal: types, reads, resizes the window. */
class Terminal implements Disposable {
  readonly #master: number
  readonly #stream: ReadStream
  readonly #child: ChildProcess
  readonly ended: Promise<number | null>
  #seen = ''
  #wake: () => void = () => {}

  constructor(args: readonly string[]) {
    const flags = constants.O_RDWR | constants.O_NOCTTY
    this.#master = openSync('/dev/ptmx', flags)
    must('unlock the terminal', nr('ioctl'), this.#master, TIOCSPTLCK, Buffer.alloc(4))
    const slave = must('open the terminal', nr('ioctl'), this.#master, TIOCGPTPEER, flags)
    setWindowSize(this.#master, 30, 100)
    const berth = new URL('../bin/berth', import.meta.url).pathname
    this.#child = spawn('setsid', ['-c', berth, ...args], { stdio: [slave, slave, slave], env: { ...process.env, DOCKER_HOST: `unix://${daemon.socket}`, DOCKER_CONFIG: daemon.directory } })
    this.ended = new Promise((resolve) => this.#child.once('exit', resolve))
    closeSync(slave)
    this.#stream = new ReadStream(this.#master)
    this.#stream.on('error', () => {}) // EIO, once nobody has the other side
    this.#stream.on('data', (data: Buffer) => {
      this.#seen += data.toString()
      this.#wake()
    })
  }

  type(text: string): void {
    this.#stream.write(text)
  }

  resize(rows: number, columns: number): void {
    setWindowSize(this.#master, rows, columns)
  }

  /** Resolves once the screen shows something that has not been waited for. */
  async shows(what: RegExp): Promise<void> {
    const deadline = Date.now() + 20_000
    for (let match = what.exec(this.#seen); ; match = what.exec(this.#seen)) {
      if (match) {
        this.#seen = this.#seen.slice(match.index + match[0].length)
        return
      }
      assert.ok(Date.now() < deadline, `the terminal never showed ${what}: ${JSON.stringify(this.#seen)}`)
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, 1000)
        this.#wake = () => {
          clearTimeout(timer)
          resolve()
        }
      })
    }
  }

  [Symbol.dispose](): void {
    this.#child.kill('SIGKILL')
    this.#stream.destroy()
  }
}

// no line editor: busybox's asks the terminal where the cursor is
const SHELL = ['starter', 'sh', '-c', 'while read line; do eval "$line"; done']

test('run -it passes keys, size and resizes, and ends as the process does', async () => {
  using terminal = new Terminal(['run', '--rm', '-it', ...SHELL])
  terminal.type('stty size\n')
  await terminal.shows(/30 100\r\n/)
  terminal.resize(40, 120)
  terminal.type('while [ "$(stty size)" != "40 120" ]; do sleep 0.02; done; echo resized\n')
  await terminal.shows(/^resized\r\n/m)
  terminal.type('tty; exit 6\n')
  await terminal.shows(/\/dev\/(pts\/0|console)\r\n/)
  assert.equal(await terminal.ended, 6)
})

test('Ctrl-C reaches the process and not the client', async () => {
  using terminal = new Terminal(['run', '--rm', '-it', 'starter', 'sh', '-c', 'trap "echo caught; exit 9" INT; echo ready; while :; do sleep 0.05; done'])
  await terminal.shows(/ready/)
  terminal.type('\x03')
  await terminal.shows(/caught/)
  assert.equal(await terminal.ended, 9)
})

test('Ctrl-P Ctrl-Q leaves the process alone, and attach, start -ai and exec -it come back to it', async () => {
  using first = new Terminal(['run', '-it', '--name', 'desk', ...SHELL])
  first.type('echo one $((1+1))\n')
  await first.shows(/one 2\r\n/)
  first.type('\x10\x11')
  assert.equal(await first.ended, 0)
  assert.equal(daemon.cli(['inspect', '-f', '{{.State.Running}}', 'desk']).out, 'true\n')

  using second = new Terminal(['attach', '--detach-keys', 'ctrl-x,x', 'desk'])
  second.type('echo two $((1+1))\n')
  await second.shows(/two 2\r\n/)
  second.type('\x18x')
  assert.notEqual(await second.ended, null)

  using exec = new Terminal(['exec', '-it', 'desk', 'sh', '-c', 'read word; echo $word $(stty size); exit 3'])
  exec.type('three\n')
  await exec.shows(/three 30 100\r\n/)
  assert.equal(await exec.ended, 3)

  using third = new Terminal(['attach', 'desk'])
  third.type('exit 4\n')
  assert.equal(await third.ended, 4)
  using fourth = new Terminal(['start', '-ai', 'desk'])
  fourth.type('echo four $((2+2)); exit 5\n')
  await fourth.shows(/four 4\r\n/)
  assert.equal(await fourth.ended, 5)
  daemon.cli(['rm', 'desk'])
})

test('a process with a terminal that takes no input gets none', async () => {
  using terminal = new Terminal(['run', '--rm', '-t', 'starter', 'sh', '-c', 'stty size; echo done'])
  await terminal.shows(/30 100\r+\ndone/)
  assert.equal(await terminal.ended, 0)
})
