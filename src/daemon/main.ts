import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import pino from 'pino'
import { conflict } from '../lib/errors.ts'
import { readIfThere } from '../lib/files.ts'
import { listen } from '../server/listen.ts'
import { processAt } from '../sys/process.ts'
import { compose } from './compose.ts'
import { readOptions } from './options.ts'

/** Runs the daemon until a signal ends it. Returns its exit code. */
export async function runDaemon(argv: readonly string[], env: NodeJS.ProcessEnv): Promise<number> {
  const options = readOptions(argv, env)
  const log = pino({ level: options.debug ? 'debug' : options.logLevel }, pino.destination({ fd: 2, sync: true }))
  const before = Number(readIfThere(options.pidfile))
  if (before !== process.pid && processAt(before)) throw conflict(`pid file found, ensure berth is not running or delete ${options.pidfile}: process with PID ${before} is still running`)
  mkdirSync(dirname(options.pidfile), { recursive: true })
  writeFileSync(options.pidfile, String(process.pid))
  const deadly = env['BERTH_FAILPOINT']
  const { engine, router } = await compose(options, {
    warn: (message, error) => log.warn({ err: error }, message),
    failpoint: (name) => {
      if (name === deadly) process.kill(process.pid, 'SIGKILL')
    },
  })
  const listening = await Promise.allSettled(options.hosts.map((host) => listen(host, router, options.tls ? { tls: options.tls } : {})))
  const listeners = listening.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []))
  const failed = listening.find((result) => result.status === 'rejected')
  if (failed) { // what was made of the host for this engine goes again
    await Promise.all(listeners.map((listener) => listener.close()))
    await engine.shutdown()
    throw failed.reason
  }
  log.info({ hosts: options.hosts }, 'API listen')
  const { promise, resolve } = Promise.withResolvers<void>()
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => resolve())
  process.on('SIGHUP', () => log.info('SIGHUP: nothing is reloaded'))
  process.on('unhandledRejection', (error) => log.error({ err: error }, 'a rejection that nobody handled'))
  await promise
  log.info('shutting down')
  await engine.shutdown()
  await Promise.all(listeners.map((listener) => listener.close()))
  rmSync(options.pidfile, { force: true })
  return 0
}

