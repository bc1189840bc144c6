import { BERTH_VERSION, API_VERSION } from '../../api/version.ts'
import { binarySize } from '../../lib/units.ts'
import { messageOf } from '../../lib/errors.ts'
import { command } from '../command.ts'
import { templateOf } from '../format/table.ts'
import { goJson } from '../../lib/template.ts'

const format = { type: 'string', short: 'f', help: "Format output using a custom template: 'json', or a Go template 'TEMPLATE'" } as const

interface ServerVersion { Version: string, ApiVersion: string, MinAPIVersion: string, Os: string, Arch: string, KernelVersion: string, Components?: { Name: string, Version: string, Details: Record<string, string> }[] }

export const version = command({
  usage: '',
  args: [0, 0],
  flags: { format },
  async run({ flags, session, console }) {
    const client = { Version: BERTH_VERSION, ApiVersion: session.endpoint.version || API_VERSION, DefaultAPIVersion: API_VERSION, NodeVersion: process.version, Os: process.platform, Arch: process.arch === 'x64' ? 'amd64' : process.arch, Context: 'default' }
    const server = await (await session.client()).json<ServerVersion>('GET', '/version').catch((error: unknown) => messageOf(error))
    const found = typeof server === 'string' ? null : server
    if (flags.format) console.print(flags.format === 'json' ? goJson({ Client: client, Server: found }) : templateOf(flags.format)({ Client: client, Server: found }))
    else {
      console.print(['Client:', ` Version:           ${client.Version}`, ` API version:       ${client.ApiVersion}`, ` Node version:      ${client.NodeVersion}`, ` OS/Arch:           ${client.Os}/${client.Arch}`].join('\n'))
      if (found) console.print(['', 'Server:', ' Engine:', `  Version:          ${found.Version}`, `  API version:      ${found.ApiVersion} (minimum version ${found.MinAPIVersion})`, `  Kernel:           ${found.KernelVersion}`, `  OS/Arch:          ${found.Os}/${found.Arch}`].join('\n'))
    }
    if (typeof server === 'string') {
      console.complain(server)
      return 1
    }
    return 0
  },
})

interface Info {
  Containers: number, ContainersRunning: number, ContainersPaused: number, ContainersStopped: number, Images: number, ServerVersion: string, Driver: string, DriverStatus: [string, string][] | null
  LoggingDriver: string, CgroupDriver: string, CgroupVersion: string, Plugins: Record<string, string[] | null>, DefaultRuntime: string, SecurityOptions: string[] | null, KernelVersion: string, OperatingSystem: string
  OSType: string, Architecture: string, NCPU: number, MemTotal: number, Name: string, ID: string, DockerRootDir: string, Debug: boolean, Labels: string[] | null, LiveRestoreEnabled: boolean, Warnings: string[] | null
}

export const info = command({
  usage: '',
  args: [0, 0],
  flags: { format },
  async run({ flags, session, console }) {
    const facts = await (await session.client()).json<Info>('GET', '/info')
    if (flags.format) return console.print(flags.format === 'json' ? goJson(facts) : templateOf(flags.format)(facts))
    const lines = [
      'Client:', ` Version:    ${BERTH_VERSION}`, '', 'Server:', ` Containers: ${facts.Containers}`, `  Running: ${facts.ContainersRunning}`, `  Paused: ${facts.ContainersPaused}`, `  Stopped: ${facts.ContainersStopped}`,
      ` Images: ${facts.Images}`, ` Server Version: ${facts.ServerVersion}`, ` Storage Driver: ${facts.Driver}`, ...(facts.DriverStatus ?? []).map(([name, value]) => `  ${name}: ${value}`),
      ` Logging Driver: ${facts.LoggingDriver}`, ` Cgroup Driver: ${facts.CgroupDriver}`, ` Cgroup Version: ${facts.CgroupVersion}`, ' Plugins:', ...Object.entries(facts.Plugins).filter(([, names]) => names?.length).map(([kind, names]) => `  ${kind}: ${names!.join(' ')}`),
      ` Default Runtime: ${facts.DefaultRuntime}`, ' Security Options:', ...(facts.SecurityOptions ?? []).map((option) => `  ${option.replace(/^name=/, '').split(',')[0]}`), ` Kernel Version: ${facts.KernelVersion}`, ` Operating System: ${facts.OperatingSystem}`,
      ` OSType: ${facts.OSType}`, ` Architecture: ${facts.Architecture}`, ` CPUs: ${facts.NCPU}`, ` Total Memory: ${binarySize(facts.MemTotal)}`, ` Name: ${facts.Name}`, ` ID: ${facts.ID}`, ` Docker Root Dir: ${facts.DockerRootDir}`,
      ` Debug Mode: ${facts.Debug}`, ...(facts.Labels?.length ? [' Labels:', ...facts.Labels.map((label) => `  ${label}`)] : []), ` Live Restore Enabled: ${facts.LiveRestoreEnabled}`,
    ]
    console.print(lines.join('\n'))
    for (const warning of facts.Warnings ?? []) console.complain(warning)
  },
})
