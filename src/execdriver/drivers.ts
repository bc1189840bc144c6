import { invalid } from '../lib/errors.ts'
import type { ExecDriver } from './driver.ts'
import { nativeDriver } from './native.ts'

type Options = Parameters<typeof nativeDriver>[0]

const drivers: Readonly<Record<string, (options: Options) => ExecDriver>> = { native: nativeDriver }

/** The driver of a name. */
export function openExecDriver(name: string, options: Options): ExecDriver {
  const open = Object.hasOwn(drivers, name) ? drivers[name] : undefined
  if (!open) throw invalid(`execdriver ${JSON.stringify(name)} is not known; there is ${Object.keys(drivers).join(', ')}`)
  return open(options)
}
