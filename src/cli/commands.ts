import type { Command } from './command.ts'

/** One command: its names, the first of which its usage line shows, and how to load it. */
export interface Entry {
  names: readonly string[]
  short: string
  group: 'common' | 'plain' | 'hidden'
  load: () => Promise<Command>
}

/** A word that groups commands. */
export interface Noun { name: string, short: string }

/** The sections of the help. */
export const groups = [['common', 'Common Commands'], ['plain', 'Commands']] as const

export const nouns: readonly Noun[] = [
  { name: 'container', short: 'Manage containers' },
  { name: 'image', short: 'Manage images' },
  { name: 'job', short: 'Manage the work that the daemon does' },
  { name: 'network', short: 'Manage networks' },
  { name: 'registry', short: 'Run a registry' },
  { name: 'system', short: 'Manage the daemon' },
  { name: 'volume', short: 'Manage volumes' },
]

/** A command of containers: `berth NAME` and `berth container NAME`. */
const container = (name: string, short: string, load: Entry['load'], group: Entry['group'] = 'plain'): Entry => ({ names: [name, `container ${name}`], short, group, load })
const only = (name: string, short: string, load: Entry['load'], ...others: string[]): Entry => ({ names: [name, ...others], short, group: 'hidden', load })

const registry = () => import('./commands/registry.ts')
const volume = () => import('./commands/volume.ts')
const lifecycle = () => import('./commands/lifecycle.ts')

