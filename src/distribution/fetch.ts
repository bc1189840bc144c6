import type { IncomingMessage } from 'node:http'
import { BerthError, invalid, isKind, messageOf, unavailable } from '../lib/errors.ts'
import { Passing } from '../lib/garbage.ts'
import { withoutFirst } from '../lib/streams.ts'
import type { Ingest } from '../layer/ingest.ts'
import type { Descriptor } from '../manifest/manifest.ts'
import type { Repository } from '../registry/repository.ts'
import { retry } from '../registry/retry.ts'

export interface FetchOptions {
  signal: AbortSignal
  attempts: number
  /** Told how many bytes are there. */
  received: (bytes: number) => void
  /** Told before the next try, and how many milliseconds it is until then. */
  waiting: (milliseconds: number) => void
}

/** Fetches a blob into a file that grows, from the first of the repositories that has it: from where an earlier try broke
 * off, and again after each break, until size and digest are those of the descriptor. */
export async function fetchBlob(descriptor: Descriptor, from: readonly Repository[], into: Ingest, options: FetchOptions): Promise<void> {
  const sources = [...from.map((repository) => (offset: number) => repository.blob(descriptor.digest, offset, options.signal)), ...(descriptor.urls ?? []).map((url) => (offset: number) => from.at(-1)!.foreign(url, offset, options.signal))]
  let restarted = false
  for (;;) {
    options.received(into.length)
    await fetchFromAny(descriptor, sources, into, options)
    if (into.digest() === descriptor.digest) return
    const wrong = into.digest()
    await into.reset()
    // what was kept of an earlier try may have been wrong; what came just now may have been spoilt on its way, once
    if (restarted) throw invalid(`filesystem layer verification failed for digest ${descriptor.digest}: the registry sent ${wrong}`)
    restarted = true
  }
}

const passing = new Passing()

type Source = (offset: number) => Promise<{ stream: IncomingMessage, from: number }>

async function fetchFromAny(descriptor: Descriptor, sources: readonly Source[], into: Ingest, options: FetchOptions): Promise<void> {
  for (const [at, source] of sources.entries()) {
    try {
      return await retry(() => fetchOnce(descriptor, source, into, options), { attempts: options.attempts, signal: options.signal, waiting: options.waiting, progress: () => into.length })
    } catch (error) {
      // a mirror that has not got it, or breaks, is no reason to give up
      if (at === sources.length - 1 || options.signal.aborted || !isKind(error)) throw error
    }
  }
}

async function fetchOnce({ digest, size }: Descriptor, source: Source, into: Ingest, { signal, received }: FetchOptions): Promise<void> {
  if (into.length > size) await into.reset()
  if (into.length === size) return
  const { stream, from } = await source(into.length)
  if (from > into.length) {
    stream.destroy()
    throw new BerthError('system', `the registry sends ${digest} from byte ${from} on, when it was asked for byte ${into.length}`)
  }
  try {
    // a server that does not know ranges begins at the beginning again
    for await (const data of withoutFirst(stream, into.length - from)) {
      if (into.length + data.length > size) throw invalid(`the registry sends more than the ${size} bytes that ${digest} has`)
      await into.append(data)
      passing.pass(data.length)
      received(into.length)
    }
  } catch (error) {
    stream.destroy()
    if (signal.aborted) throw signal.reason
    if (error instanceof BerthError) throw error
    const { code, syscall } = error as NodeJS.ErrnoException
    if (syscall === 'write') throw new BerthError('system', `write ${into.path}: ${code === 'ENOSPC' ? 'no space left on device' : messageOf(error)}`, { cause: error })
    throw unavailable(`the connection broke after ${into.length} of ${size} bytes of ${digest}: ${messageOf(error)}`, error)
  }
  if (into.length < size) throw unavailable(`the registry ended after ${into.length} of ${size} bytes of ${digest}: unexpected EOF`)
}
