import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { invalid, messageOf } from '../lib/errors.ts'
import type { Container } from './container.ts'

/** Runs the host's ps and keeps the container's rows (Docker does the same: the container may have no ps). */
export async function top(container: Container, psArgs: string): Promise<{ Titles: string[], Processes: string[][] }> {
  if (/[^a-zA-Z0-9 ,=:_%+-]/.test(psArgs)) throw invalid(`ps: ${psArgs}: unknown arguments`)
  let text: string
  try {
    text = (await promisify(execFile)('ps', psArgs.split(' ').filter(Boolean), { maxBuffer: 64 << 20 })).stdout
  } catch (error) {
    // what ps says first is what is wrong; the rest is how it is used
    const said = String((error as { stderr?: string }).stderr ?? '').trim().split('\n')[0]
    throw invalid(`ps: ${said || messageOf(error)}`, error)
  }
  const [head = '', ...rows] = text.trimEnd().split('\n')
  const titles = head.trim().split(/\s+/)
  const column = titles.indexOf('PID')
  if (column < 0) throw invalid("Couldn't find PID field in ps output")
  const pids = new Set(container.cgroup?.processes())
  const processes = rows.map((row) => {
    const words = row.trim().split(/\s+/)
    return [...words.slice(0, titles.length - 1), words.slice(titles.length - 1).join(' ')]
  }).filter((words) => pids.has(Number(words[column])))
  return { Titles: titles, Processes: processes }
}
