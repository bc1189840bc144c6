import { familiar, parseReference } from '../reference/reference.ts'
import type { ImageConfig, RunConfig } from '../image/image.ts'
import { attributesOf, goArchitecture } from '../image/image.ts'
import { applyChanges } from '../image/changes.ts'
import { plumbing } from './plumbing.ts'
import type { Container } from './container.ts'
import type { ContainerDeps } from './deps.ts'
import { shortHealth } from './healthcheck.ts'
import { whilePaused } from './stop.ts'

export interface CommitOptions { repo: string, tag: string, comment: string, author: string, pause: boolean, changes: readonly string[], body: unknown }

/** Makes an image of a container: its own layer on top of its image's. Returns the image's id. */
export async function commitContainer(deps: ContainerDeps, container: Container, options: CommitOptions): Promise<string> {
  const reference = options.repo ? parseReference(options.tag ? `${options.repo}:${options.tag}` : options.repo) : undefined
  const { record } = container
  const parent = deps.images.has(record.image) ? deps.images.get(record.image) : undefined
  const config = applyChanges(runConfigOf(container, options.body), options.changes)
  const holder = `/hold/commit-${container.id}-${Date.now()}`
  try {
    const layer = await whilePaused(deps, options.pause ? [container.id] : [], () => deps.layers.archiveChanges(record.id, record.topLayer, plumbing, (stream) => deps.layers.register(stream, record.topLayer, holder)))
    const created = new Date().toISOString()
    const image: ImageConfig = {
      architecture: parent?.config.architecture ?? goArchitecture, os: 'linux', created, ...(options.author && { author: options.author }), ...(options.comment && { comment: options.comment }), config,
      rootfs: { type: 'layers', diff_ids: [...deps.layers.chain(record.topLayer).map(({ diffId }) => diffId), layer.diffId] },
      history: [...(parent?.config.history ?? []), { created, created_by: [record.path, ...record.args].join(' '), ...(options.author && { author: options.author }), ...(options.comment && { comment: options.comment }) }],
    }
    const id = deps.images.put(JSON.stringify(image), { ...(parent && { parent: parent.id }), ...(reference && { reference }) })
    if (reference) deps.events.emit('image', 'tag', id, attributesOf(deps.images.get(id), familiar(reference)))
    deps.events.emit('container', 'commit', container.id, { ...container.attributes(), comment: options.comment, imageID: id, imageRef: reference ? familiar(reference) : '' })
    return id
  } finally {
    await deps.layers.release(holder)
  }
}

function runConfigOf(container: Container, body: unknown): RunConfig {
  const own = container.record.config
  const base: RunConfig = {
    Hostname: '', Domainname: '', User: own.User, ExposedPorts: Object.keys(own.ExposedPorts).length ? own.ExposedPorts : null, Env: own.Env, Cmd: own.Cmd ?? null,
    Volumes: Object.keys(own.Volumes).length ? own.Volumes : null, WorkingDir: own.WorkingDir, Entrypoint: own.Entrypoint ?? null, OnBuild: null, Labels: own.Labels,
    ...(own.StopSignal && { StopSignal: own.StopSignal }), ...(own.Healthcheck && { Healthcheck: shortHealth(own.Healthcheck) }), ...(own.Shell && { Shell: own.Shell }),
  }
  if (typeof body !== 'object' || body === null) return base
  const given = Object.fromEntries(Object.entries(body).filter(([key, value]) => key in base && value !== null && value !== '' && !(Array.isArray(value) && value.length === 0)))
  return { ...base, ...given }
}
