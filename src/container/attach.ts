import type { Duplex } from 'node:stream'
import { conflict } from '../lib/errors.ts'
import { writeAll } from '../lib/streams.ts'
import type { Container } from './container.ts'
import type { ContainerDeps } from './deps.ts'
import { connectionSink } from './hub.ts'
import { encodeEntries, readLog } from './logs.ts'
import { pumpInput } from './stdin.ts'

export interface AttachOptions { stdin: boolean, stdout: boolean, stderr: boolean, stream: boolean, logs: boolean, detachKeys: Buffer, /** Output without frame headers, also without a terminal. */ raw: boolean }

/** Refuses to attach to a container that can't be. */
export function checkAttachable(container: Container): void {
  if (container.record.state.status === 'paused') throw conflict(`container ${container.id} is paused, unpause the container before attach`)
  if (container.record.state.status === 'restarting') throw conflict(`container ${container.id} is restarting, wait until the container is running`)
}

/** Connects a client to a container's streams until the process ends, the client goes, or it detaches. */
export async function attach(deps: ContainerDeps, container: Container, connection: Duplex, options: AttachOptions): Promise<void> {
  connection.on('error', () => connection.destroy()) // a client that goes is no error of ours
  const { Tty, OpenStdin, StdinOnce } = container.record.config
  const stdin = options.stdin && OpenStdin
  const raw = Tty || options.raw
  if (options.logs) {
    const gone = new AbortController()
    connection.once('close', () => gone.abort())
    for await (const batch of readLog(deps, container, { follow: false, signal: gone.signal }))
      await writeAll(connection, encodeEntries(batch.filter(({ stream }) => options[stream]), { raw }))
  }
  if (!options.stream) return void connection.end()
  // nothing can come between the log's end and this: output arrives by events
  const remove = container.output.add(connectionSink(connection, { raw, stdout: options.stdout, stderr: options.stderr }))
  const gone = new Promise<void>((resolve) => connection.once('close', resolve))
  if (stdin) {
    const how = await Promise.race([pumpInput(connection, container.stdin, Tty ? options.detachKeys : undefined), gone.then(() => 'gone' as const)])
    if (how === 'detached') {
      remove()
      return void connection.end()
    }
    if (StdinOnce && !Tty) await container.stdin.end()
  } else connection.resume()
  await gone
  remove()
}
