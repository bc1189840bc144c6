import { messageOf } from '../lib/errors.ts'

/** The first word decides: `daemon`, or `-d`, is the daemon. */
async function main(argv: readonly string[]): Promise<number> {
  if (argv[0] === 'daemon' || argv[0] === '-d') {
    const { runDaemon } = await import('../daemon/main.ts')
    return await runDaemon(argv.slice(1), process.env)
  }
  console.error(`berth: ${JSON.stringify(argv[0] ?? '')} is not a berth command: there is "daemon"; the docker client speaks to it`)
  return 125
}

try {
  process.exitCode = await main(process.argv.slice(2))
} catch (error) {
  console.error(`berth: ${messageOf(error)}`)
  process.exitCode = 1
}
if (process.exitCode !== undefined) process.exit()
