import { invalid } from '../lib/errors.ts'
import { CachedLog } from './cached.ts'
import type { LogDriver, LogInfo } from './driver.ts'
import { fluentd } from './fluentd.ts'
import { gelf } from './gelf.ts'
import { journald } from './journald.ts'
import { jsonFile } from './jsonfile.ts'
import { localLog } from './local.ts'
import { checkOptions, common, truth, type Options } from './options.ts'
import { syslog } from './syslog.ts'

export type Warn = (message: string, error?: unknown) => void
export type OpenLog = (name: string, info: LogInfo, options: Options) => LogDriver

/** The log drivers by name. */
const drivers: Record<string, (info: LogInfo, options: Options, warn: Warn) => LogDriver> = {
  'json-file': jsonFile, local: localLog, syslog, journald, gelf, fluentd,
  none(_info, options) {
    checkOptions('none', options, [])
    return { name: 'none', write: () => true, drained: (then) => then(), close() {} }
  },
}

export const logDriverNames: readonly string[] = Object.keys(drivers)

/** Makes containers' logs. Beside those that can't be read, what they get is kept in a file for a while, unless an option
 * says otherwise, so that `logs` works with all of them. */
export function logOpener(warn: Warn): OpenLog {
  return (name, info, options) => {
    const open = drivers[name]
    if (!open) throw invalid(`logger: no log driver named '${name}' is registered`)
    const log = open(info, options, warn)
    if (log.read || name === 'none' || truth(options, 'cache-disabled', false)) return log
    return new CachedLog(log, localLog(info, cacheOptions(options), warn, 'container-cached.log'))
  }
}

function cacheOptions(options: Options): Options {
  const asked = common.filter((name) => name.startsWith('cache-max') || name === 'cache-compress').flatMap((name) => (options[name] === undefined ? [] : [[name.slice('cache-'.length), options[name]] as const]))
  return Object.fromEntries(asked)
}
