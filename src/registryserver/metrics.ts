import type { Registry } from '@prometheus-io/client'

/** What is counted of a registry, for Prometheus. */
export interface Metrics {
  answered(method: string, route: string, status: number, seconds: number): void
  passed(direction: 'in' | 'out', bytes: number): void
  running(delta: 1 | -1): void
  cache(outcome: 'hit' | 'miss'): void
  collected(bytes: number): void
  /** In Prometheus's text format. */
  text(): Promise<string>
}

/** Loads the library: a registry without metrics does without. */
export async function openMetrics(): Promise<Metrics> {
  const { Counter, Gauge, Histogram, Registry: Registers } = await import('@prometheus-io/client')
  const register: Registry = new Registers()
  const registers = [register]
  const requests = new Counter({ name: 'registry_http_requests_total', help: 'Requests by method, route and status', labelNames: ['method', 'route', 'code'], registers })
  const seconds = new Histogram({ name: 'registry_http_request_duration_seconds', help: 'How long requests take', labelNames: ['method', 'route'], buckets: [0.001, 0.005, 0.02, 0.1, 0.5, 2, 10, 60, 600], registers })
  const bytes = new Counter({ name: 'registry_blob_bytes_total', help: 'Bytes of blobs that came in and went out', labelNames: ['direction'], registers })
  const running = new Gauge({ name: 'registry_http_in_flight_requests', help: 'Requests that are being answered', registers })
  const cached = new Counter({ name: 'registry_proxy_requests_total', help: 'Requests of a pull-through cache by whether it had what was asked for', labelNames: ['outcome'], registers })
  const freed = new Counter({ name: 'registry_collected_bytes_total', help: 'Bytes that garbage collection gave back', registers })
  new Gauge({ name: 'process_resident_memory_bytes', help: 'Resident memory size in bytes', registers, collect() {
    this.set(process.memoryUsage.rss())
  } })
  return {
    answered(method, route, status, took) {
      requests.inc({ method, route, code: String(status) })
      seconds.observe({ method, route }, took)
    },
    passed: (direction, count) => bytes.inc({ direction }, count),
    running: (delta) => running.inc(delta),
    cache: (outcome) => cached.inc({ outcome }),
    collected: (count) => freed.inc(count),
    text: () => register.metrics(),
  }
}
