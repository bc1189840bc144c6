/** Go's text/template (pkg.go.dev/text/template) as far as Docker's users write it in --format: fields, pipelines,
 * variables, if, range, with, comparisons, and Docker's functions. */

type Node =
  | { kind: 'text', text: string }
  | { kind: 'pipe', pipe: Pipe }
  | { kind: 'if' | 'with' | 'range', pipe: Pipe, body: Node[], otherwise: Node[] }

interface Pipe { declares: string[], assigns: boolean, commands: Term[][] }

type Term =
  | { kind: 'field', names: string[], at: number }
  | { kind: 'variable', name: string, names: string[] }
  | { kind: 'call', name: string }
  | { kind: 'value', value: unknown }
  | { kind: 'nested', pipe: Pipe, names: string[] }

export class TemplateError extends Error {}

interface Token { kind: 'word' | 'string' | 'number' | 'char' | 'field' | 'variable' | 'symbol', text: string, value?: unknown, at: number, tight: boolean }

const symbols = /^(?::=|[|()=,])/

function lexAction(source: string, from: number): Token[] {
  const tokens: Token[] = []
  let at = 0
  while (at < source.length) {
    const rest = source.slice(at)
    const blank = /^\s+/.exec(rest)
    if (blank) {
      at += blank[0].length
      continue
    }
    const tight = at > 0 && !/\s/.test(source[at - 1]!)
    const push = (kind: Token['kind'], text: string, value?: unknown): void => {
      tokens.push({ kind, text, value, at: from + at, tight })
      at += text.length
    }
    let match: RegExpExecArray | null
    if ((match = /^"(?:[^"\\]|\\.)*"/.exec(rest))) push('string', match[0], unquote(match[0]))
    else if ((match = /^`[^`]*`/.exec(rest))) push('string', match[0], match[0].slice(1, -1))
    else if ((match = /^'(?:[^'\\]|\\.)'/.exec(rest))) push('char', match[0], unquote(`"${match[0].slice(1, -1)}"`).codePointAt(0))
    else if ((match = /^[+-]?(?:0x[0-9a-f]+|\d+(?:\.\d+)?(?:e[+-]?\d+)?)/i.exec(rest))) push('number', match[0], Number(match[0]))
    else if ((match = /^(?:\.[A-Za-z_]\w*)+|^\./.exec(rest))) push('field', match[0])
    else if ((match = /^\$\w*/.exec(rest))) push('variable', match[0])
    else if ((match = /^[A-Za-z_]\w*/.exec(rest))) push('word', match[0])
    else if ((match = symbols.exec(rest))) push('symbol', match[0])
    else throw new TemplateError(`template: :1: unexpected ${JSON.stringify(rest[0])} in operand`)
  }
  return tokens
}

function unquote(text: string): string {
  try {
    return JSON.parse(text.replace(/\\([av'])/g, (_whole, c: string) => ({ a: '\\u0007', v: '\\u000b', "'": "'" })[c]!).replace(/\\x([0-9a-f]{2})/gi, '\\u00$1')) as string
  } catch (error) {
    throw new TemplateError(`template: :1: invalid string ${text}`, { cause: error })
  }
}

class Parser {
  readonly #parts: ({ text: string } | { action: Token[] })[] = []
  #next = 0

  constructor(source: string) {
    let at = 0
    let trimNext = false
    for (;;) {
      const open = source.indexOf('{{', at)
      let text = source.slice(at, open < 0 ? undefined : open)
      if (trimNext) text = text.trimStart()
      const trimBefore = open >= 0 && /^\{\{-\s/.test(source.slice(open))
      if (trimBefore) text = text.trimEnd()
      if (text) this.#parts.push({ text })
      if (open < 0) return
      const close = endOfAction(source, open + 2)
      const from = open + (trimBefore ? 3 : 2)
      let body = source.slice(from, close)
      trimNext = /\s-$/.test(body)
      if (trimNext) body = body.slice(0, -1)
      if (!/^\s*\/\*[^]*\*\/\s*$/.test(body)) this.#parts.push({ action: lexAction(body, from) })
      at = close + 2
    }
  }

  parse(): Node[] {
    const { nodes, end } = this.#list()
    if (end) throw new TemplateError(`template: :1: unexpected {{${end[0]!.text}}}`)
    return nodes
  }

  #list(): { nodes: Node[], end: Token[] | undefined } {
    const nodes: Node[] = []
    while (this.#next < this.#parts.length) {
      const part = this.#parts[this.#next++]!
      if ('text' in part) {
        nodes.push({ kind: 'text', text: part.text })
        continue
      }
      const [first] = part.action
      if (!first) throw new TemplateError('template: :1: missing value for command')
      if (first.kind === 'word' && ['end', 'else'].includes(first.text)) return { nodes, end: part.action }
      if (first.kind === 'word' && (first.text === 'if' || first.text === 'with' || first.text === 'range')) nodes.push(this.#block(first.text, part.action.slice(1)))
      else nodes.push({ kind: 'pipe', pipe: parsePipe(part.action) })
    }
    return { nodes, end: undefined }
  }

  #block(kind: 'if' | 'with' | 'range', tokens: Token[]): Node {
    const pipe = parsePipe(tokens)
    const body = this.#list()
    if (!body.end) throw new TemplateError('template: :1: unexpected EOF')
    if (body.end[0]!.text === 'end') return { kind, pipe, body: body.nodes, otherwise: [] }
    const next = body.end[1]
    if (next && (next.text === 'if' || next.text === 'with')) return { kind, pipe, body: body.nodes, otherwise: [this.#block(next.text, body.end.slice(2))] }
    const otherwise = this.#list()
    if (otherwise.end?.[0]?.text !== 'end') throw new TemplateError('template: :1: unexpected EOF')
    return { kind, pipe, body: body.nodes, otherwise: otherwise.nodes }
  }
}

function endOfAction(source: string, from: number): number {
  let quote = ''
  for (let i = from; i < source.length; i++) {
    const c = source[i]!
    if (quote) {
      if (c === '\\' && quote !== '`') i++
      else if (c === quote) quote = ''
    } else if ('"`\''.includes(c)) quote = c
    else if (source.startsWith('}}', i)) return i
  }
  throw new TemplateError('template: :1: unclosed action')
}

