import { parseArgs } from 'node:util'
import { parseDuration, parseSize } from '../lib/units.ts'
import type { Console } from './console.ts'
import type { Session } from './session.ts'

/** What a flag's value is. `list` may be given many times; the others keep the last. */
export type FlagType = 'bool' | 'string' | 'list' | 'int' | 'bytes' | 'duration' | 'cpus'

/** One flag of a command: `-a, --all`. `word` is the value's name in the help, where the type does not say it. */
export interface Flag {
  type: FlagType
  help: string
  short?: string
  word?: string
  /** What holds without it: false, '', [], 0 unless told. */
  otherwise?: string | number | boolean
  hidden?: boolean
}

export type Flags = Readonly<Record<string, Flag>>

type ValueOf<F extends Flag> = FlagType extends F['type'] ? unknown : F['type'] extends 'bool' ? boolean : F['type'] extends 'list' ? string[] : F['type'] extends 'string' ? string : number
/** The flags' values by their names; those of type `bytes` in bytes, `duration` in nanoseconds, `cpus` in billionths. */
export type Values<F extends Flags> = { -readonly [Name in keyof F]: ValueOf<F[Name]> }

/** What a command is run with. */
export interface Invocation<F extends Flags = Flags> {
  args: string[]
  flags: Values<F>
  /** True for a flag that was given, whatever its value. */
  given: ReadonlySet<string>
  session: Session
  console: Console
}

/** A word of the command line and what it does. */
export interface Command<F extends Flags = Flags> {
  /** Its arguments in the usage line: `CONTAINER [CONTAINER...]`. */
  usage: string
  /** How many arguments it takes. */
  args: readonly [min: number, max: number]
  flags: F
  /** The rest belongs to another command from the first argument on: `run IMAGE ls -l`. */
  passThrough?: boolean
  /** Further paragraphs of the help. */
  details?: string
  /** Returns the exit code; none is 0. */
  run(invocation: Invocation<F>): Promise<number | void>
}

/** Declares a command; its flags' types become those of its values. */
export function command<const F extends Flags>(definition: Command<F>): Command {
  return definition as unknown as Command
}

/** A command line that its command can't have. The message is followed by the usage; Docker ends with 125 for a wrong
 * flag, and with 1 for a wrong number of arguments. */
export class UsageError extends Error {
  readonly exitCode: 125 | 1

  constructor(message: string, exitCode: 125 | 1 = 125) {
    super(message)
    this.exitCode = exitCode
  }
}

/** An end with an exit code and, unless it is empty, a message for stderr. */
export class ExitError extends Error {
  readonly exitCode: number

  constructor(exitCode: number, message = '') {
    super(message)
    this.exitCode = exitCode
  }
}

const flagName = (name: string, { short }: Flag): string => (short ? `-${short}, --${name}` : `--${name}`)

/** Reads a command's flags and arguments from its words, with the rules and error words of Go's pflag, which Docker's
 * users know: `-it`, `--rm=false`, `-v=/a:/b`, `--memory-swap -1`. */
