import * as v from 'valibot'
import { invalid } from '../lib/errors.ts'

/** The pieces that bodies of requests are made of. Go's clients send null for what is empty. */

/** No path, name or argument of a system call has a NUL in it. */
export const string = v.pipe(v.string(), v.check((value) => !value.includes('\0'), 'a NUL byte in a string'))
export const text = v.nullish(string, '')
export const flag = v.nullish(v.boolean(), false)
export const integer = v.pipe(v.number(), v.integer())
export const whole = v.nullish(integer, 0)
export const list = v.nullish(v.array(string), [])
export const map = v.nullish(v.record(string, string), {})

/** Reads a body by its schema: unknown keys are left out, as Docker does; a known key of the wrong type is refused by its
 * name. Throws `invalid`. */
export function parseBody<Schema extends v.GenericSchema>(schema: Schema, body: unknown): v.InferOutput<Schema> {
  if (body === undefined || body === null) throw invalid('invalid JSON: got EOF while reading request body')
  const result = v.safeParse(schema, body, { abortEarly: true })
  if (result.success) return result.output
  const issue = result.issues[0]
  const where = v.getDotPath(issue)
  throw invalid(`invalid JSON: cannot read ${where ? `field ${where}` : 'the body'}: ${issue.message}`)
}