function parsePipe(tokens: Token[]): Pipe {
  const pipe: Pipe = { declares: [], assigns: false, commands: [] }
  let at = 0
  const sign = tokens.findIndex(({ kind, text }) => kind === 'symbol' && (text === ':=' || text === '='))
  if (sign > 0 && tokens.slice(0, sign).every((token) => token.kind === 'variable' || token.text === ',')) {
    pipe.declares = tokens.slice(0, sign).filter(({ kind }) => kind === 'variable').map(({ text }) => text)
    pipe.assigns = tokens[sign]!.text === '='
    at = sign + 1
  }
  let terms: Term[] = []
  const next = (): void => {
    if (terms.length === 0) throw new TemplateError('template: :1: missing value for command')
    pipe.commands.push(terms)
    terms = []
  }
  while (at < tokens.length) {
    const token = tokens[at++]!
    const fields = (): string[] => {
      const follows = tokens[at]
      if (follows?.kind !== 'field' || !follows.tight || follows.text === '.') return []
      at++
      return follows.text.slice(1).split('.')
    }
    if (token.kind === 'symbol' && token.text === '|') next()
    else if (token.kind === 'symbol' && token.text === '(') {
      let depth = 1
      const from = at
      while (at < tokens.length && depth > 0) {
        if (tokens[at]!.kind === 'symbol') depth += tokens[at]!.text === '(' ? 1 : tokens[at]!.text === ')' ? -1 : 0
        at++
      }
      if (depth) throw new TemplateError('template: :1: unclosed left paren')
      const nested = parsePipe(tokens.slice(from, at - 1))
      terms.push({ kind: 'nested', pipe: nested, names: fields() })
    } else if (token.kind === 'field') terms.push({ kind: 'field', names: token.text === '.' ? [] : token.text.slice(1).split('.'), at: token.at })
    else if (token.kind === 'variable') terms.push({ kind: 'variable', name: token.text, names: fields() })
    else if (token.kind === 'word') terms.push(wordTerm(token.text))
    else if (token.kind === 'symbol') throw new TemplateError(`template: :1: unexpected ${JSON.stringify(token.text)} in operand`)
    else terms.push({ kind: 'value', value: token.value })
  }
  next()
  return pipe
}

function wordTerm(text: string): Term {
  if (text === 'true' || text === 'false') return { kind: 'value', value: text === 'true' }
  if (text === 'nil') return { kind: 'value', value: null }
  if (!Object.hasOwn(functions, text) && !lazy.has(text)) throw new TemplateError(`template: :1: function ${JSON.stringify(text)} not defined`)
  return { kind: 'call', name: text }
}

const lazy = new Set(['and', 'or'])

const order = (a: unknown, b: unknown): number => (a as number) < (b as number) ? -1 : (a as number) > (b as number) ? 1 : 0

const text = (value: unknown): string => {
  if (typeof value !== 'string') throw new TemplateError(`wrong type for value; expected string; got ${goType(value)}`)
  return value
}

