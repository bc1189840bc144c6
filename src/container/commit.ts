import { invalid } from '../lib/errors.ts'
import { familiarName, parseReference } from '../reference/reference.ts'
import type { ImageConfig, RunConfig } from '../image/image.ts'
import { goArchitecture } from '../image/image.ts'
import { splitWords } from '../lib/words.ts'
import { isPlumbing } from './plumbing.ts'
import type { Container } from './container.ts'
import type { ContainerDeps } from './deps.ts'
import { pauseContainer, unpauseContainer } from './stop.ts'

export interface CommitOptions { repo: string, tag: string, comment: string, author: string, pause: boolean, changes: readonly string[], body: unknown }

/** Makes an image of a container: its own layer on top of its image's. Returns the image's id. */
export async function commitContainer(deps: ContainerDeps, container: Container, options: CommitOptions): Promise<string> {
  const reference = options.repo ? parseReference(options.tag ? `${options.repo}:${options.tag}` : options.repo) : undefined
  const { record } = container
  const parent = deps.images.has(record.image) ? deps.images.get(record.image) : undefined
  const config = applyChanges(runConfigOf(container, options.body), options.changes)
  const holder = `/hold/commit-${container.id}-${Date.now()}`
  const pause = options.pause && record.state.status === 'running'
  if (pause) await pauseContainer(deps, container)
  try {
    const layer = await deps.layers.archiveChanges(record.id, record.topLayer, (change) => !isPlumbing(change.path), (stream) => deps.layers.register(stream, record.topLayer, holder))
    const created = new Date().toISOString()
    const image: ImageConfig = {
      architecture: parent?.config.architecture ?? goArchitecture, os: 'linux', created, ...(options.author && { author: options.author }), ...(options.comment && { comment: options.comment }), config,
      rootfs: { type: 'layers', diff_ids: [...deps.layers.chain(record.topLayer).map(({ diffId }) => diffId), layer.diffId] },
      history: [...(parent?.config.history ?? []), { created, created_by: [record.path, ...record.args].join(' '), ...(options.author && { author: options.author }), ...(options.comment && { comment: options.comment }) }],
    }
    const id = deps.images.put(JSON.stringify(image), { ...(parent && { parent: parent.id }), ...(reference && { reference }) })
    deps.events.emit('container', 'commit', container.id, { ...container.attributes(), comment: options.comment, imageID: id, imageRef: reference ? familiarName(reference) : '' })
    return id
  } finally {
    await deps.layers.release(holder)
    if (pause) await unpauseContainer(deps, container)
  }
}

function runConfigOf(container: Container, body: unknown): RunConfig {
  const own = container.record.config
  const base: RunConfig = {
    Hostname: '', Domainname: '', User: own.User, ExposedPorts: Object.keys(own.ExposedPorts).length ? own.ExposedPorts : null, Env: own.Env, Cmd: own.Cmd ?? null,
    Volumes: Object.keys(own.Volumes).length ? own.Volumes : null, WorkingDir: own.WorkingDir, Entrypoint: own.Entrypoint ?? null, OnBuild: null, Labels: own.Labels,
    ...(own.StopSignal && { StopSignal: own.StopSignal }), ...(own.Healthcheck && { Healthcheck: own.Healthcheck }), ...(own.Shell && { Shell: own.Shell }),
  }
  if (typeof body !== 'object' || body === null) return base
  const given = Object.fromEntries(Object.entries(body).filter(([key, value]) => key in base && value !== null && value !== '' && !(Array.isArray(value) && value.length === 0)))
  return { ...base, ...given }
}

/** Applies Dockerfile instructions to a configuration: those that change no files. */
export function applyChanges(config: RunConfig, changes: readonly string[]): RunConfig {
  const next: RunConfig = { ...config, Env: [...(config.Env ?? [])], Labels: { ...config.Labels } }
  for (const line of changes) {
    const match = /^\s*([A-Za-z]+)\s+(.*)$/s.exec(line)
    if (!match) throw invalid(`dockerfile parse error: ${line}`)
    const [, word = '', rest = ''] = match
    const list = (): string[] | undefined => {
      if (!rest.trim().startsWith('[')) return undefined
      try {
        const parsed: unknown = JSON.parse(rest)
        return Array.isArray(parsed) && parsed.every((item) => typeof item === 'string') ? parsed : undefined
      } catch {
        return undefined // no JSON, so it is a shell's line
      }
    }
    switch (word.toUpperCase()) {
      case 'CMD': next.Cmd = list() ?? ['/bin/sh', '-c', rest]; break
      case 'ENTRYPOINT': next.Entrypoint = list() ?? ['/bin/sh', '-c', rest]; break
      case 'ENV':
        for (const [name, value] of pairs(rest)) next.Env = [...next.Env!.filter((entry) => !entry.startsWith(`${name}=`)), `${name}=${value}`]
        break
      case 'LABEL': for (const [name, value] of pairs(rest)) next.Labels![name] = value; break
      case 'EXPOSE':
        next.ExposedPorts = { ...next.ExposedPorts, ...Object.fromEntries(splitWords(rest).map((port) => [port.includes('/') ? port : `${port}/tcp`, {}])) }
        break
      case 'USER': next.User = rest.trim(); break
      case 'VOLUME': next.Volumes = { ...next.Volumes, ...Object.fromEntries((list() ?? splitWords(rest)).map((path) => [path, {}])) }; break
      case 'WORKDIR': next.WorkingDir = rest.trim().startsWith('/') ? rest.trim() : `${next.WorkingDir || ''}/${rest.trim()}`; break
      case 'STOPSIGNAL': next.StopSignal = rest.trim(); break
      case 'ONBUILD': next.OnBuild = [...(next.OnBuild ?? []), rest]; break
      default: throw invalid(`${word.toLowerCase()} is not a valid change command`)
    }
  }
  return next
}

function pairs(text: string): [string, string][] {
  const words = splitWords(text)
  if (words[0] !== undefined && !words[0].includes('=')) return [[words[0], text.trim().slice(words[0].length).trim()]]
  return words.map((word) => [word.slice(0, word.indexOf('=')), word.slice(word.indexOf('=') + 1)])
}
