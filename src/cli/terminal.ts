import type { Socket } from 'node:net'
import type { Ask, Client } from '../api/client.ts'
import { DetachKeys, parseDetachKeys } from '../api/detach.ts'
import { ExitError } from './command.ts'
import type { Console } from './console.ts'
import { onSignals } from './signals.ts'
import { copyOutput } from './streams.ts'

/** A connection to a process's streams. */
export interface Attached {
  /** Copies input and output until the output ends or the person detaches. A process with a terminal has this one for so
   * long; its size is told at `resizePath`. */
  pump(options: { console: Console, stdin: boolean, tty: boolean, detachKeys?: string | undefined, resizePath: string, redraw?: boolean }): Promise<'ended' | 'detached'>
  close(): void
}

/** Opens a hijacked connection: an attach's, or an exec's. */
export async function attachTo(client: Client, path: string, ask: Ask): Promise<Attached> {
  const { socket, head } = await client.hijack(path, ask)
  return {
    close: () => void socket.destroy(),
    async pump({ console, stdin, tty, detachKeys, resizePath, redraw = false }) {
      const restore = tty ? await useTerminal(client, console, resizePath, { raw: stdin, redraw }) : undefined
      const input = stdin ? pumpInput(console, socket, tty ? parseDetachKeys(detachKeys ?? null) : undefined) : undefined
      if (!stdin) socket.end()
      const output = copyOutput(socket, console, !tty, head).then(() => 'ended' as const)
      try {
        return await Promise.race([output, ...(input ? [input.detached] : [])])
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code === 'ECONNRESET') return 'ended'
        throw error
      } finally {
        input?.stop()
        socket.destroy()
        restore?.()
      }
    },
  }
}

function pumpInput({ stdin }: Console, socket: Socket, keys: Buffer | undefined): { detached: Promise<'detached'>, stop: () => void } {
  const detach = keys && new DetachKeys(keys)
  const { promise, resolve } = Promise.withResolvers<'detached'>()
  const data = (chunk: Buffer): void => {
    const { pass, detached } = detach ? detach.feed(chunk) : { pass: chunk, detached: false }
    if (pass.length && !socket.write(pass)) {
      stdin.pause()
      socket.once('drain', () => stdin.resume())
    }
    if (detached) resolve('detached')
  }
  const end = (): void => void socket.end()
  socket.on('error', () => {}) // the process closed its input: its output tells the rest
  stdin.on('data', data)
  stdin.once('end', end)
  return {
    detached: promise,
    stop() {
      stdin.off('data', data)
      stdin.off('end', end)
      stdin.pause()
    },
  }
}

/** Throws where a terminal is asked for and standard input is none. */
export function checkTerminal(console: Console, options: { stdin: boolean, tty: boolean }): void {
  if (options.stdin && options.tty && !console.stdin.isTTY) throw new ExitError(1, 'the input device is not a TTY')
}

/** The terminal's rows and columns; zeros where there is none. */
export function terminalSize({ stdout }: Console): [rows: number, columns: number] {
  return stdout.isTTY ? [stdout.rows ?? 0, stdout.columns ?? 0] : [0, 0]
}

/** Gives the terminal to a process: keys pass as they are, and its size follows. `redraw` makes a process that runs
 * already draw its screen again, by a size that changes. What it returns gives the terminal back. */
async function useTerminal(client: Client, console: Console, resizePath: string, options: { raw: boolean, redraw: boolean }): Promise<() => void> {
  let restore: (() => void) | undefined
  if (options.raw && console.stdin.isTTY) {
    const { makeRaw } = await import('../sys/terminal.ts')
    restore = makeRaw(0)
  }
  const resize = async (more = 0): Promise<void> => {
    const [h, w] = terminalSize(console)
    if (h && w) await client.json('POST', resizePath, { query: { h: h + more, w: w + more } }).catch(() => {}) // it has ended meanwhile, or not begun
  }
  if (options.redraw) await resize(1)
  await resize()
  const follow = (): void => void resize()
  console.stdout.on('resize', follow)
  return () => {
    console.stdout.off('resize', follow)
    restore?.()
  }
}

const forwarded = ['SIGHUP', 'SIGINT', 'SIGQUIT', 'SIGTERM', 'SIGUSR2', 'SIGCONT', 'SIGALRM'] as const

/** Sends the signals that arrive here on to a container's process. What it returns ends that. */
export function forwardSignals(client: Client, id: string): () => void {
  return onSignals(forwarded, (signal) => {
    client.json('POST', `/containers/${id}/kill`, { query: { signal } }).catch(() => {}) // it has ended meanwhile
  })
}
