export type Stream = 'stdout' | 'stderr'

/** What a log is told of its container. */
export interface LogInfo {
  id: string
  /** Without a slash. */
  name: string
  imageId: string
  imageName: string
  command: string
  created: string
  labels: Readonly<Record<string, string>>
  /** `NAME=VALUE`. */
  env: readonly string[]
  /** The container's own, for drivers that keep files. */
  directory: string
}

/** The contract of a log driver: one instance a container. To make one touches nothing; `open` does, and is awaited before
 * the first `write`. `write` takes output as it comes, in pieces of any size; false asks to wait until `drained` calls back.
 * `close` ends the last line. Reading is an optional ability. */
export interface LogDriver {
  readonly name: string
  open?(): Promise<void>
  write(stream: Stream, data: Buffer): boolean
  drained(then: () => void): void
  close(): void
  /** Where the log is, for `docker inspect`. */
  readonly path?: string
  /** The entries, as many at once as are there, up to some hundreds; none where many were passed over. */
  read?(options: LogQuery): AsyncIterable<LogEntry[]>
}

/** Which entries: the last `tail` of them, those in [since, until] (milliseconds since 1970), and with `follow` those to
 * come until the log is closed or the signal aborts. */
export interface LogQuery {
  tail?: number
  since?: number
  until?: number
  follow: boolean
  signal: AbortSignal
}

/** A line, or a part of one longer than 16 KiB, with its newline if it had one. */
export interface LogEntry { stream: Stream, time: string, line: string, attributes?: Record<string, string> }
