/** The word of a list that a misspelt one is nearest to, if one is near (an edit for every three letters away). */
export function closest(word: string, among: readonly string[]): string | undefined {
  const ranked = among.map((candidate) => ({ candidate, edits: distance(word, candidate) })).toSorted((a, b) => a.edits - b.edits)
  return ranked[0] && ranked[0].edits <= Math.max(1, Math.floor(word.length / 3)) ? ranked[0].candidate : undefined
}

/** Levenshtein's edit distance. */
function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_cell, at) => at)
  for (let i = 1; i <= a.length; i++) {
    const next = [i]
    for (let j = 1; j <= b.length; j++) next[j] = Math.min(next[j - 1]! + 1, row[j]! + 1, row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1))
    row = next
  }
  return row[b.length]!
}
