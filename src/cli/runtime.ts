import { existsSync, readFileSync, writeFileSync, appendFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { ReadStream } from 'node:tty'
import { execFileSync } from 'node:child_process'
import { BERTH_VERSION } from '../api/version.ts'
import { invalid, messageOf } from '../lib/errors.ts'
import { parseSignal } from '../lib/signals.ts'
import { findCgroupTrees } from '../libcontainer/cgroups/cgroup.ts'
import type { ProcessSpec, Resources } from '../libcontainer/spec.ts'
import { readProcess } from '../runtime/bundle.ts'
import { createContainer, leave, startContainer } from '../runtime/create.ts'
import { exampleSpec, features } from '../runtime/describe.ts'
import { execInContainer } from '../runtime/exec.ts'
import { openZygote, type Running } from '../runtime/launch.ts'
import { deleteContainer, killContainer, processesOf, readState, setPaused, statsOf, updateContainer } from '../runtime/manage.ts'
import { loadAll, statusOf } from '../runtime/state.ts'
import { sendSignal } from '../sys/signal.ts'
import { makeRaw, setWindowSize } from '../sys/terminal.ts'
import { ExitError, UsageError, command, parseWords, type Command, type Flags, type Invocation } from './command.ts'
import type { Console } from './console.ts'
import { layOut } from './format/table.ts'
import { commandHelp, flagTable } from './help.ts'
import { Session } from './session.ts'
import { onSignals } from './signals.ts'
import { terminalSize } from './terminal.ts'

/** The command line of an OCI runtime, as runc has it (opencontainers/runtime-tools, "Command-line interface"), for
 * programs that call one: `berth runtime [GLOBAL OPTIONS] COMMAND …`, or `bin/berth-runtime` in runc's place. */

const globalFlags = {
  root: { type: 'string', otherwise: '/run/berth-runtime', help: 'Directory of the state of containers' },
  log: { type: 'string', help: 'File to write errors to, besides stderr' },
  'log-format': { type: 'string', otherwise: 'text', help: "Format of that file: 'text' or 'json'" },
  'systemd-cgroup': { type: 'bool', help: 'cgroupsPath is of the form "slice:prefix:name"' },
  debug: { type: 'bool', help: 'Show where errors come from' },
  rootless: { type: 'string', help: 'Taken for callers\' sake, without effect', hidden: true },
  criu: { type: 'string', help: 'Taken for callers\' sake, without effect', hidden: true },
  version: { type: 'bool', short: 'v', help: 'Print the version' },
} as const satisfies Flags

type Globals = Invocation<typeof globalFlags>['flags']

const createFlags = {
  bundle: { type: 'string', short: 'b', otherwise: '.', help: 'Directory of the bundle' },
  'console-socket': { type: 'string', help: 'Socket that gets the terminal' },
  'pid-file': { type: 'string', help: 'File to write the process\'s pid to' },
  'preserve-fds': { type: 'int', help: 'How many descriptors from 3 on the process gets' },
  'no-pivot': { type: 'bool', help: 'Taken for callers\' sake: the root is always pivoted', hidden: true },
  'no-new-keyring': { type: 'bool', help: 'Taken for callers\' sake, without effect', hidden: true },
} as const satisfies Flags

const detach = { type: 'bool', short: 'd', help: 'Leave the process to itself' } as const

type CreateFlags = Invocation<typeof createFlags>['flags']

const createOptions = (globals: Globals, id: string, flags: CreateFlags, foreground: boolean) => ({
  root: globals.root, id, bundle: flags.bundle, preserveFds: flags['preserve-fds'], systemdCgroup: globals['systemd-cgroup'], foreground,
  ...(flags['console-socket'] && { consoleSocket: flags['console-socket'] }), ...(flags['pid-file'] && { pidFile: flags['pid-file'] }),
})

/** Connects a process in the foreground to this terminal and waits for its end. Signals go to it. */
async function attend(running: Running, pid: number, terminal: number | undefined, console: Console): Promise<number> {
  const quiet = onSignals(['SIGHUP', 'SIGINT', 'SIGQUIT', 'SIGTERM', 'SIGUSR2', 'SIGCONT'], (signal) => sendSignal(pid, signal))
  let restore: (() => void) | undefined
  let over: Promise<unknown> = Promise.resolve()
  if (terminal !== undefined) {
    const master = new ReadStream(terminal)
    const resize = (): void => {
      const [rows, columns] = terminalSize(console)
      if (rows) setWindowSize(terminal, rows, columns)
    }
    resize()
    console.stdout.on('resize', resize)
    if (console.stdin.isTTY) restore = makeRaw(0)
    over = new Promise((done) => master.once('close', done))
    master.on('error', () => master.destroy()) // its end comes as EIO
    master.on('data', (data: Buffer) => console.stdout.write(data))
    console.stdin.on('data', (data: Buffer) => (master as unknown as NodeJS.WritableStream).write(data))
  }
  try {
    const code = await running.exited
    await Promise.race([over, new Promise((done) => setTimeout(done, 1000))])
    return code
  } finally {
    restore?.()
    running.release()
    quiet()
  }
}

const one = { usage: 'CONTAINER-ID', args: [1, 1] as const }

/** The commands, which all need the global options. */
function commandsOf(globals: Globals): Record<string, { short: string, command: Command }> {
  const { root } = globals
  return {
    create: { short: 'Make a container, whose process waits for start', command: command({ ...one, flags: createFlags, async run({ args: [id], flags }) {
      const zygote = openZygote(flags['preserve-fds'])
      leave(await createContainer(zygote, createOptions(globals, id!, flags, false)))
    } }) },
    start: { short: 'Execute the process of a created container', command: command({ ...one, flags: {}, run: ({ args: [id] }) => startContainer(openZygote(), root, id!) }) },
    run: { short: 'Make a container and execute its process', command: command({ ...one, flags: { ...createFlags, detach, keep: { type: 'bool', help: 'Keep the container when it has ended' } }, async run({ args: [id], flags, console }) {
      const zygote = openZygote(flags['preserve-fds'])
      const created = await createContainer(zygote, createOptions(globals, id!, flags, !flags.detach))
      try {
        if (flags.detach) leave(created)
        await startContainer(zygote, root, id!)
      } catch (error) {
        created.running.release()
        await deleteContainer(root, id!, true)
        throw error
      }
      if (flags.detach) return 0
      const code = await attend(created.running, created.kept.pid, created.terminal, console)
      if (!flags.keep) await deleteContainer(root, id!, true)
      return code
    } }) },
    state: { short: 'Show the state of a container', command: command({ ...one, flags: {}, run({ args: [id], console }) {
      console.print(JSON.stringify(readState(root, id!), null, 2))
      return Promise.resolve()
    } }) },
    kill: { short: 'Send a signal to a container\'s process (default SIGTERM)', command: command({ usage: 'CONTAINER-ID [SIGNAL]', args: [1, 2], flags: { all: { type: 'bool', short: 'a', help: 'Send it to all processes of the container' } }, run({ args: [id, signal = 'SIGTERM'], flags }) {
      killContainer(root, id!, parseSignal(signal), flags.all)
      return Promise.resolve()
    } }) },
    delete: { short: 'Remove what is left of a container', command: command({ ...one, flags: { force: { type: 'bool', short: 'f', help: 'Kill it first if it runs' } }, run: ({ args: [id], flags }) => deleteContainer(root, id!, flags.force) }) },
    exec: { short: 'Execute a further process in a container', command: execCommand(globals) },
    list: { short: 'List containers', command: command({ usage: '', args: [0, 0], flags: { format: { type: 'string', short: 'f', otherwise: 'table', help: "'table' or 'json'" }, quiet: { type: 'bool', short: 'q', help: 'Only ids' } }, run({ flags, console }) {
      const all = loadAll(root).map((found) => ({ ociVersion: found.kept.spec.ociVersion, id: found.kept.id, pid: found.kept.pid, status: statusOf(found), bundle: found.kept.bundle, rootfs: found.kept.rootfs, created: found.kept.created, annotations: found.kept.spec.annotations ?? {}, owner: found.kept.owner }))
        .map((entry) => (entry.status === 'stopped' ? { ...entry, pid: 0 } : entry))
      if (flags.quiet) for (const { id } of all) console.print(id)
      else if (flags.format === 'json') console.print(JSON.stringify(all))
      else for (const line of layOut([['ID', 'PID', 'STATUS', 'BUNDLE', 'CREATED', 'OWNER'], ...all.map(({ id, pid, status, bundle, created, owner }) => [id, String(pid), status, bundle, created, owner])])) console.print(line)
      return Promise.resolve()
    } }) },
    pause: { short: 'Freeze the processes of a container', command: command({ ...one, flags: {}, run: ({ args: [id] }) => setPaused(root, id!, true) }) },
    resume: { short: 'Thaw the processes of a container', command: command({ ...one, flags: {}, run: ({ args: [id] }) => setPaused(root, id!, false) }) },
    ps: { short: 'Show the processes of a container', command: command({ usage: 'CONTAINER-ID [ps OPTIONS]', args: [1, Infinity], passThrough: true, flags: { format: { type: 'string', short: 'f', otherwise: 'table', help: "'table' or 'json'" } }, run({ args: [id, ...options], flags, console }) {
      const pids = processesOf(root, id!)
      if (flags.format === 'json') console.print(JSON.stringify(pids))
      else {
        const [head = '', ...lines] = execFileSync('ps', options.length ? options : ['-ef'], { encoding: 'utf8' }).trimEnd().split('\n')
        const column = head.trim().split(/\s+/).indexOf('PID')
        console.print([head, ...lines.filter((line) => pids.includes(Number(line.trim().split(/\s+/)[column])))].join('\n'))
      }
      return Promise.resolve()
    } }) },
    events: { short: 'Show figures of a container, once or again and again', command: command({ ...one, flags: { stats: { type: 'bool', help: 'Show them once' }, interval: { type: 'duration', otherwise: 5e9, help: 'Time between two' } }, async run({ args: [id], flags, console }) {
      for (;;) {
        console.print(JSON.stringify(statsOf(root, id!)))
        if (flags.stats) return
        await new Promise((done) => setTimeout(done, flags.interval / 1e6))
      }
    } }) },
    update: { short: 'Change limits of a container', command: updateCommand(globals) },
    spec: { short: 'Write an example of config.json', command: command({ usage: '', args: [0, 0], flags: { bundle: createFlags.bundle }, run({ flags }) {
      const path = join(flags.bundle, 'config.json')
      if (existsSync(path)) throw invalid(`File ${path} exists. Remove it first`)
      writeFileSync(path, `${JSON.stringify(exampleSpec(), null, 2)}\n`)
      return Promise.resolve()
    } }) },
    features: { short: 'Show what this runtime can do', command: command({ usage: '', args: [0, 0], flags: {}, run({ console }) {
      console.print(JSON.stringify(features(findCgroupTrees().version), null, 2))
      return Promise.resolve()
    } }) },
  }
}

const execCommand = (globals: Globals): Command => command({
  usage: 'CONTAINER-ID COMMAND [ARG...]',
  args: [1, Infinity],
  passThrough: true,
  flags: {
    'console-socket': createFlags['console-socket'], 'pid-file': createFlags['pid-file'], 'preserve-fds': createFlags['preserve-fds'], detach,
    'additional-gids': { type: 'list', short: 'g', help: 'Further groups, by number' },
    cap: { type: 'list', short: 'c', help: 'Add a capability' },
    cwd: { type: 'string', help: 'Working directory' },
    env: { type: 'list', short: 'e', help: 'Set an environment variable' },
    'no-new-privs': { type: 'bool', help: 'Set no_new_privs' },
    process: { type: 'string', short: 'p', help: 'File of JSON that describes the process' },
    tty: { type: 'bool', short: 't', help: 'Make a terminal' },
    user: { type: 'string', short: 'u', help: 'UID[:GID]' },
    'ignore-paused': { type: 'bool', help: 'Taken for callers\' sake, without effect', hidden: true },
    apparmor: { type: 'string', help: 'AppArmor profile' }, 'process-label': { type: 'string', help: 'SELinux label' },
  },
  async run({ args: [id, ...words], flags, console }) {
    if (!flags.process && words.length === 0) throw new UsageError('exec args cannot be empty')
    const change = (own: ProcessSpec): ProcessSpec => {
      if (flags.process) return readProcess(flags.process)
      const [uid, gid] = flags.user ? flags.user.split(':').map(Number) : []
      if (uid !== undefined && !(uid >= 0) || gid !== undefined && !(gid >= 0)) throw invalid(`invalid user ${JSON.stringify(flags.user)}: numbers are wanted`)
      const caps = (set: string[] | undefined): string[] => [...set ?? [], ...flags.cap]
      return {
        ...own, terminal: flags.tty, args: words, cwd: flags.cwd || own.cwd, env: [...own.env ?? [], ...flags.env], noNewPrivileges: flags['no-new-privs'] || (own.noNewPrivileges ?? false),
        user: { ...own.user, ...(uid !== undefined && { uid, gid: gid ?? 0 }), additionalGids: [...own.user.additionalGids ?? [], ...flags['additional-gids'].map(Number)] },
        ...(flags.cap.length && { capabilities: { ...own.capabilities, bounding: caps(own.capabilities?.bounding), effective: caps(own.capabilities?.effective), permitted: caps(own.capabilities?.permitted) } }),
        ...(flags.apparmor && { apparmorProfile: flags.apparmor }), ...(flags['process-label'] && { selinuxLabel: flags['process-label'] }),
      }
    }
    const zygote = openZygote(flags['preserve-fds'])
    const { running, terminal } = await execInContainer(zygote, {
      root: globals.root, id: id!, process: change, preserveFds: flags['preserve-fds'], ...(flags['console-socket'] && { consoleSocket: flags['console-socket'] }), ...(flags['pid-file'] && { pidFile: flags['pid-file'] }),
    })
    if (!flags.detach) return await attend(running, running.pid, terminal, console)
    process.kill(running.monitorPid, 'SIGKILL')
    return 0
  },
})

const updateCommand = ({ root }: Globals): Command => command({
  ...one,
  flags: {
    resources: { type: 'string', short: 'r', help: "File of JSON with the limits, as linux.resources; '-' is standard input" },
    'blkio-weight': { type: 'int', help: 'Weight of block i/o' }, 'cpu-period': { type: 'int', help: 'CPU period in microseconds' }, 'cpu-quota': { type: 'int', help: 'CPU time in a period, in microseconds' },
    'cpu-share': { type: 'int', help: 'CPU shares' }, 'cpu-burst': { type: 'int', help: 'CPU burst in microseconds' }, 'cpuset-cpus': { type: 'string', help: 'CPUs' }, 'cpuset-mems': { type: 'string', help: 'Memory nodes' },
    memory: { type: 'bytes', help: 'Memory limit' }, 'memory-reservation': { type: 'bytes', help: 'Soft limit of memory' }, 'memory-swap': { type: 'bytes', help: 'Memory and swap together' }, 'pids-limit': { type: 'int', help: 'How many processes' },
  },
  run({ args: [id], flags, given }) {
    const resources = flags.resources ? JSON.parse(readFileSync(flags.resources === '-' ? 0 : flags.resources, 'utf8')) as Resources : {
      memory: { ...(given.has('memory') && { limit: flags.memory }), ...(given.has('memory-reservation') && { reservation: flags['memory-reservation'] }), ...(given.has('memory-swap') && { swap: flags['memory-swap'] }) },
      cpu: {
        ...(given.has('cpu-share') && { shares: flags['cpu-share'] }), ...(given.has('cpu-quota') && { quota: flags['cpu-quota'] }), ...(given.has('cpu-period') && { period: flags['cpu-period'] }), ...(given.has('cpu-burst') && { burst: flags['cpu-burst'] }),
        ...(flags['cpuset-cpus'] && { cpus: flags['cpuset-cpus'] }), ...(flags['cpuset-mems'] && { mems: flags['cpuset-mems'] }),
      },
      ...(given.has('pids-limit') && { pids: { limit: flags['pids-limit'] } }), ...(given.has('blkio-weight') && { blockIO: { weight: flags['blkio-weight'] } }),
    }
    updateContainer(root, id!, resources)
    return Promise.resolve()
  },
})

function help(columns: number): string {
  const rows = Object.entries(commandsOf({} as Globals)).toSorted(([a], [b]) => (a < b ? -1 : 1)).map(([name, { short }]) => `  ${name.padEnd(10)}${short}`)
  return `Usage:  berth runtime [OPTIONS] COMMAND\n\nRuns containers of OCI bundles\n\nCommands:\n${rows.join('\n')}\n\nGlobal Options:\n${flagTable(globalFlags, columns)}\n`
}

/** Runs one command of the runtime. Returns its exit code: the process's for `run` and `exec`, else 0, or 1. */
export async function runRuntime(argv: readonly string[], env: NodeJS.ProcessEnv, console: Console): Promise<number> {
  const columns = console.stdout.columns ?? 80
  let globals: Globals | undefined
  try {
    // urfave/cli, which runc's callers know, takes single dashes for long names too
    const { args: [name, ...words], flags, help: asked } = parseWords('berth runtime', { flags: globalFlags, args: [0, Infinity], passThrough: true }, argv.map((word) => word.replace(/^-(?=\w{2,}(=|$))/, '--')))
    globals = { ...flags, root: resolve((flags as Globals).root) } as Globals
    if (globals.version) return console.print(`berth runtime version ${BERTH_VERSION}\nspec: 1.2.0`), 0
    if (!name || asked || name === 'help') return console.stdout.write(help(columns)), 0
    const found = commandsOf(globals)[name]
    if (!found) throw new UsageError(`berth runtime: ${JSON.stringify(name)} is not a command`)
    const { help: askedHere, ...parsed } = parseWords(`berth runtime ${name}`, found.command, words)
    if (askedHere) return console.stdout.write(commandHelp({ names: [name], short: found.short }, found.command, `runtime ${name}`, columns)), 0
    return await found.command.run({ ...parsed, session: new Session({}, env), console }) ?? 0
  } catch (error) {
    const message = globals?.debug ? (error as Error).stack ?? messageOf(error) : messageOf(error)
    console.complain(message)
    if (globals?.log) appendFileSync(globals.log, globals['log-format'] === 'json' ? `${JSON.stringify({ level: 'error', msg: message, time: new Date().toISOString() })}\n` : `time="${new Date().toISOString()}" level=error msg=${JSON.stringify(message)}\n`)
    return error instanceof ExitError ? error.exitCode : 1
  }
}
