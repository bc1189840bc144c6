import { setImmediate as immediate } from 'node:timers/promises'
import { FRAME_HEAD, STREAM, writeFrameHead } from '../api/frames.ts'
import { messageOf, system, unsupported } from '../lib/errors.ts'
import type { LogDriver, LogEntry, LogInfo, LogQuery } from '../logdriver/driver.ts'
import type { Container } from './container.ts'
import { containerDirectory, type ContainerDeps } from './deps.ts'
import type { ContainerRecord } from './record.ts'

/** What a container's log is told of it. */
function logInfoOf(deps: Pick<ContainerDeps, 'dataRoot'>, { id, name, image, config, path, args, created }: ContainerRecord): LogInfo {
  return { id, name, imageId: image, imageName: config.Image, command: [path, ...args].join(' '), created, labels: config.Labels, env: config.Env, directory: containerDirectory(deps, id) }
}

/** Makes a container's log; nothing is opened yet. */
export function logOf(deps: Pick<ContainerDeps, 'dataRoot' | 'openLog'>, record: ContainerRecord): LogDriver {
  return deps.openLog(record.host.LogConfig.Type, logInfoOf(deps, record), record.host.LogConfig.Config)
}

/** Opens a container's log and writes there what its process says. `running`: the process is there already, and a log
 * server that is away must not end it. */
export async function openContainerLog(deps: ContainerDeps, container: Container, { running = false }: { running?: boolean } = {}): Promise<void> {
  const log = logOf(deps, container.record)
  try {
    await log.open?.()
  } catch (error) {
    if (!running) throw system(`failed to create task for container: failed to initialize logging driver: ${messageOf(error)}`, error)
    deps.warn(`the log of container ${container.id} is not there yet`, error)
  }
  container.log = log
  let failing = false
  container.output.add({
    write: (stream, data) => {
      if (container.log !== log) return true
      try {
        const room = log.write(stream, data)
        failing = false
        return room
      } catch (error) {
        // a full disk must not stop the container, and is told of once
        if (!failing) deps.warn(`can't write the log of container ${container.id}`, error)
        failing = true
      }
      return true
    },
    drained: (then) => log.drained(then),
    end: () => {},
  })
}

/** A container's log, also of one that does not run. */
export function readLog(deps: ContainerDeps, container: Container, query: LogQuery): AsyncIterable<LogEntry[]> {
  const log = container.log ?? logOf(deps, container.record)
  if (!log.read) throw unsupported('configured logging driver does not support reading')
  return inTurns(log.read({ ...query, follow: query.follow && container.log !== undefined }))
}

/** Other requests come between the parts of a long log. */
async function* inTurns(batches: AsyncIterable<LogEntry[]>): AsyncGenerator<LogEntry[]> {
  for await (const batch of batches) {
    yield batch
    await immediate()
  }
}

/** How entries look on the wire: `raw` without frame headers, with their times, with what the log options added. */
export function encodeEntries(entries: readonly LogEntry[], options: { raw: boolean, timestamps?: boolean, details?: boolean }): Buffer {
  const lines = entries.map((entry) => (options.timestamps ? `${entry.time} ` : '') + (options.details ? detailsOf(entry) : '') + entry.line)
  if (options.raw) return Buffer.from(lines.join(''))
  const lengths = lines.map((line) => Buffer.byteLength(line))
  const bytes = Buffer.allocUnsafe(lengths.reduce((sum, length) => sum + FRAME_HEAD + length, 0))
  let at = 0
  entries.forEach(({ stream }, index) => {
    at = writeFrameHead(bytes, at, STREAM[stream], lengths[index]!)
    at += bytes.write(lines[index]!, at)
  })
  return bytes
}

function detailsOf({ attributes = {} }: LogEntry): string {
  const text = Object.entries(attributes).toSorted(([a], [b]) => (a < b ? -1 : 1)).map(([name, value]) => `${encodeURIComponent(name)}=${encodeURIComponent(value)}`).join(',')
  return `${text} `
}
