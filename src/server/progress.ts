import type { ProgressLine, Report } from '../api/progress.ts'
import type { Engine, Job } from '../engine/engine.ts'
import { messageOf } from '../lib/errors.ts'
import type { Call } from './router.ts'

/** Runs a job that tells how far it is in lines of JSON. An error before the first line is an answer of its own; one after
 * it is the last line. The job ends when the client hangs up. */
export async function streamProgress(engine: Engine, call: Call, job: { name: string, subject: string, work: (report: Report, signal: AbortSignal) => Promise<void> }): Promise<void> {
  let begun = false
  const report = (line: ProgressLine): void => {
    if (!begun) call.stream('application/json')
    begun = true
    call.response.write(JSON.stringify(line) + '\r\n')
  }
  const running: Job<null, void> = { name: job.name, subject: () => job.subject, run: (_input, { signal }) => job.work(report, signal) }
  try {
    await engine.run(running, null, { signal: call.signal })
  } catch (error) {
    if (!begun) throw error
    report({ errorDetail: { message: messageOf(error) }, error: messageOf(error) })
  }
  if (!begun) call.stream('application/json')
  call.response.end()
}