export function parseWords(path: string, definition: Pick<Command, 'args' | 'flags' | 'passThrough'>, words: readonly string[]): Pick<Invocation, 'args' | 'flags' | 'given'> & { help: boolean } {
  const flags: Record<string, Flag> = { ...definition.flags }
  const byShort = new Map(Object.entries(flags).flatMap(([name, { short }]) => (short ? [[short, name]] : [])))
  const options = Object.fromEntries(Object.entries(flags).map(([name, { type, short }]) => [name, { type: type === 'bool' ? 'boolean' as const : 'string' as const, multiple: true, ...(short && { short }) }]))
  const { tokens } = parseArgs({ args: [...words], options: { ...options, help: { type: 'boolean' } }, strict: false, allowPositionals: true, tokens: true })
  const values: Record<string, unknown> = Object.fromEntries(Object.entries(flags).map(([name, flag]) => [name, flag.otherwise ?? emptyOf(flag.type)]))
  const given = new Set<string>()
  const args: string[] = []
  let help = false
  for (const token of tokens) {
    if (token.kind === 'option-terminator') {
      if (!definition.passThrough) continue
      args.push(...words.slice(token.index + 1))
      break
    }
    if (token.kind === 'positional') {
      if (definition.passThrough) {
        args.push(...words.slice(token.index))
        break
      }
      args.push(token.value)
      continue
    }
    const name = byShort.get(token.name) ?? token.name
    if (token.rawName === '--help') {
      help = true
      continue
    }
    const flag = Object.hasOwn(flags, name) && (token.rawName.startsWith('--') ? token.name === name : true) ? flags[name]! : undefined
    if (!flag) throw new UsageError(token.rawName.startsWith('--') ? `unknown flag: ${token.rawName}` : `unknown shorthand flag: '${token.name}' in ${words[token.index]}`)
    if (flag.type !== 'bool' && token.value === undefined) throw new UsageError(token.rawName.startsWith('--') ? `flag needs an argument: --${name}` : `flag needs an argument: '${token.name}' in ${words[token.index]}`)
    const text = token.rawName.startsWith('--') ? token.value : token.value?.replace(/^=/, '')
    given.add(name)
    try {
      values[name] = flag.type === 'list' ? [...values[name] as string[], text!] : valueOf(flag.type, text)
    } catch (error) {
      throw new UsageError(`invalid argument ${JSON.stringify(text)} for ${JSON.stringify(flagName(name, flag))} flag: ${(error as Error).message}`)
    }
  }
  if (!help) checkCount(path, definition.args, args.length)
  return { args, flags: values as Values<Flags>, given, help }
}

function emptyOf(type: FlagType): unknown {
  return type === 'bool' ? false : type === 'list' ? [] : type === 'string' ? '' : 0
}

const truths: Record<string, boolean> = { 1: true, t: true, T: true, TRUE: true, true: true, True: true, 0: false, f: false, F: false, FALSE: false, false: false, False: false }

function valueOf(type: FlagType, text: string | undefined): unknown {
  switch (type) {
    case 'bool': {
      const value = truths[text ?? 'true']
      if (value === undefined) throw new Error(`strconv.ParseBool: parsing ${JSON.stringify(text)}: invalid syntax`)
      return value
    }
    case 'int':
      if (!/^[+-]?\d+$/.test(text!)) throw new Error(`strconv.ParseInt: parsing ${JSON.stringify(text)}: invalid syntax`)
      return Number(text)
    case 'bytes': return text === '-1' ? -1 : parseSize(text!)
    case 'duration': {
      const milliseconds = text === '0' ? 0 : parseDuration(text!)
      if (milliseconds === undefined) throw new Error(`time: invalid duration ${JSON.stringify(text)}`)
      return milliseconds * 1e6
    }
    case 'cpus':
      if (!/^\d*\.?\d+$/.test(text!)) throw new Error(`failed to parse ${text} as a rational number`)
      if (!Number.isInteger(Number((Number(text) * 1e9).toFixed(3)))) throw new Error('value is too precise')
      return Math.round(Number(text) * 1e9)
    default: return text
  }
}

function checkCount(path: string, [min, max]: readonly [number, number], count: number): void {
  const plural = (number: number): string => `${number} argument${number === 1 ? '' : 's'}`
  if (count >= min && count <= max) return
  if (max === 0) throw new UsageError(`berth: '${path}' accepts no arguments`, 1)
  if (min === max) throw new UsageError(`berth: '${path}' requires ${plural(min)}`, 1)
  if (count < min) throw new UsageError(`berth: '${path}' requires at least ${plural(min)}`, 1)
  throw new UsageError(`berth: '${path}' requires at ${min === 0 ? 'most' : `least ${min} and at most`} ${plural(max)}`, 1)
}
