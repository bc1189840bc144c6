import { invalid } from '../lib/errors.ts'
import type { LogDriver } from './driver.ts'
import { openJsonFile } from './jsonfile.ts'

/** The log drivers by name. */
const drivers: Record<string, (path: string, options: Record<string, string>) => LogDriver> = {
  'json-file': openJsonFile,
  none: () => ({ name: 'none', write() {}, close() {} }),
}

export const logDriverNames: readonly string[] = Object.keys(drivers)

/** Opens a container's log; `path` is for the drivers that keep files. */
export function openLog(name: string, path: string, options: Record<string, string>): LogDriver {
  const open = drivers[name]
  if (!open) throw invalid(`logger: no log driver named '${name}' is registered`)
  return open(path, options)
}
