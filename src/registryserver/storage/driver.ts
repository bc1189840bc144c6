/** The contract of what a registry keeps its files in: paths of `/`-separated names, relative and without `.` or `..`, lead
 * to contents. Directories are there as long as something is in them.
 *
 * `put` and `commit` are atomic and durable: whoever reads sees the old or the new content, whole, also after the power
 * has gone. What is appended is not durable before `commit`, but outlives the process where the driver can. Two may write
 * the same path; one of them is last. One at a time may append to a path: the caller sees to that.
 * Errors: `not-found` for reading, moving or appending to what is not there; `system` for a full disk and such. `remove` of
 * what is not there does nothing. */
export interface Storage {
  readonly name: string

  /** A small file's content, or undefined. */
  get(path: string): Promise<Buffer | undefined>

  /** Replaces a small file, or makes it. */
  put(path: string, data: Uint8Array): Promise<void>

  /** Length in bytes, and time of the last change in milliseconds; undefined where there is nothing. */
  stat(path: string): Promise<{ size: number, changed: number } | undefined>

  /** Says that a file is still wanted: its time of change is now. */
  touch(path: string): Promise<void>

  /** A file's bytes from `start` to before `end`. A piece is the reader's until it asks for the next. */
  read(path: string, start: number, end: number): AsyncIterable<Buffer>

  /** Goes on writing a file at its end, or makes it. */
  append(path: string): Promise<Appender>

  /** Gives what was appended its lasting path, durably; what had that goes. */
  commit(from: string, to: string): Promise<void>

  /** The names in a directory, sorted by their bytes; none for one that is not there. */
  list(path: string): Promise<string[]>

  /** Deletes a file, or a directory with all that is in it. */
  remove(path: string): Promise<void>

  close(): Promise<void>
}

export interface Appender {
  /** Bytes that are there. */
  readonly length: number
  /** Writes at the end. The data is the writer's again when that is done. */
  write(data: Uint8Array): Promise<void>
  /** Ends the writing; what was written stays. */
  close(): Promise<void>
}
