import type { Duplex } from 'node:stream'
import { conflict } from '../lib/errors.ts'
import { STREAM, encodeFrame } from '../api/frames.ts'
import type { Container } from './container.ts'
import { connectionSink } from './hub.ts'
import { pumpInput } from './stdin.ts'

export interface AttachOptions { stdin: boolean, stdout: boolean, stderr: boolean, stream: boolean, logs: boolean, detachKeys: Buffer }

/** Refuses to attach to a container that can't be. */
export function checkAttachable(container: Container): void {
  if (container.record.state.status === 'paused') throw conflict(`container ${container.id} is paused, unpause the container before attach`)
  if (container.record.state.status === 'restarting') throw conflict(`container ${container.id} is restarting, wait until the container is running`)
}

/** Connects a client to a container's streams until the process ends, the client goes, or it detaches. */
export async function attach(container: Container, connection: Duplex, options: AttachOptions): Promise<void> {
  connection.on('error', () => connection.destroy()) // a client that goes is no error of ours
  const { Tty, OpenStdin, StdinOnce } = container.record.config
  const stdin = options.stdin && OpenStdin
  const remove = options.stream ? container.output.add(connectionSink(connection, { raw: Tty, stdout: options.stdout, stderr: options.stderr })) : undefined
  if (options.logs && container.log?.read) {
    const never = new AbortController()
    for await (const { stream, line } of container.log.read({ follow: false, signal: never.signal }))
      if (options[stream]) connection.write(Tty ? line : encodeFrame(STREAM[stream], Buffer.from(line)))
  }
  if (!options.stream) return void connection.end()
  const gone = new Promise<void>((resolve) => connection.once('close', resolve))
  if (stdin) {
    const how = await Promise.race([pumpInput(connection, container.stdin, Tty ? options.detachKeys : undefined), gone.then(() => 'gone' as const)])
    if (how === 'detached') {
      remove!()
      return void connection.end()
    }
    if (StdinOnce && !Tty) await container.stdin.end()
  } else connection.resume()
  await gone
  remove!()
}
