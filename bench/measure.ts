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
