import type { Command, Flag, Flags } from './command.ts'
import { groups, type Entry, type Noun } from './commands.ts'

const words: Record<Flag['type'], string> = { bool: '', string: 'string', list: 'list', int: 'int', bytes: 'bytes', duration: 'duration', cpus: 'decimal' }

/** Breaks a text into lines of at most `width` columns. */
function wrap(text: string, width: number): string[] {
  const lines: string[] = []
  for (const paragraph of text.split('\n')) {
    let line = ''
    for (const word of paragraph.split(' ')) {
      if (line && line.length + 1 + word.length > width) {
        lines.push(line)
        line = word
      } else line = line ? `${line} ${word}` : word
    }
    lines.push(line)
  }
  return lines
}

/** The table of flags of a help text. */
export function flagTable(flags: Flags, columns: number): string {
  const rows = Object.entries(flags).filter(([, { hidden }]) => !hidden).toSorted(([a], [b]) => (a < b ? -1 : 1)).map(([name, flag]) => {
    const word = flag.word ?? words[flag.type]
    const fallback = flag.otherwise === undefined || flag.otherwise === '' || flag.otherwise === false ? '' : ` (default ${typeof flag.otherwise === 'string' ? JSON.stringify(flag.otherwise) : flag.otherwise})`
    return { left: `${flag.short ? `-${flag.short}, ` : '    '}--${name}${word && ` ${word}`}`, help: flag.help + fallback }
  })
  const width = Math.max(...rows.map(({ left }) => left.length)) + 3
  return rows.map(({ left, help }) => `  ${left.padEnd(width)}${wrap(help, Math.max(24, columns - width - 2)).join('\n' + ' '.repeat(width + 2))}`).join('\n')
}

/** The help of one command. */
export function commandHelp(entry: Pick<Entry, 'names' | 'short'>, definition: Command, path: string, columns: number): string {
  const { flags } = definition
  const usage = `berth ${path}${Object.keys(flags).length ? ' [OPTIONS]' : ''}${definition.usage && ` ${definition.usage}`}`
  const names = entry.names.length > 1 ? `\nAliases:\n  ${entry.names.map((name) => `berth ${name}`).join(', ')}\n` : ''
  return `Usage:  ${usage}\n\n${entry.short}\n${definition.details ? `\n${definition.details}\n` : ''}${names}${Object.keys(flags).length ? `\nOptions:\n${flagTable(flags, columns)}\n` : ''}`
}

function list(rows: readonly (readonly [string, string])[]): string {
  const width = Math.max(...rows.map(([name]) => name.length)) + 2
  return rows.map(([name, short]) => `  ${name.padEnd(width)}${short}`).join('\n')
}

/** The help of a noun: `berth image`. */
export function nounHelp(noun: Noun, entries: readonly Entry[]): string {
  const verbs = entries.flatMap(({ names, short }) => names.filter((name) => name.startsWith(`${noun.name} `)).slice(0, 1).map((name) => [name.slice(noun.name.length + 1), short] as const))
  return `Usage:  berth ${noun.name} COMMAND\n\n${noun.short}\n\nCommands:\n${list(verbs.toSorted(([a], [b]) => (a < b ? -1 : 1)))}\n\nRun 'berth ${noun.name} COMMAND --help' for more information on a command.\n`
}

/** The help of berth itself. */
export function rootHelp(entries: readonly Entry[], nouns: readonly Noun[], flags: Flags, columns: number): string {
  const sections = groups.map(([group, title]) => {
    const rows = entries.filter((entry) => entry.group === group).map(({ names, short }) => [names.find((name) => !name.includes(' ')) ?? names[0]!, short] as const)
    return `${title}:\n${list(group === 'common' ? rows : rows.toSorted(([a], [b]) => (a < b ? -1 : 1)))}`
  })
  sections.splice(1, 0, `Management Commands:\n${list(nouns.map(({ name, short }) => [name, short]))}`)
  return `Usage:  berth [OPTIONS] COMMAND\n\nRuns containers\n\n${sections.join('\n\n')}\n\nGlobal Options:\n${flagTable(flags, columns)}\n\nRun 'berth COMMAND --help' for more information on a command.\n`
}
