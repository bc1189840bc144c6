import { join } from 'node:path'
import { STREAM, encodeFrame } from '../api/frames.ts'
import { unsupported } from '../lib/errors.ts'
import type { LogDriver, LogEntry, LogQuery } from '../logdriver/driver.ts'
import type { Container } from './container.ts'
import { containerDirectory, type ContainerDeps } from './deps.ts'

/** The path of a json-file log. */
export function logPathOf(deps: Pick<ContainerDeps, 'dataRoot'>, id: string): string {
  return join(containerDirectory(deps, id), `${id}-json.log`)
}

function openLogOf(deps: ContainerDeps, { id, record }: Container): LogDriver {
  return deps.openLog(record.host.LogConfig.Type, logPathOf(deps, id), record.host.LogConfig.Config)
}

/** Opens a container's log and writes there what its process says. */
export function openContainerLog(deps: ContainerDeps, container: Container): void {
  const log = openLogOf(deps, container)
  container.log = log
  container.output.add({
    write: (stream, data) => {
      if (container.log !== log) return true
      try {
        log.write(stream, data)
      } catch (error) {
        deps.warn(`can't write the log of container ${container.id}`, error) // a full disk must not stop the container
      }
      return true
    },
    drained: () => {},
    end: () => {},
  })
}

/** A container's log, also of one that does not run. */
export function readLog(deps: ContainerDeps, container: Container, query: LogQuery): AsyncIterable<LogEntry> {
  const log = container.log ?? openLogOf(deps, container)
  if (!log.read) throw unsupported('configured logging driver does not support reading')
  return log.read({ ...query, follow: query.follow && container.log !== undefined })
}

/** How entries look on the wire: `raw` without frame headers, with their times, with what the log options added. */
export function encodeEntry(entry: LogEntry, options: { raw: boolean, timestamps?: boolean, details?: boolean }): Buffer {
  const line = Buffer.from((options.timestamps ? `${entry.time} ` : '') + (options.details ? detailsOf(entry) : '') + entry.line)
  return options.raw ? line : encodeFrame(STREAM[entry.stream], line)
}

function detailsOf({ attributes = {} }: LogEntry): string {
  const text = Object.entries(attributes).map(([name, value]) => `${encodeURIComponent(name)}=${encodeURIComponent(value)}`).join(',')
  return text ? `${text} ` : ''
}
