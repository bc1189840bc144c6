import type { Client } from '../../api/client.ts'
import { isKind, messageOf } from '../../lib/errors.ts'
import { ExitError, command, type Invocation } from '../command.ts'
import { templateOf } from '../format/table.ts'
import { goJson } from '../../lib/template.ts'
import { containerPath, imagePath, networkPath, volumePath } from '../targets.ts'

type Kind = 'container' | 'image' | 'network' | 'volume'

const find: Record<Kind, (client: Client, name: string, size: boolean) => Promise<unknown>> = {
  container: (client, name, size) => client.json<unknown>('GET', containerPath(name, '/json'), { query: { size } }),
  image: (client, name) => client.json<unknown>('GET', imagePath(name, '/json')),
  network: (client, name) => client.json<unknown>('GET', networkPath(name)),
  volume: (client, name) => client.json<unknown>('GET', volumePath(name)),
}

const format = { type: 'string', short: 'f', help: "Format output using a custom template: 'json', or a Go template 'TEMPLATE'" } as const
const size = { type: 'bool', short: 's', help: 'Display total file sizes if the type is container' } as const

/** The object of a name: the first kind that has it. */
async function lookUp(client: Client, kinds: readonly Kind[], name: string, withSize: boolean): Promise<unknown> {
  for (const kind of kinds) {
    try {
      return await find[kind](client, name, withSize)
    } catch (error) {
      if (!isKind(error, 'not-found')) throw error
    }
  }
  throw new ExitError(1, kinds.length === 1 ? `Error response from daemon: ${kinds[0] === 'network' ? `network ${name} not found` : kinds[0] === 'volume' ? `get ${name}: no such volume` : `No such ${kinds[0]}: ${name}`}` : `Error: No such object: ${name}`)
}

async function show({ args, session, console }: Pick<Invocation, 'args' | 'session' | 'console'>, kinds: readonly Kind[], options: { format: string, size: boolean }): Promise<number> {
  const client = await session.client()
  const render = options.format && options.format !== 'json' ? templateOf(options.format) : undefined
  const found: unknown[] = []
  const failures: string[] = []
  for (const name of args) {
    try {
      found.push(await lookUp(client, kinds, name, options.size))
    } catch (error) {
      failures.push(messageOf(error))
    }
  }
  if (!options.format) console.print(JSON.stringify(found, null, 4))
  else if (!render) console.print(goJson(found))
  else {
    for (const value of found) {
      try {
        console.print(render(value))
      } catch (error) {
        console.print('')
        failures.push(`template parsing error: ${messageOf(error)}`)
        break
      }
    }
  }
  for (const failure of failures) console.complain(failure)
  return failures.length ? 1 : 0
}

export const inspect = command({
  usage: 'NAME|ID [NAME|ID...]',
  args: [1, Infinity],
  flags: { format, size, type: { type: 'string', help: 'Only inspect objects of the given type' } },
  run(invocation) {
    const { type } = invocation.flags
    if (type && !Object.hasOwn(find, type)) throw new ExitError(1, `${JSON.stringify(type)} is not a valid value for --type`)
    return show(invocation, type ? [type as Kind] : ['container', 'image', 'network', 'volume'], invocation.flags)
  },
})

export const inspectContainers = command({
  usage: 'CONTAINER [CONTAINER...]',
  args: [1, Infinity],
  flags: { format, size: { ...size, help: 'Display total file sizes' } },
  run: (invocation) => show(invocation, ['container'], invocation.flags),
})

export const inspectImages = command({
  usage: 'IMAGE [IMAGE...]',
  args: [1, Infinity],
  flags: { format },
  run: (invocation) => show(invocation, ['image'], { ...invocation.flags, size: false }),
})

export const inspectNetworks = command({
  usage: 'NETWORK [NETWORK...]',
  args: [1, Infinity],
  flags: { format, verbose: { type: 'bool', short: 'v', help: 'Verbose output for diagnostics' } },
  run: (invocation) => show(invocation, ['network'], { ...invocation.flags, size: false }),
})

export const inspectVolumes = command({
  usage: 'VOLUME [VOLUME...]',
  args: [1, Infinity],
  flags: { format },
  run: (invocation) => show(invocation, ['volume'], { ...invocation.flags, size: false }),
})
