import { createWriteStream } from 'node:fs'
import { rename, rm } from 'node:fs/promises'
import { pipeline } from 'node:stream/promises'
import type { Readable, Writable } from 'node:stream'
import { FrameParser, STREAM } from '../api/frames.ts'
import { ExitError } from './command.ts'
import { writeAll } from '../lib/streams.ts'
import type { Console } from './console.ts'

/** Copies a container's output to the console until it ends; a multiplexed one is taken apart. */
export async function copyOutput(from: Readable, console: Console, multiplexed: boolean, begin: Uint8Array = Buffer.alloc(0)): Promise<void> {
  const pieces: [Writable, Buffer][] = []
  const frames = new FrameParser((stream, data) => pieces.push([stream === STREAM.stdout ? console.stdout : console.stderr, data]))
  const take = async (chunk: Buffer): Promise<void> => {
    if (!multiplexed) return await writeAll(console.stdout, chunk)
    frames.write(chunk)
    for (const [to, data] of pieces.splice(0)) await writeAll(to, data)
  }
  if (begin.length) await take(Buffer.from(begin))
  for await (const chunk of from) await take(chunk as Buffer)
}

/** Writes a download to a file, or to stdout where none is named. The file is there only once it is whole. */
export async function toFile(console: Console, path: string, open: () => Promise<Readable>): Promise<void> {
  if (!path) {
    if (console.stdout.isTTY) throw new ExitError(1, 'cowardly refusing to save to a terminal. Use the -o flag or redirect')
    return await pipeline(await open(), console.stdout, { end: false })
  }
  const from = await open()
  const temporary = `${path}.${process.pid}.tmp`
  try {
    await pipeline(from, createWriteStream(temporary, { mode: 0o600 }))
    await rename(temporary, path)
  } catch (error) {
    await rm(temporary, { force: true })
    throw error
  }
}
