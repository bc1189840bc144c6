import { messageOf } from '../lib/errors.ts'
import { goDuration } from '../lib/units.ts'
import { sendSignal } from '../sys/signal.ts'
import { parseExecBody } from './body.ts'
import type { Container } from './container.ts'
import type { ContainerDeps } from './deps.ts'
import { launchExec, execEvent } from './exec.ts'
import { OutputHub } from './hub.ts'
import { planOf, type Plan } from './healthcheck.ts'
import type { ProbeResult } from './record.ts'

const KEPT = 5
const MAX_OUTPUT = 4096

/** Begins to look after the health of a container that has just begun to run, or, with `resume`, that runs on. Ends with
 * `container.stopHealth`. */
export function watchHealth(deps: ContainerDeps, container: Container, { resume = false }: { resume?: boolean } = {}): void {
  const plan = planOf(container.record.config)
  if (!plan) return
  const { state } = container.record
  state.health = resume && state.health ? state.health : { status: 'starting', failingStreak: 0, log: state.health?.log ?? [] }
  let stopped = false
  let timer: NodeJS.Timeout | undefined
  const abort = new AbortController()
  const inStartPeriod = (at: number): boolean => container.record.state.health?.status === 'starting' && at - container.began < plan.startPeriod
  const next = (): void => {
    timer = setTimeout(() => void check(), inStartPeriod(performance.now()) ? plan.startInterval : plan.interval)
  }
  const check = async (): Promise<void> => {
    const at = performance.now()
    const result = await probe(deps, container, plan, abort.signal)
    if (stopped) return
    note(deps, container, result, { retries: plan.retries, counts: !inStartPeriod(at) })
    next()
  }
  next()
  container.stopHealth = () => {
    stopped = true
    clearTimeout(timer)
    abort.abort()
    container.stopHealth = undefined
  }
}

/** Writes down what a probe has found, and says where that changes the container's health. */
function note(deps: ContainerDeps, container: Container, result: ProbeResult, { retries, counts }: { retries: number, counts: boolean }): void {
  const { health } = container.record.state
  if (!health) return
  const before = health.status
  deps.healthCounts.all++
  if (result.exitCode !== 0) deps.healthCounts.failed++
  health.log = [...health.log, result].slice(-KEPT)
  if (result.exitCode === 0) {
    health.failingStreak = 0
    health.status = 'healthy'
  } else if (counts) {
    health.failingStreak++
    if (health.failingStreak >= retries) health.status = 'unhealthy'
  }
  deps.containers.save(container)
  if (health.status === before) return
  deps.events.emit('container', `health_status: ${health.status}`, container.id, container.attributes())
  if (health.status === 'unhealthy') deps.unhealthy(container)
}

/** Runs the check once. */
async function probe(deps: ContainerDeps, container: Container, { command, timeout }: Plan, signal: AbortSignal): Promise<ProbeResult> {
  const start = new Date().toISOString()
  let output = ''
  const done = (exitCode: number, said = output): ProbeResult => ({ start, end: new Date().toISOString(), exitCode, output: said })
  const hub = new OutputHub()
  hub.add({
    write(_stream, data) {
      if (output.length < MAX_OUTPUT) output += data.toString('utf8', 0, MAX_OUTPUT - output.length)
      return true
    },
    drained: () => {},
    end: () => {},
  })
  try {
    const exec = deps.execs.create(container, parseExecBody({ Cmd: command, AttachStdout: true, AttachStderr: true }))
    execEvent(deps, exec, 'exec_create')
    const { ended } = await launchExec(deps, exec, { consoleSize: undefined, stdin: false }, hub)
    let late = false
    const kill = (): void => {
      if (exec.process) sendSignal(exec.process.pid, 'SIGKILL')
    }
    const timer = setTimeout(() => {
      late = true
      kill()
    }, timeout)
    signal.addEventListener('abort', kill, { once: true })
    await ended
    clearTimeout(timer)
    signal.removeEventListener('abort', kill)
    return late ? done(-1, `Health check exceeded timeout (${goDuration(timeout)})`) : done(exec.exitCode ?? -1)
  } catch (error) {
    return done(-1, messageOf(error))
  }
}
