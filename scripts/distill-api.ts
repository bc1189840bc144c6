/** Writes test/engine-api.json: the names and types of the answers that test/api.test.ts checks, taken from a definition of
 * the Engine API. `node scripts/distill-api.ts DEFINITION.yaml PATH…` */
import { readFileSync, writeFileSync } from 'node:fs'
import { parse } from 'yaml'

type Json = Record<string, unknown>
const [file, ...wanted] = process.argv.slice(2)
const source = parse(readFileSync(file!, 'utf8'), { merge: true }) as { paths: Record<string, Record<string, { responses: Record<string, { schema?: Json }> }>>, definitions: Record<string, Json> }
const kept = ['$ref', 'type', 'required', 'enum', 'x-nullable']
const definitions: Record<string, unknown> = {}

function distill(schema: unknown): unknown {
  if (typeof schema !== 'object' || schema === null) return schema
  const { properties, items, additionalProperties, allOf, ...rest } = schema as Json
  const name = typeof rest['$ref'] === 'string' ? rest['$ref'].split('/').at(-1)! : undefined
  if (name && !(name in definitions)) {
    definitions[name] = null // it may name itself
    definitions[name] = distill(source.definitions[name])
  }
  return {
    ...Object.fromEntries(Object.entries(rest).filter(([key]) => kept.includes(key))),
    ...(properties !== undefined && { properties: Object.fromEntries(Object.entries(properties as Json).map(([key, value]) => [key, distill(value)])) }),
    ...(items !== undefined && { items: distill(items) }), ...(additionalProperties !== undefined && { additionalProperties: distill(additionalProperties) }),
    ...(Array.isArray(allOf) && { allOf: allOf.map(distill) }),
  }
}

const paths = Object.fromEntries(wanted.map((path) => [path, Object.fromEntries(Object.entries(source.paths[path]!).map(([method, { responses }]) =>
  [method, { responses: Object.fromEntries(Object.entries(responses).filter(([status]) => status.startsWith('2')).map(([status, { schema }]) => [status, { schema: distill(schema) }])) }]))]))
writeFileSync(new URL('../test/engine-api.json', import.meta.url), `${JSON.stringify({ paths, definitions })}\n`)
