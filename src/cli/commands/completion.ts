import { command, ExitError, type Flags } from '../command.ts'
import type { Entry, Noun } from '../commands.ts'

/** The words of one command line position, for a shell to offer. */
interface Node { path: string, verbs: string[], flags: string[], takes: 'container' | 'image' | 'file' }

/** Which kind of names a usage line asks for. */
const kindOf = (usage: string): Node['takes'] => (usage.startsWith('CONTAINER') ? 'container' : /^(SOURCE_)?IMAGE|^\[?REPOSITORY/.test(usage) ? 'image' : 'file')

const flagWords = (flags: Flags): string[] => Object.entries(flags).filter(([, { hidden }]) => !hidden).flatMap(([name, { short }]) => [`--${name}`, ...(short ? [`-${short}`] : [])])

async function nodes(entries: readonly Entry[], nouns: readonly Noun[]): Promise<Node[]> {
  const found: Node[] = [
    { path: '', verbs: [...new Set([...entries.flatMap(({ names }) => names.filter((name) => !name.includes(' '))), ...nouns.map(({ name }) => name), 'daemon', 'help'])].toSorted(), flags: ['--help', '--host', '-H', '--version'], takes: 'file' },
    ...nouns.map(({ name }): Node => ({ path: name, verbs: entries.flatMap(({ names }) => names.filter((word) => word.startsWith(`${name} `)).map((word) => word.slice(name.length + 1))).toSorted(), flags: ['--help'], takes: 'file' })),
  ]
  for (const { names, load } of entries) {
    const { flags, usage } = await load()
    for (const path of names) found.push({ path, verbs: [], flags: [...flagWords(flags), '--help'], takes: kindOf(usage) })
  }
  return found
}

const bash = (all: Node[]): string => `# bash completion for berth; to use it now: source <(berth completion bash)
_berth() {
  local cur=\${COMP_WORDS[COMP_CWORD]} path="" word
  for word in "\${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    case $word in
      -*) ;;
      *) case "$path $word" in
${all.filter(({ path }) => path).map(({ path }) => `        "${path.includes(' ') ? path : ` ${path}`}") path="${path}" ;;`).join('\n')}
      esac ;;
    esac
  done
  local verbs="" flags="" takes=file
  case $path in
${all.map(({ path, verbs, flags, takes }) => `    "${path}") verbs="${verbs.join(' ')}" flags="${flags.join(' ')}" takes=${takes} ;;`).join('\n')}
  esac
  if [[ $cur == -* ]]; then COMPREPLY=($(compgen -W "$flags" -- "$cur"))
  elif [[ -n $verbs ]]; then COMPREPLY=($(compgen -W "$verbs" -- "$cur"))
  elif [[ $takes == container ]]; then COMPREPLY=($(compgen -W "$(berth ps -a --format '{{.Names}}' 2>/dev/null)" -- "$cur"))
  elif [[ $takes == image ]]; then COMPREPLY=($(compgen -W "$(berth images --format '{{.Repository}}:{{.Tag}}' 2>/dev/null)" -- "$cur"))
  else COMPREPLY=($(compgen -f -- "$cur"))
  fi
}
complete -F _berth berth
`

const zsh = (all: Node[]): string => `#compdef berth
# zsh completion for berth; to use it now: source <(berth completion zsh)
autoload -Uz bashcompinit && bashcompinit
${bash(all)}`

const quote = (text: string): string => `'${text.replaceAll("'", "\\'")}'`

const fish = (all: Node[]): string => {
  const lines = ['# fish completion for berth; to use it now: berth completion fish | source', 'complete -c berth -f']
  for (const { path, verbs, flags, takes } of all) {
    const words = path.split(' ').filter(Boolean)
    const seen = words.length ? words.map((word) => `__fish_seen_subcommand_from ${word}`).join('; and ') : '__fish_use_subcommand'
    const top = words.length === 1 && verbs.length ? `${seen}; and not __fish_seen_subcommand_from ${verbs.join(' ')}` : seen
    if (verbs.length) lines.push(`complete -c berth -n ${quote(top)} -a ${quote(verbs.join(' '))}`)
    for (const flag of flags) lines.push(`complete -c berth -n ${quote(seen)} ${flag.startsWith('--') ? `-l ${flag.slice(2)}` : `-s ${flag.slice(1)}`}`)
    if (takes === 'container') lines.push(`complete -c berth -n ${quote(seen)} -a "(berth ps -a --format '{{.Names}}' 2>/dev/null)"`)
    if (takes === 'image') lines.push(`complete -c berth -n ${quote(seen)} -a "(berth images --format '{{.Repository}}:{{.Tag}}' 2>/dev/null)"`)
  }
  return `${lines.join('\n')}\n`
}

const shells: Record<string, (all: Node[]) => string> = { bash, zsh, fish }

/** The command that prints the completion script of all commands. */
export const completionOf = (entries: readonly Entry[], nouns: readonly Noun[]) => command({
  usage: 'bash|zsh|fish',
  args: [1, 1],
  flags: {},
  async run({ args: [shell], console }) {
    const script = shells[shell!]
    if (!script) throw new ExitError(1, `no completion for ${JSON.stringify(shell)}: there is bash, zsh and fish`)
    console.stdout.write(script(await nodes(entries, nouns)))
  },
})
