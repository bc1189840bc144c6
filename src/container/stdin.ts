import type { Duplex, Writable } from 'node:stream'
import { DetachKeys } from '../api/detach.ts'
import { writeAll } from '../lib/streams.ts'

/** Where attached clients' input goes: to the process once there is one. Until then it waits in the clients. */
export class Stdin {
  #target: Writable | undefined
  #close: (() => void) | undefined
  #waiting: (() => void)[] = []
  #ended = false

  /** Connects the process's input; `close` makes it see the end. */
  open(target: Writable | undefined, close: () => void): void {
    this.#target = target
    this.#close = close
    this.#ended = false
    target?.on('error', () => this.disconnect()) // the process has closed its input
    for (const wake of this.#waiting.splice(0)) wake()
  }

  /** The process is gone, or reads no more: what is written is dropped. */
  disconnect(): void {
    this.#target?.destroy()
    this.#target = undefined
    this.#close = undefined
    for (const wake of this.#waiting.splice(0)) wake()
  }

  /** Passes a piece on. Resolves when there is room for more. */
  async write(data: Buffer): Promise<void> {
    if (!this.#close) await this.#ready()
    const target = this.#target
    if (target && !this.#ended) await writeAll(target, data)
  }

  /** Makes the process see the end of its input, after all that was written. */
  async end(): Promise<void> {
    if (!this.#close) await this.#ready()
    if (this.#ended || !this.#close) return
    this.#ended = true
    const [target, close] = [this.#target, this.#close]
    if (!target) return close()
    target.once('close', close)
    target.end()
  }

  #ready(): Promise<void> {
    return new Promise((resolve) => this.#waiting.push(resolve))
  }
}

/** Copies a client's input to the process until it ends, fails, or is detached by keys. */
export async function pumpInput(connection: Duplex, stdin: Stdin, keys: Buffer | undefined): Promise<'ended' | 'detached'> {
  const detach = keys && new DetachKeys(keys)
  const { promise, resolve } = Promise.withResolvers<'ended' | 'detached'>()
  let writing = Promise.resolve()
  connection.on('data', (data: Buffer) => {
    const { pass, detached } = detach ? detach.feed(data) : { pass: data, detached: false }
    connection.pause()
    writing = writing.then(async () => {
      if (pass.length) await stdin.write(pass)
      if (detached) resolve('detached')
      else connection.resume()
    })
  })
  const over = (): void => void writing.then(() => resolve('ended'))
  connection.once('end', over)
  connection.once('close', over)
  return await promise
}
