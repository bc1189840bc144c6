import { Writable, type Readable } from 'node:stream'

/** Where a command reads and writes. */
export interface Console {
  stdin: Readable & { isTTY?: boolean }
  stdout: Writable & { isTTY?: boolean, columns?: number, rows?: number }
  stderr: Writable & { isTTY?: boolean, columns?: number }
  /** False under NO_COLOR (no-color.org), and where stderr is no terminal. */
  color: boolean
  /** A line to stdout. */
  print(line: string): void
  /** A line to stderr. */
  complain(line: string): void
}

/** The process's own console. */
export function openConsole(env: NodeJS.ProcessEnv): Console {
  const { stdin, stdout, stderr } = process
  stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'EPIPE') process.exit(0) // `berth ps | head -1`
    throw error
  })
  return {
    stdin, stdout, stderr, color: Boolean(stderr.isTTY) && !env['NO_COLOR'] && env['TERM'] !== 'dumb',
    print: (line) => void stdout.write(`${line}\n`),
    complain: (line) => void stderr.write(`${line}\n`),
  }
}

/** Asks a yes-or-no question; anything but yes is no. */
export async function confirm(console: Console, question: string): Promise<boolean> {
  return /^y(es)?$/i.test((await ask(console, `${question} [y/N] `)).trim())
}

/** Asks for a line; what is typed of a secret is not shown. */
export async function ask({ stdin, stdout }: Console, question: string, secret = false): Promise<string> {
  stdout.write(question)
  const { createInterface } = await import('node:readline')
  // a terminal in raw mode shows nothing; what readline would show goes nowhere
  const lines = secret ? createInterface({ input: stdin, output: new Writable({ write: (_chunk, _encoding, done) => done() }), terminal: true }) : createInterface({ input: stdin })
  try {
    const { promise, resolve } = Promise.withResolvers<string>()
    lines.once('line', resolve)
    lines.once('close', () => resolve(''))
    const line = await promise
    if (secret) stdout.write('\n')
    return line
  } finally {
    lines.close()
  }
}
