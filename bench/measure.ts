import type { Peer } from './peers.ts'

/** What the command line asks for: fewer rounds, and scenarios whose names have these words. */
export const quick = process.argv.includes('--quick')
export const wanted = process.argv.slice(2).filter((word) => !word.startsWith('-'))

/** Whether the command line asks for a scenario. */
export const chosen = (name: string): boolean => wanted.length === 0 || wanted.some((word) => name.includes(word))

/** One line of the report. `measure` gives a figure of one peer; where `more` is better the ratio is turned round. */
export interface Scenario<T> { name: string, unit: string, rounds: number, more?: boolean, measure: (peer: Peer, tools: T) => Promise<number> | number }

export const median = (values: readonly number[]): number => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)]!

/** How long something takes, in milliseconds. */
export async function timed(work: () => Promise<unknown>): Promise<number> {
  const begun = performance.now()
  await work()
  return performance.now() - begun
}

const show = (value: number): string => (value >= 100 ? value.toFixed(0) : value >= 1 ? value.toFixed(1) : value.toFixed(3))

export function reportHead(): void {
  console.log(`${''.padEnd(62)}${'berth'.padStart(9)}${'dockerd'.padStart(10)}${'better'.padStart(9)}`)
}

/** A line of the report; where `more` is better the ratio is turned round. */
export function report(name: string, berth: number, dockerd: number, more: boolean): void {
  console.log(`${name.padEnd(62)}${show(berth).padStart(9)}${show(dockerd).padStart(10)}${(more ? berth / dockerd : dockerd / berth).toFixed(1).padStart(8)}×`)
}

/** Measures scenarios in turns, A B A B, and reports the medians. */
export async function measureAll<T>(peers: readonly [Peer, Peer], scenarios: readonly Scenario<T>[], tools: T): Promise<void> {
  for (const { name, unit, rounds, more = false, measure } of scenarios) {
    if (!chosen(name)) continue
    const values: [number[], number[]] = [[], []]
    for (let round = 0; round < (quick ? Math.min(rounds, 5) : rounds); round++) for (const at of [0, 1] as const) values[at].push(await measure(peers[at], tools))
    report(`${name}, ${unit}`, median(values[0]), median(values[1]), more)
  }
}