const functions: Record<string, (...args: any[]) => unknown> = {
  json: (value: unknown) => goJson(value),
  split: (value: unknown, separator: string) => text(value).split(separator),
  join: (values: unknown[] | null, separator: string) => (values ?? []).map(print).join(separator),
  title: (value: unknown) => text(value).replace(/\b\p{L}/gu, (letter) => letter.toUpperCase()),
  lower: (value: unknown) => text(value).toLowerCase(),
  upper: (value: unknown) => text(value).toUpperCase(),
  pad: (value: unknown, before: number, after: number) => (text(value) === '' ? '' : ' '.repeat(before) + text(value) + ' '.repeat(after)),
  truncate: (value: unknown, length: number) => text(value).slice(0, length),
  println: (...values: unknown[]) => `${values.map(print).join(' ')}\n`,
  print: (...values: unknown[]) => values.map(print).join(''),
  printf: (format: string, ...values: unknown[]) => printf(format, values),
  len: (value: unknown) => {
    if (typeof value === 'string') return Buffer.byteLength(value)
    if (Array.isArray(value)) return value.length
    if (typeof value === 'object' && value !== null) return Object.keys(value).length
    throw new TemplateError(`error calling len: len of type ${goType(value)}`)
  },
  index: (value: unknown, ...keys: (string | number)[]) => keys.reduce((at, key) => {
    if (at === null || at === undefined) throw new TemplateError('error calling index: index of untyped nil')
    if (Array.isArray(at) && !((key as number) < at.length)) throw new TemplateError(`error calling index: index out of range: ${key}`)
    return (at as Record<string | number, unknown>)[key]
  }, value),
  slice: (value: string | unknown[], from = 0, to: number = value.length) => value.slice(from, to),
  not: (value: unknown) => !truth(value),
  eq: (first: unknown, ...others: unknown[]) => others.some((other) => first === other),
  ne: (a: unknown, b: unknown) => a !== b,
  lt: (a: unknown, b: unknown) => order(a, b) < 0,
  le: (a: unknown, b: unknown) => order(a, b) <= 0,
  gt: (a: unknown, b: unknown) => order(a, b) > 0,
  ge: (a: unknown, b: unknown) => order(a, b) >= 0,
  html: (...values: unknown[]) => values.map(print).join('').replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`),
  js: (...values: unknown[]) => JSON.stringify(values.map(print).join('')).slice(1, -1),
  urlquery: (...values: unknown[]) => encodeURIComponent(values.map(print).join('')),
}

/** JSON as Go's encoder without HTML escapes writes it. */
export function goJson(value: unknown): string {
  return JSON.stringify(value === undefined ? null : value)
}

function goType(value: unknown): string {
  if (value === null || value === undefined) return 'nil'
  if (Array.isArray(value)) return '[]interface {}'
  return { string: 'string', number: 'json.Number', boolean: 'bool', object: 'map[string]interface {}' }[typeof value as string] ?? typeof value
}

/** A value as fmt.Print shows it. */
export function print(value: unknown): string {
  if (value === undefined || value === null) return '<no value>'
  if (Array.isArray(value)) return `[${value.map(inner).join(' ')}]`
  if (typeof value === 'object') return `map[${Object.keys(value).toSorted().map((key) => `${key}:${inner((value as Record<string, unknown>)[key])}`).join(' ')}]`
  return String(value)
}

const inner = (value: unknown): string => (value === null || value === undefined ? '<nil>' : print(value))

function printf(format: string, values: readonly unknown[]): string {
  let at = 0
  return format.replace(/%([-+# 0]*)(\d+)?(?:\.(\d+))?([a-zA-Z%])/g, (_whole, flags: string, width: string | undefined, precision: string | undefined, verb: string) => {
    if (verb === '%') return '%'
    if (at >= values.length) return `%!${verb}(MISSING)`
    const value = values[at++]
    let shown: string
    switch (verb) {
      case 'd': shown = String(Math.trunc(Number(value))); break
      case 'f': shown = Number(value).toFixed(precision === undefined ? 6 : Number(precision)); break
      case 'x': shown = typeof value === 'string' ? Buffer.from(value).toString('hex') : Number(value).toString(16); break
      case 'q': shown = JSON.stringify(print(value)); break
      default: shown = precision !== undefined && verb === 's' ? print(value).slice(0, Number(precision)) : print(value)
    }
    const size = Number(width ?? 0)
    return flags.includes('-') ? shown.padEnd(size) : shown.padStart(size, flags.includes('0') && verb !== 's' ? '0' : ' ')
  })
}

function truth(value: unknown): boolean {
  if (Array.isArray(value)) return value.length > 0
  if (typeof value === 'object' && value !== null) return Object.keys(value).length > 0
  return Boolean(value)
}

class Scope {
  readonly #variables: Map<string, unknown>
  readonly #parent: Scope | undefined

  constructor(parent?: Scope, variables: [string, unknown][] = []) {
    this.#parent = parent
    this.#variables = new Map(variables)
  }

  declare(name: string, value: unknown): void {
    this.#variables.set(name, value)
  }

  assign(name: string, value: unknown): void {
    if (this.#variables.has(name)) this.#variables.set(name, value)
    else if (this.#parent) this.#parent.assign(name, value)
    else throw new TemplateError(`undefined variable ${JSON.stringify(name)}`)
  }

  get(name: string): unknown {
    if (this.#variables.has(name)) return this.#variables.get(name)
    if (!this.#parent) throw new TemplateError(`undefined variable ${JSON.stringify(name)}`)
    return this.#parent.get(name)
  }
}

function fieldsOf(value: unknown, names: readonly string[], at: number, args: unknown[] = []): unknown {
  let current = value
  for (const name of names) {
    if (current === null || current === undefined) throw new TemplateError(`template: :1:${at}: executing "" at <.${names.join('.')}>: nil pointer evaluating interface {}.${name}`)
    if (typeof current !== 'object') throw new TemplateError(`template: :1:${at}: executing "" at <.${names.join('.')}>: can't evaluate field ${name} in type ${goType(current)}`)
    if (!(name in current)) throw new TemplateError(`template: :1:${at}: executing "" at <.${names.join('.')}>: map has no entry for key ${JSON.stringify(name)}`)
    current = (current as Record<string, unknown>)[name]
  }
  return typeof current === 'function' ? (current as (...args: unknown[]) => unknown)(...args) : current
}

