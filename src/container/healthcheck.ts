import { invalid } from '../lib/errors.ts'
import type { ContainerConfig } from './body.ts'

type Healthcheck = NonNullable<ContainerConfig['Healthcheck']>

const MILLISECOND = 1e6 // in nanoseconds, as the API counts
const SECOND = 1e9

/** A health check with its defaults (Dockerfile reference, "HEALTHCHECK"). Times are in milliseconds. */
export interface Plan { command: string[], interval: number, timeout: number, startPeriod: number, startInterval: number, retries: number }

/** What a container's health check is, or undefined where it has none. */
export function planOf({ Healthcheck: check, Shell }: Pick<ContainerConfig, 'Healthcheck' | 'Shell'>): Plan | undefined {
  const [kind, ...words] = check?.Test ?? []
  if (!check || kind === undefined || kind === 'NONE') return undefined
  const time = (nanoseconds: number, otherwise: number): number => (nanoseconds || otherwise) / MILLISECOND
  return {
    command: kind === 'CMD-SHELL' ? [...(Shell?.length ? Shell : ['/bin/sh', '-c']), words[0] ?? ''] : words,
    interval: time(check.Interval, 30 * SECOND), timeout: time(check.Timeout, 30 * SECOND), startPeriod: time(check.StartPeriod, 0), startInterval: time(check.StartInterval, 5 * SECOND), retries: check.Retries || 3,
  }
}

/** A health check without what nobody said of it, as it is shown and kept in images. */
export function shortHealth(check: Healthcheck): Partial<Healthcheck> {
  return Object.fromEntries(Object.entries(check).filter(([, value]) => (Array.isArray(value) ? value.length : value)))
}

/** Refuses a health check that can not be. */
export function checkHealth(check: Healthcheck | null | undefined): void {
  if (!check) return
  for (const name of ['Interval', 'Timeout', 'StartPeriod', 'StartInterval'] as const) if (check[name] !== 0 && check[name] < MILLISECOND) throw invalid(`${name} in Healthcheck cannot be less than 1ms`)
  if (check.Retries < 0) throw invalid('Retries in Healthcheck cannot be negative')
  const [kind] = check.Test
  if (kind !== undefined && !['NONE', 'CMD', 'CMD-SHELL'].includes(kind)) throw invalid(`Unknown healthcheck type ${JSON.stringify(kind)} (expected "CMD")`)
}

const actions = ['none', 'kill', 'restart', 'stop'] as const

/** What clients that do not know the option can write. */
const LABEL = 'io.berth.health-on-failure'

type Asked = Pick<ContainerConfig, 'Healthcheck' | 'Labels'>

/** What is to be done with a container that is unhealthy. Throws `invalid` for what there is not. */
export function actionOf({ Healthcheck, Labels }: Asked): typeof actions[number] {
  const asked = Healthcheck?.OnFailure || Labels[LABEL] || 'none'
  const action = actions.find((one) => one === asked)
  if (!action) throw invalid(`invalid action for an unhealthy container: ${JSON.stringify(asked)}; use one of ${actions.join(', ')}`)
  return action
}
