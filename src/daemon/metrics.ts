import { availableParallelism, release, totalmem } from 'node:os'
import { BERTH_VERSION } from '../api/version.ts'
import type { HealthCounts } from '../container/deps.ts'
import type { ContainerStore } from '../container/store.ts'
import type { Engine } from '../engine/engine.ts'
import type { Events } from '../engine/events.ts'
import { goArchitecture } from '../image/image.ts'

interface Watched { engine: Engine, events: Events, containers: ContainerStore, healthCounts: HealthCounts, driver: string }

/** Jobs as Docker's metrics call them. */
const actions: Readonly<Record<string, string>> = { 'container.create': 'create', 'container.start': 'start', 'container.remove': 'delete', 'container.commit': 'commit', 'container.changes': 'changes' }

const states: Readonly<Record<string, readonly string[]>> = { running: ['running', 'restarting'], paused: ['paused'], stopped: ['created', 'exited', 'dead', 'removing'] }

/** What is counted of the engine, in Prometheus's text format: Docker's metrics by their names, and the jobs. */
export async function openDaemonMetrics({ engine, events, containers, healthCounts, driver }: Watched): Promise<() => Promise<string>> {
  const { Counter, Gauge, Histogram, Registry } = await import('@prometheus-io/client')
  const register = new Registry()
  const registers = [register]
  const gauge = (name: string, help: string, read: () => number): void => void new Gauge({ name, help, registers, collect() {
    this.set(read())
  } })
  new Gauge({ name: 'engine_daemon_engine_info', help: 'What the engine is', labelNames: ['version', 'architecture', 'graphdriver', 'kernel', 'os'], registers }).set({ version: BERTH_VERSION, architecture: goArchitecture, graphdriver: driver, kernel: release(), os: 'linux' }, 1)
  gauge('engine_daemon_engine_cpus_cpus', 'The number of cpus that the host system of the engine has', availableParallelism)
  gauge('engine_daemon_engine_memory_bytes', 'The number of bytes of memory that the host system of the engine has', totalmem)
  gauge('engine_daemon_events_subscribers_total', 'The number of current subscribers to events', () => events.listeners - 1) // one is the count below
  gauge('engine_daemon_health_checks_total', 'The total number of health checks', () => healthCounts.all)
  gauge('engine_daemon_health_checks_failed_total', 'The total number of failed health checks', () => healthCounts.failed)
  gauge('process_resident_memory_bytes', 'Resident memory size in bytes', () => process.memoryUsage.rss())
  gauge('berth_jobs_running', 'Jobs that run', () => engine.jobs().length)
  new Gauge({ name: 'engine_daemon_container_states_containers', help: 'The count of containers in various states', labelNames: ['state'], registers, collect() {
    for (const [state, statuses] of Object.entries(states)) this.set({ state }, containers.list().filter(({ record }) => statuses.includes(record.state.status)).length)
  } })
  const told = new Counter({ name: 'engine_daemon_events_total', help: 'The number of events logged', registers })
  const buckets = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10]
  const done = new Histogram({ name: 'engine_daemon_container_actions_seconds', help: 'The number of seconds it takes to process each container action', labelNames: ['action'], buckets, registers })
  const jobs = new Histogram({ name: 'berth_job_seconds', help: 'How long jobs take', labelNames: ['job', 'status'], buckets: [...buckets, 60, 600], registers })
  events.listen(() => told.inc())
  engine.onEnd(({ name, status, duration }) => {
    jobs.observe({ job: name, status }, duration / 1000)
    if (actions[name] && status === 'done') done.observe({ action: actions[name] }, duration / 1000)
  })
  return () => register.metrics()
}