function evaluateTerm(term: Term, dot: unknown, scope: Scope, args: unknown[] = []): unknown {
  switch (term.kind) {
    case 'field': return fieldsOf(dot, term.names, term.at, args)
    case 'variable': return fieldsOf(scope.get(term.name), term.names, 0, args)
    case 'nested': return fieldsOf(evaluate(term.pipe, dot, scope), term.names, 0, args)
    case 'value': return term.value
    case 'call': return functions[term.name]!(...args)
  }
}

function evaluate(pipe: Pipe, dot: unknown, scope: Scope): unknown {
  let value: unknown
  pipe.commands.forEach(([head, ...rest], index) => {
    if (head!.kind === 'call' && lazy.has(head!.name)) {
      const stop = head!.name === 'or'
      const before = value
      const makers = [...rest.map((term) => () => evaluateTerm(term, dot, scope)), ...(index > 0 ? [() => before] : [])]
      for (const make of makers) {
        value = make()
        if (truth(value) === stop) break
      }
      return
    }
    const args = rest.map((term) => evaluateTerm(term, dot, scope))
    if (index > 0) args.push(value)
    value = evaluateTerm(head!, dot, scope, args)
  })
  for (const name of pipe.declares) scope[pipe.assigns ? 'assign' : 'declare'](name, value)
  return value
}

function execute(nodes: readonly Node[], dot: unknown, scope: Scope): string {
  let out = ''
  for (const node of nodes) {
    if (node.kind === 'text') out += node.text
    else if (node.kind === 'pipe') {
      const value = evaluate(node.pipe, dot, scope)
      if (node.pipe.declares.length === 0) out += print(value)
    } else if (node.kind === 'range') out += executeRange(node, dot, scope)
    else {
      const inside = new Scope(scope)
      const value = evaluate(node.pipe, dot, inside)
      if (truth(value)) out += execute(node.body, node.kind === 'with' ? value : dot, inside)
      else out += execute(node.otherwise, dot, inside)
    }
  }
  return out
}

function executeRange(node: Extract<Node, { kind: 'if' | 'with' | 'range' }>, dot: unknown, scope: Scope): string {
  const value = evaluate({ ...node.pipe, declares: [] }, dot, scope)
  const items: [unknown, unknown][] = Array.isArray(value) ? value.map((item, index) => [index, item]) : typeof value === 'number' ? Array.from({ length: value }, (_item, index) => [index, index])
    : typeof value === 'object' && value !== null ? Object.keys(value).toSorted().map((key) => [key, (value as Record<string, unknown>)[key]]) : []
  if (typeof value === 'string') throw new TemplateError(`range can't iterate over ${value}`)
  if (items.length === 0) return execute(node.otherwise, dot, new Scope(scope))
  return items.map(([key, item]) => {
    const { declares } = node.pipe
    const variables: [string, unknown][] = declares.length === 2 ? [[declares[0]!, key], [declares[1]!, item]] : declares.length === 1 ? [[declares[0]!, item]] : []
    return execute(node.body, item, new Scope(scope, variables))
  }).join('')
}

/** Compiles a template; what it returns renders a value. Both throw TemplateError. */
export function compileTemplate(source: string): (value: unknown) => string {
  const nodes = new Parser(source).parse()
  return (value) => execute(nodes, value, new Scope(undefined, [['$', value]]))
}
