import { readFileSync } from 'node:fs'
import { messageOf } from '../lib/errors.ts'
import { ExitError } from './command.ts'

/** `KEY=value` lines of a file; a bare `KEY` is looked up with `find`, and left out where that has none. */
function readFile(path: string, find: (name: string) => string | undefined): string[] {
  let text: string
  try {
    text = readFileSync(path, 'utf8')
  } catch (error) {
    throw new ExitError(125, messageOf(error).startsWith('ENOENT') ? `open ${path}: no such file or directory` : messageOf(error))
  }
  return text.replace(/^\ufeff/, '').split(/\r?\n/).map((line) => line.trimStart()).filter((line) => line && !line.startsWith('#')).flatMap((line) => {
    const name = line.split('=', 1)[0]!
    if (/\s/.test(name)) throw new ExitError(125, `invalid env file (${path}): variable '${name}' contains whitespaces`)
    if (!name) throw new ExitError(125, `invalid env file (${path}): no variable name on line '${line}'`)
    return line.includes('=') ? [line] : find(name) === undefined ? [] : [`${name}=${find(name)}`]
  })
}

/** The environment of --env-file and --env; a name without a value has the client's own. */
export function readEnvironment(files: readonly string[], given: readonly string[], env: NodeJS.ProcessEnv): string[] {
  return [
    ...files.flatMap((file) => readFile(file, (name) => env[name])),
    ...given.flatMap((entry) => {
      if (entry === '' || entry.startsWith('=')) throw new ExitError(125, `invalid environment variable: ${entry}`)
      if (entry.includes('=')) return [entry]
      return env[entry] === undefined ? [] : [`${entry}=${env[entry]}`]
    }),
  ]
}

/** The labels of --label-file and --label. */
export function readLabels(files: readonly string[], given: readonly string[]): Record<string, string> {
  const pairs = [...files.flatMap((file) => readFile(file, () => '')), ...given].map((label): [string, string] => {
    const equals = label.indexOf('=')
    return equals < 0 ? [label, ''] : [label.slice(0, equals), label.slice(equals + 1)]
  })
  return Object.fromEntries(pairs)
}
