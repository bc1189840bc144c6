/** The contract of a log driver: one instance a container. `write` takes output as it comes, in pieces of any size; it
 * may not wait. `close` ends the last line. Reading is an optional ability. */
export interface LogDriver {
  readonly name: string
  write(stream: 'stdout' | 'stderr', data: Buffer): void
  close(): void
  /** Where the log is, for `docker inspect`. */
  readonly path?: string
  read?(options: LogQuery): AsyncIterable<LogEntry>
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
export interface LogEntry { stream: 'stdout' | 'stderr', time: string, line: string, attributes?: Record<string, string> }
