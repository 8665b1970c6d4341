// What a file's text says of how it is written.

/** The line ending of a text. Where both are used it is the plain one, so that the
 * others stay as they are. */
export function endingOf(text: string): '\n' | '\r\n' {
  return text.includes('\n') && !/(^|[^\r])\n/.test(text) ? '\r\n' : '\n'
}

/** What one step of indentation is in a file: that of the first line that has one. */
export function indentOf(name: string, text: string): string {
  const first = /^(\t|  +)\S/m.exec(text)?.[1]
  if (first && (first === '\t' || first.length <= 8)) return first
  return /\.(go|mk)$|^(GNUm|M|m)akefile$/.test(name) ? '\t' : '  '
}

/** Where two texts differ: from, to before, and to after. */
export function between(before: string, after: string): { from: number; to: number; until: number } {
  const most = Math.min(before.length, after.length)
  let from = 0
  while (from < most && before[from] === after[from]) from++
  let same = 0
  while (same < most - from && before[before.length - 1 - same] === after[after.length - 1 - same]) same++
  return { from, to: before.length - same, until: after.length - same }
}
