import { invalid } from '../lib/errors.ts'

/** Ctrl-P Ctrl-Q. */
export const defaultDetachKeys = Buffer.from([16, 17])

/** Reads detach keys as people write them: `ctrl-p,ctrl-q`, `ctrl-@,a`. */
export function parseDetachKeys(text: string | null): Buffer {
  if (text === null || text === '') return defaultDetachKeys
  return Buffer.from(text.split(',').map((key) => {
    if (key.length === 1) return key.charCodeAt(0)
    const match = /^ctrl-([a-z@[\\\]^_])$/i.exec(key)
    if (!match) throw invalid(`Invalid detach keys (${text}) provided: unknown key ${JSON.stringify(key)}`)
    return match[1]!.toUpperCase().charCodeAt(0) & 0x1f
  }))
}

/** Finds the key sequence that detaches a client in what it types. Keys that begin a sequence and do not end it are
 * passed on. */
export class DetachKeys {
  readonly #keys: Buffer
  #matched = 0

  constructor(keys: Buffer) {
    this.#keys = keys
  }

  /** What is to be passed on of the data, and whether the sequence was complete. */
  feed(data: Buffer): { pass: Buffer, detached: boolean } {
    if (this.#keys.length === 0) return { pass: data, detached: false }
    const pass: number[] = []
    for (const byte of data) {
      if (byte === this.#keys[this.#matched]) {
        if (++this.#matched === this.#keys.length) return { pass: Buffer.from(pass), detached: true }
        continue
      }
      pass.push(...this.#keys.subarray(0, this.#matched))
      this.#matched = byte === this.#keys[0] ? 1 : 0
      if (!this.#matched) pass.push(byte)
    }
    return { pass: Buffer.from(pass), detached: false }
  }
}
