import { readFileSync, realpathSync, statSync } from 'node:fs'
import { isAbsolute, join, resolve } from 'node:path'
import * as v from 'valibot'
import { invalid, messageOf } from '../lib/errors.ts'
import { availableCapabilities } from '../libcontainer/capabilities.ts'
import type { ProcessSpec, Spec } from '../libcontainer/spec.ts'

const texts = v.optional(v.array(v.string()))
const id = v.pipe(v.number(), v.integer(), v.minValue(0))
const mappings = v.nullish(v.array(v.object({ containerID: id, hostID: id, size: id })))
const hooks = v.nullish(v.array(v.object({ path: v.pipe(v.string(), v.check(isAbsolute, 'a hook\'s path must be absolute')), args: texts, env: texts, timeout: v.optional(v.pipe(v.number(), v.minValue(1))) })))

const processSchema = v.looseObject({
  terminal: v.optional(v.boolean()), args: v.optional(v.pipe(v.array(v.string()), v.minLength(1))), env: texts, cwd: v.pipe(v.string(), v.check(isAbsolute, 'Cwd must be an absolute path')),
  user: v.optional(v.looseObject({ uid: v.optional(id, 0), gid: v.optional(id, 0), additionalGids: v.optional(v.array(id)), umask: v.optional(id) }), { uid: 0, gid: 0 }),
  rlimits: v.nullish(v.array(v.object({ type: v.string(), soft: v.number(), hard: v.number() }))),
})

/** What of a config.json libcontainer relies on; it understands more than is checked here. */
const specSchema = v.looseObject({
  ociVersion: v.pipe(v.string(), v.regex(/^1\.\d+\.\d+/, 'only version 1 of the runtime specification is supported')),
  process: v.optional(processSchema),
  root: v.object({ path: v.pipe(v.string(), v.minLength(1)), readonly: v.optional(v.boolean()) }),
  hostname: v.optional(v.string()), domainname: v.optional(v.string()),
  mounts: v.nullish(v.array(v.looseObject({ destination: v.pipe(v.string(), v.minLength(1)), type: v.optional(v.string()), source: v.optional(v.string()), options: v.nullish(v.array(v.string())), uidMappings: mappings, gidMappings: mappings }))),
  hooks: v.nullish(v.object({ prestart: hooks, createRuntime: hooks, createContainer: hooks, startContainer: hooks, poststart: hooks, poststop: hooks })),
  annotations: v.nullish(v.record(v.string(), v.string())),
  linux: v.nullish(v.looseObject({
    namespaces: v.nullish(v.array(v.object({ type: v.picklist(['pid', 'network', 'mount', 'ipc', 'uts', 'user', 'cgroup', 'time']), path: v.optional(v.string()) }))),
    uidMappings: mappings, gidMappings: mappings, cgroupsPath: v.optional(v.string()), maskedPaths: v.nullish(v.array(v.string())), readonlyPaths: v.nullish(v.array(v.string())), sysctl: v.nullish(v.record(v.string(), v.string())),
  })),
})

function check<Schema extends v.GenericSchema>(schema: Schema, value: unknown, what: string): void {
  const result = v.safeParse(schema, value, { abortEarly: true })
  if (!result.success) throw invalid(`${what}: ${v.getDotPath(result.issues[0]) ?? ''}: ${result.issues[0].message}`)
}

function readJson(path: string, what: string): unknown {
  try {
    return withoutNull(JSON.parse(readFileSync(path, 'utf8')))
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') throw invalid(`${what} ${path} not found`, error)
    throw invalid(`${what} ${path}: ${messageOf(error)}`, error)
  }
}

/** Go writes null for a slice without elements: it means that there is none. */
function withoutNull(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutNull)
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(Object.entries(value).filter(([, item]) => item !== null).map(([key, item]) => [key, withoutNull(item)]))
}

/** A bundle: its directory, its configuration, and its root file system, absolute and without links. */
export interface Bundle { directory: string, spec: Spec, rootfs: string }

/** Reads and checks an OCI bundle (runtime-spec, "Filesystem Bundle"). */
export function readBundle(path: string): Bundle {
  const directory = resolve(path)
  const spec = readJson(join(directory, 'config.json'), 'JSON specification file') as Spec
  check(specSchema, spec, 'config.json')
  const rootfs = resolve(directory, spec.root!.path)
  if (!statSync(rootfs, { throwIfNoEntry: false })?.isDirectory()) throw invalid(`root.path ${rootfs} is not a directory`)
  const namespaces = new Set(spec.linux?.namespaces?.map(({ type }) => type))
  if (namespaces.size < (spec.linux?.namespaces?.length ?? 0)) throw invalid('config.json: linux.namespaces: a namespace is listed twice')
  if (!namespaces.has('mount')) throw invalid('config.json: linux.namespaces: a mount namespace is required')
  if ((spec.hostname || spec.domainname) && !namespaces.has('uts')) throw invalid('unable to set hostname without a private UTS namespace')
  if (namespaces.has('user') && !spec.linux?.namespaces?.find(({ type }) => type === 'user')?.path && !spec.linux?.uidMappings?.length) throw invalid('config.json: linux.uidMappings: a user namespace needs mappings')
  if (spec.process) spec.process = completed(spec.process)
  return { directory, spec, rootfs: realpathSync(rootfs) }
}

/** Reads a file of a process, as `exec --process` takes. */
export function readProcess(path: string): ProcessSpec {
  const read = readJson(path, 'process file') as ProcessSpec
  check(processSchema, read, path)
  return completed(read)
}

/** Capabilities that the runtime itself does not have can't be given: they are left out, as runc does. */
function completed(process: ProcessSpec): ProcessSpec {
  const sets = Object.entries(process.capabilities ?? {}).map(([set, names]) => [set, names?.filter((name) => availableCapabilities().includes(name)) ?? []])
  return { ...process, user: process.user ?? { uid: 0, gid: 0 }, ...(process.capabilities && { capabilities: Object.fromEntries(sets) as NonNullable<ProcessSpec['capabilities']> }) }
}
