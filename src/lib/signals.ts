import { constants } from 'node:os'
import { invalid } from './errors.ts'

const byName: Record<string, number> = { ...(constants.signals as Record<string, number>), SIGCLD: 17, SIGRTMIN: 34, SIGRTMAX: 64 }

/** The number of a signal by number, name, or name without SIG; RTMIN+n and RTMAX-n too. Undefined for none. */
export function signalNumber(text: string): number | undefined {
  if (/^\d+$/.test(text)) {
    const number = Number(text)
    return number >= 1 && number <= 64 ? number : undefined
  }
  const upper = text.toUpperCase()
  const name = upper.startsWith('SIG') ? upper : `SIG${upper}`
  const real = /^SIGRT(MIN|MAX)([+-]\d+)$/.exec(name)
  if (real) {
    const number = (real[1] === 'MIN' ? 34 : 64) + Number(real[2])
    return number >= 34 && number <= 64 ? number : undefined
  }
  return byName[name]
}

export function isSignal(text: string): boolean {
  return signalNumber(text) !== undefined
}

/** As `signalNumber`, but throws for none. */
export function parseSignal(text: string): number {
  const number = signalNumber(text)
  if (number === undefined) throw invalid(`Invalid signal: ${text}`)
  return number
}