/** All commands. A command's file is loaded when it is run. */
export const entries: readonly Entry[] = [
  container('run', 'Create and run a new container from an image', async () => (await import('./commands/run.ts')).run, 'common'),
  container('exec', 'Execute a command in a running container', async () => (await import('./commands/exec.ts')).exec, 'common'),
  { names: ['ps', 'container ls', 'container list', 'container ps'], short: 'List containers', group: 'common', load: async () => (await import('./commands/ps.ts')).ps },
  { names: ['images', 'image ls', 'image list'], short: 'List images', group: 'common', load: async () => (await import('./commands/images.ts')).images },
  { names: ['version'], short: 'Show the version of the client and of the daemon', group: 'common', load: async () => (await import('./commands/system.ts')).version },
  { names: ['info', 'system info'], short: 'Show what the daemon has and can do', group: 'common', load: async () => (await import('./commands/system.ts')).info },
  container('attach', 'Attach local standard streams to a running container', async () => (await import('./commands/attach.ts')).attach),
  container('commit', 'Create a new image from a container\'s changes', async () => (await import('./commands/commit.ts')).commit),
  container('cp', 'Copy files between a container and the local file system', async () => (await import('./commands/cp.ts')).cp),
  container('create', 'Create a new container', async () => (await import('./commands/run.ts')).create),
  container('diff', 'Show what a container changed in its file system', async () => (await import('./commands/diff.ts')).diff),
  { names: ['events', 'system events'], short: 'Get events from the daemon as they happen', group: 'plain', load: async () => (await import('./commands/events.ts')).events },
  container('export', 'Export a container\'s file system as a tar archive', async () => (await import('./commands/export.ts')).exportContainer),
  { names: ['history', 'image history'], short: 'Show the history of an image', group: 'plain', load: async () => (await import('./commands/images.ts')).history },
  { names: ['import', 'image import'], short: 'Create an image from the contents of a tar archive', group: 'plain', load: async () => (await import('./commands/archives.ts')).importImage },
  { names: ['inspect'], short: 'Show all that is known of containers, images, networks and volumes', group: 'plain', load: async () => (await import('./commands/inspect.ts')).inspect },
  only('container inspect', 'Show all that is known of containers', async () => (await import('./commands/inspect.ts')).inspectContainers),
  only('image inspect', 'Show all that is known of images', async () => (await import('./commands/inspect.ts')).inspectImages),
  container('kill', 'Kill running containers', async () => (await lifecycle()).kill),
  { names: ['load', 'image load'], short: 'Load images from a tar archive or from standard input', group: 'plain', load: async () => (await import('./commands/archives.ts')).load },
  container('logs', 'Fetch the logs of a container', async () => (await import('./commands/logs.ts')).logs),
  container('pause', 'Pause all processes within containers', async () => (await lifecycle()).pause),
  { names: ['login'], short: 'Log in to a registry', group: 'plain', load: async () => (await registry()).login },
  { names: ['logout'], short: 'Log out from a registry', group: 'plain', load: async () => (await registry()).logout },
  container('port', 'List the ports that a container publishes', async () => (await import('./commands/port.ts')).port),
  { names: ['pull', 'image pull'], short: 'Download an image from a registry', group: 'common', load: async () => (await registry()).pull },
  { names: ['push', 'image push'], short: 'Upload an image to a registry', group: 'common', load: async () => (await registry()).push },
  only('container prune', 'Remove all stopped containers', async () => (await import('./commands/prune.ts')).pruneContainers),
  only('image prune', 'Remove unused images', async () => (await import('./commands/prune.ts')).pruneImages),
  only('system prune', 'Remove what is not used', async () => (await import('./commands/prune.ts')).pruneSystem),
  container('rename', 'Rename a container', async () => (await lifecycle()).rename),
  container('restart', 'Restart containers', async () => (await lifecycle()).restart),
  { names: ['rm', 'container rm', 'container remove'], short: 'Remove containers', group: 'plain', load: async () => (await lifecycle()).rm },
  { names: ['rmi', 'image rm', 'image remove'], short: 'Remove images', group: 'plain', load: async () => (await import('./commands/images.ts')).rmi },
  { names: ['save', 'image save'], short: 'Save images to a tar archive', group: 'plain', load: async () => (await import('./commands/archives.ts')).save },
  { names: ['search'], short: 'Search a registry for images', group: 'plain', load: async () => (await registry()).search },
  container('start', 'Start stopped containers', async () => (await import('./commands/start.ts')).start),
  container('stats', 'Show the use of resources by containers as it changes', async () => (await import('./commands/stats.ts')).stats),
  container('stop', 'Stop running containers', async () => (await lifecycle()).stop),
  { names: ['tag', 'image tag'], short: 'Give an image another name', group: 'plain', load: async () => (await import('./commands/images.ts')).tag },
  container('top', 'Show the running processes of a container', async () => (await import('./commands/top.ts')).top),
  container('unpause', 'Unpause all processes within containers', async () => (await lifecycle()).unpause),
  container('update', 'Change the limits of containers', async () => (await import('./commands/update.ts')).update),
  container('wait', 'Wait until containers stop, then print their exit codes', async () => (await lifecycle()).wait),
  only('network connect', 'Connect a container to a network', async () => (await import('./commands/network.ts')).connect),
  only('network create', 'Create a network', async () => (await import('./commands/network.ts')).create),
  only('network disconnect', 'Disconnect a container from a network', async () => (await import('./commands/network.ts')).disconnect),
  only('network impair', 'Limit and worsen what a container sends and receives', async () => (await import('./commands/network.ts')).impair),
  only('network inspect', 'Show all that is known of networks', async () => (await import('./commands/inspect.ts')).inspectNetworks),
  only('network ls', 'List networks', async () => (await import('./commands/network.ts')).ls, 'network list'),
  only('network prune', 'Remove all networks that no container uses', async () => (await import('./commands/prune.ts')).pruneNetworks),
  only('network rm', 'Remove networks', async () => (await import('./commands/network.ts')).rm, 'network remove'),
  only('system df', 'Show how much disk space is used', async () => (await import('./commands/df.ts')).df),
  only('registry serve', 'Serve a registry', async () => (await import('./commands/serve.ts')).serve),
  only('registry gc', 'Delete what a registry does not need any more', async () => (await import('./commands/serve.ts')).gc),
  only('job ls', 'List the jobs that the daemon runs', async () => (await import('./commands/job.ts')).ls, 'job list'),
  only('job cancel', 'Cancel jobs', async () => (await import('./commands/job.ts')).cancel),
  only('volume create', 'Create a volume', async () => (await volume()).create),
  only('volume ls', 'List volumes', async () => (await volume()).ls, 'volume list'),
  only('volume inspect', 'Show all that is known of volumes', async () => (await import('./commands/inspect.ts')).inspectVolumes),
  only('volume rm', 'Remove volumes', async () => (await volume()).rm, 'volume remove'),
  only('volume prune', 'Remove the volumes that no container has', async () => (await import('./commands/prune.ts')).pruneVolumes),
  only('volume snapshot', 'Keep a volume as it is now, under another name', async () => (await volume()).snapshot),
  only('volume clone', 'Make a volume with what another one has', async () => (await volume()).clone),
  only('volume rename', 'Rename a volume', async () => (await volume()).rename),
  only('volume export', 'Write what a volume has to a tar archive', async () => (await volume()).exportVolume),
  only('volume import', 'Unpack a tar archive into a volume', async () => (await volume()).importVolume),
  { names: ['completion'], short: 'Print the completion script of a shell', group: 'plain', load: async () => (await import('./commands/completion.ts')).completionOf(entries, nouns) },
]

/** The command that a line begins with, and how many of its words name it. */
export function findEntry(words: readonly string[]): { entry: Entry, length: 1 | 2 } | undefined {
  const two = words.slice(0, 2).join(' ')
  const double = words.length > 1 ? entries.find(({ names }) => names.includes(two)) : undefined
  if (double) return { entry: double, length: 2 }
  const single = entries.find(({ names }) => names.includes(words[0]!))
  return single && { entry: single, length: 1 }
}
