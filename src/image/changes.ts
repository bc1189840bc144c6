import { invalid } from '../lib/errors.ts'
import { parseDuration } from '../lib/units.ts'
import { splitWords } from '../lib/words.ts'
import type { Health, RunConfig } from './image.ts'

/** Applies Dockerfile instructions to a configuration: those that change no files. */
export function applyChanges(config: RunConfig, changes: readonly string[]): RunConfig {
  const next: RunConfig = { ...config, Env: [...(config.Env ?? [])], Labels: { ...config.Labels } }
  for (const line of changes) {
    const match = /^\s*([A-Za-z]+)\s+(.*)$/s.exec(line)
    if (!match) throw invalid(`dockerfile parse error: ${line}`)
    const [, word = '', rest = ''] = match
    const list = (): string[] | undefined => listOf(rest)
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
      case 'HEALTHCHECK': next.Healthcheck = healthOf(rest); break
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

/** A list in JSON. Undefined for what is a shell's line. */
function listOf(text: string): string[] | undefined {
  if (!text.trim().startsWith('[')) return undefined
  try {
    const parsed: unknown = JSON.parse(text)
    return Array.isArray(parsed) && parsed.every((item) => typeof item === 'string') ? parsed : undefined
  } catch {
    return undefined
  }
}

const healthOptions: Record<string, 'Interval' | 'Timeout' | 'StartPeriod' | 'StartInterval'> = { interval: 'Interval', timeout: 'Timeout', 'start-period': 'StartPeriod', 'start-interval': 'StartInterval' }

/** `NONE`, or `[--interval=30s …] CMD COMMAND` (Dockerfile reference, "HEALTHCHECK"). */
function healthOf(text: string): Health {
  const health: Health = {}
  let rest = text.trim()
  for (let match = /^--([a-z-]+)=(\S+)\s*/.exec(rest); match; match = /^--([a-z-]+)=(\S+)\s*/.exec(rest)) {
    const [whole, name = '', value = ''] = match
    rest = rest.slice(whole.length)
    const key = healthOptions[name]
    if (key) {
      const milliseconds = parseDuration(value)
      if (milliseconds === undefined) throw invalid(`time: invalid duration ${JSON.stringify(value)}`)
      health[key] = milliseconds * 1e6
    } else if (name === 'retries' && /^\d+$/.test(value)) health.Retries = Number(value)
    else throw invalid(`Unknown flag: ${name}`)
  }
  const [, kind = '', command = ''] = /^(\S+)\s*(.*)$/s.exec(rest) ?? []
  if (kind.toUpperCase() === 'NONE') return { Test: ['NONE'] }
  if (kind.toUpperCase() !== 'CMD') throw invalid(`Unknown type ${JSON.stringify(kind)} in HEALTHCHECK (try CMD)`)
  if (!command) throw invalid('Missing command after HEALTHCHECK CMD')
  const words = listOf(command)
  return { Test: words ? ['CMD', ...words] : ['CMD-SHELL', command], ...health }
}
