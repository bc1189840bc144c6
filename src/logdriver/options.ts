import { invalid, messageOf } from '../lib/errors.ts'
import { compileTemplate } from '../lib/template.ts'
import { parseSize } from '../lib/units.ts'
import { shortId } from '../lib/ids.ts'
import type { LogInfo } from './driver.ts'

export type Options = Readonly<Record<string, string>>

/** Options that are the same for all drivers. */
export const attributeOptions = ['labels', 'labels-regex', 'env', 'env-regex', 'tag'] as const
export const common = ['mode', 'max-buffer-size', 'cache-disabled', 'cache-max-size', 'cache-max-file', 'cache-compress'] as const

/** Throws `invalid` for options that a driver does not know. */
export function checkOptions(driver: string, options: Options, known: readonly string[]): void {
  for (const name of Object.keys(options)) if (!known.includes(name) && !(common as readonly string[]).includes(name)) throw invalid(`unknown log opt '${name}' for ${driver} log driver`)
  const { mode } = options
  if (mode !== undefined && mode !== 'blocking' && mode !== 'non-blocking') throw invalid(`logger: logging mode not supported: ${mode}`)
  if (options['max-buffer-size'] !== undefined) {
    if (mode !== 'non-blocking') throw invalid("logger: max-buffer-size option is only supported with 'mode=non-blocking'")
    parseSize(options['max-buffer-size'])
  }
}

export function truth(options: Options, name: string, otherwise: boolean): boolean {
  const value = options[name]
  if (value === undefined || value === '') return otherwise
  if (!/^(1|t|true|0|f|false)$/i.test(value)) throw invalid(`strconv.ParseBool: parsing ${JSON.stringify(value)}: invalid syntax`)
  return /^(1|t|true)$/i.test(value)
}

/** Options of drivers that keep files. */
export function fileOptions(options: Options, otherwise: { compress: boolean }): { maxSize: number, maxFiles: number, compress: boolean } {
  const maxSize = options['max-size'] === undefined ? 20 << 20 : options['max-size'] === '-1' ? Infinity : parseSize(options['max-size'])
  const maxFiles = options['max-file'] === undefined ? 5 : Number(options['max-file'])
  if (!Number.isInteger(maxFiles) || maxFiles < 1) throw invalid('max-file cannot be less than 1')
  return { maxSize, maxFiles, compress: truth(options, 'compress', otherwise.compress) && maxFiles > 1 }
}

/** The labels and variables of a container that its log is to have, named or matched by the options. */
export function attributesOf({ labels, env }: LogInfo, options: Options): Record<string, string> {
  const variables = Object.fromEntries(env.map((entry) => [entry.split('=', 1)[0]!, entry.slice(entry.indexOf('=') + 1)]))
  const found: Record<string, string> = {}
  for (const [option, from] of [['labels', labels], ['env', variables]] as const) {
    const names = new Set((options[option] ?? '').split(',').filter(Boolean))
    const pattern = options[`${option}-regex`] ? patternOf(options[`${option}-regex`]!) : undefined
    for (const [name, value] of Object.entries(from)) if (names.has(name) || pattern?.test(name)) found[name] = value
  }
  return found
}

function patternOf(text: string): RegExp {
  try {
    return new RegExp(text)
  } catch (error) {
    throw invalid(`error parsing regexp: ${messageOf(error)}`, error)
  }
}

/** What a log calls its container: the option `tag`, a Go template. */
export function tagOf(info: LogInfo, options: Options, otherwise = '{{.ID}}'): string {
  const image = info.imageId
  try {
    return compileTemplate(options['tag'] ?? otherwise)({
      ID: shortId(info.id), FullID: info.id, Name: info.name, ImageID: shortId(image), ImageFullID: image, ImageName: info.imageName, DaemonName: 'berth', Command: info.command, ...attributesOf(info, options),
    })
  } catch (error) {
    throw invalid(`invalid tag template: ${messageOf(error)}`, error)
  }
}

/** `proto://host:port` or `unix:///path`. */
export function parseAddress(text: string, protocols: readonly string[], port: number, option: string): { protocol: string, host: string, port: number, path: string } {
  const [, protocol = '', rest = ''] = /^([a-z+]+):\/\/(.*)$/.exec(text) ?? []
  if (!protocols.includes(protocol)) throw invalid(`${option} should be in form proto://address, and proto one of ${protocols.join(', ')}: got ${text}`)
  if (protocol.startsWith('unix')) {
    if (!rest.startsWith('/')) throw invalid(`${option}: ${text} has no path`)
    return { protocol, host: '', port: 0, path: rest }
  }
  const [, bracketed, plain, digits] = /^(?:\[([^\]]+)\]|([^:/]*))(?::(\d+))?\/?$/.exec(rest) ?? []
  const host = bracketed ?? plain
  if (host === undefined || Number(digits ?? port) > 65_535) throw invalid(`${option}: ${text} is no address`)
  return { protocol, host: host || 'localhost', port: Number(digits ?? port), path: '' }
}
