import { spawn, type ChildProcess } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { constants, openSync, unlinkSync } from 'node:fs'
import { Socket } from 'node:net'
import { join } from 'node:path'
import { nativeProgram } from './build.ts'
import { EVENTS, Program } from './program.ts'
import { errnoError } from './errno.ts'
import { makeFifo } from './fs.ts'
import { system } from '../lib/errors.ts'

/** What a monitor tells of its program (struct record in native/berth.c). */
export type MonitorEvent =
  | { type: 'started', pid: number }
  | { type: 'failed', step: number, errno: number, candidate: number }
  | { type: 'exited', status: number }
  | { type: 'reached', value: number, detail: number }

const RECORD = 32

/** Splits the records out of a chunk of a monitor's events. */
export function* parseEvents(chunk: Buffer): Generator<MonitorEvent> {
  for (let at = 0; at + RECORD <= chunk.length; at += RECORD) {
    const step = chunk.readUInt32LE(at + 4)
    const value = Number(chunk.readBigInt64LE(at + 8))
    const detail = Number(chunk.readBigInt64LE(at + 16))
    switch (chunk.readUInt32LE(at)) {
      case 1: yield { type: 'started', pid: value }; break
      case 2: yield { type: 'failed', step, errno: value, candidate: detail }; break
      case 3: yield { type: 'exited', status: value }; break
      case 4: yield { type: 'reached', value, detail }; break
      default: throw new Error(`unknown monitor event ${chunk.readUInt32LE(at)}`)
    }
  }
}

/** A monitor's events, read from its FIFO: each is handed to `listener`; `gone` follows once the monitor has ended. */
export function listenToMonitor(fifo: string, listener: (event: MonitorEvent) => void, gone: () => void): Socket {
  const fd = openSync(fifo, constants.O_RDONLY | constants.O_NONBLOCK)
  const socket = new Socket({ fd, readable: true, writable: false })
  let rest: Buffer = Buffer.alloc(0)
  socket.on('data', (chunk: Buffer) => {
    rest = rest.length ? Buffer.concat([rest, chunk]) : chunk
    const whole = rest.length - (rest.length % RECORD)
    const records = rest.subarray(0, whole)
    rest = rest.subarray(whole)
    for (const event of parseEvents(records)) listener(event)
  })
  socket.on('error', () => socket.destroy()) // a FIFO reports no errors worth more than its end
  socket.on('close', gone)
  return socket
}

/** The long-lived process that forks monitors: starting one costs neither a fork of Node nor an exec. */
export class Zygote {
  readonly #process: ChildProcess
  #tokens = 0n
  #ended: Error | undefined

  private constructor(process: ChildProcess) {
    this.#process = process
    process.on('exit', (code, signal) => {
      this.#ended = system(`the zygote ended: ${signal ?? `status ${code}`}`)
    })
    process.on('error', (error) => {
      this.#ended = system("can't run the native program", error)
    })
    process.stdin!.on('error', (error) => {
      this.#ended ??= system('the zygote takes no more programs', error)
    })
    process.unref()
    for (const stream of [process.stdin, process.stdout]) (stream as Socket).unref()
  }

  /** Starts one. Its monitors, and so their programs, have the descriptors of `pass` as 3, 4, … It ends by itself once its standard input does, so also when this process is killed. */
  static start(options: { pass?: readonly number[] } = {}): Zygote {
    return new Zygote(spawn(nativeProgram(), [], { stdio: ['pipe', 'pipe', 'inherit', ...(options.pass ?? [])], env: {}, cwd: '/', detached: true }))
  }

  /** Sends a program, whose events go to `fifo` (made here, and left to the caller to remove). */
  run(program: Program, fifo: string, listener: (event: MonitorEvent) => void, gone: () => void): Socket {
    if (this.#ended) throw this.#ended
    makeFifo(fifo, 0o600)
    const socket = listenToMonitor(fifo, listener, gone)
    const bytes = program.encode(++this.#tokens)
    const frame = Buffer.allocUnsafe(4)
    frame.writeUInt32LE(bytes.length)
    this.#process.stdin!.write(Buffer.concat([frame, bytes]))
    return socket
  }

  /** Ends it. Its monitors live on. */
  stop(): void {
    this.#process.stdin!.end()
  }
}

/** Runs a program that has only the stage `pre`, to its end. Rejects with what failed. `directory` is where its FIFO is
 * meanwhile. Resolves with the values that it emitted. */
export async function runSteps(zygote: Zygote, directory: string, what: string, assemble: (program: Program) => void): Promise<{ value: number, detail: number }[]> {
  const program = new Program()
  const fifo = join(directory, `steps-${randomBytes(6).toString('hex')}`)
  openEvents(program, fifo)
  assemble(program)
  const reached: { value: number, detail: number }[] = []
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  const socket = zygote.run(program, fifo, (event) => {
    if (event.type === 'failed') reject(system(`${what}: ${program.describe(event.step, event.errno)}`, errnoError(event.errno, what)))
    else if (event.type === 'exited') resolve()
    else if (event.type === 'reached') reached.push({ value: event.value, detail: event.detail })
  }, () => reject(system(`${what}: the monitor was killed`)))
  try {
    await promise
    return reached
  } finally {
    socket.destroy()
    unlinkSync(fifo)
  }
}

/** Has a program's monitor open `fifo` for its events: must be its first step. Opened for reading too, so that events
 * wait in it while no daemon reads. */
export function openEvents(program: Program, fifo: string): void {
  program.sys('pre', 'openat', [-100, fifo, constants.O_RDWR | 0o2000000, 0], { out: EVENTS, doing: `open ${fifo}` })
}
