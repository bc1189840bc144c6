import { spawnSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { codeOf, system } from '../lib/errors.ts'
import { availableCapabilities } from '../libcontainer/capabilities.ts'
import { assembleExec } from '../libcontainer/container.ts'
import type { Hook, HookName, NamespaceType } from '../libcontainer/spec.ts'
import { INHERITED, execute } from './launch.ts'
import { cgroupOf, stateOf, type Files, type Kept, type Status } from './state.ts'
import type { Zygote } from '../sys/zygote.ts'

/** Runs a container's hooks of some kinds outside of it, one after the other, with its state on their standard input
 * (runtime-spec, "POSIX-platform Hooks"). Throws at the first that fails. */
export function runHooks(kept: Kept, names: readonly HookName[], status: Status): void {
  const input = JSON.stringify(stateOf(kept, status))
  for (const { name, hook } of hooksOf(kept, names)) {
    const { path, args, env, timeout } = hook
    const result = spawnSync(path, (args ?? [path]).slice(1), { argv0: args?.[0] ?? path, env: environment(env), input, cwd: kept.bundle, stdio: ['pipe', 'pipe', 'pipe'], ...(timeout && { timeout: timeout * 1000, killSignal: 'SIGKILL' as const }) })
    const code = codeOf(result.error)
    // EPIPE: it did not read its input, as it may
    if (result.error && code !== 'EPIPE') throw failure(name, path, code === 'ETIMEDOUT' ? `it did not end within ${timeout} s` : result.error.message)
    if (result.status !== 0) throw failure(name, path, `${result.signal ?? `exit status ${result.status}`}: ${result.stderr.toString().trim()}`)
  }
}

/** Runs hooks inside the container's namespaces: `createContainer` while the root is still the host's, `startContainer`
 * once it is the container's. */
export async function runHooksInside(zygote: Zygote, files: Files, kept: Kept, name: 'createContainer' | 'startContainer', status: Status): Promise<void> {
  const input = join(files.directory, 'hook-input')
  for (const { hook } of hooksOf(kept, [name])) {
    const { path, args, env = [], timeout } = hook
    writeFileSync(input, JSON.stringify(stateOf(kept, status)))
    const all = [...availableCapabilities()]
    const run = join(files.directory, `hook-${randomBytes(4).toString('hex')}`)
    const program = assembleExec({
      pid: kept.pid, namespaces: namespacesOf(kept), cgroup: cgroupOf(kept), stdio: { kind: 'inherit', ...INHERITED, stdin: input }, program: path, files: { events: `${run}-events`, exit: `${run}-exit`, pid: `${run}-pid` },
      process: { user: { uid: 0, gid: 0 }, cwd: '/', args: args?.length ? args : [path], env, capabilities: { bounding: all, effective: all, permitted: all } },
    })
    const running = await execute(zygote, program, `${run}-events`)
    const expired = timeout ? setTimeout(() => process.kill(running.pid, 'SIGKILL'), timeout * 1000) : undefined
    const code = await running.exited
    clearTimeout(expired)
    running.release()
    for (const file of ['events', 'exit', 'pid']) rmSync(`${run}-${file}`, { force: true })
    if (code !== 0) throw failure(name, path, `exit status ${code}`)
  }
}

const hooksOf = ({ spec }: Kept, names: readonly HookName[]): { name: HookName, hook: Hook }[] => names.flatMap((name) => (spec.hooks?.[name] ?? []).map((hook) => ({ name, hook })))

const environment = (env: readonly string[] = []): Record<string, string> => Object.fromEntries(env.map((entry) => [entry.split('=', 1)[0]!, entry.slice(entry.indexOf('=') + 1)]))

const failure = (name: HookName, path: string, why: string): Error => system(`error running ${name} hook ${path}: ${why}`)

/** The namespaces that the container has for itself, or shares with something other than the host. */
export const namespacesOf = ({ spec }: Kept): NamespaceType[] => (spec.linux?.namespaces ?? []).map(({ type }) => type).filter((type) => type !== 'time')
