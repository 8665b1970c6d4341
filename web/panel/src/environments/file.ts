// Environment files as they are edited.
import type { EnvironmentFinding } from '../api/environments'

type Edit = NonNullable<EnvironmentFinding['edits']>[number]

/** Makes a finding's edits. Their offsets are in bytes, and in order. */
export function applied(text: string, edits: Edit[]): string {
  const whole = new TextEncoder().encode(text)
  const read = new TextDecoder('utf-8', { ignoreBOM: true })
  let out = ''
  let at = 0
  for (const e of edits) {
    out += read.decode(whole.subarray(at, e.offset)) + e.text
    at = e.offset + e.length
  }
  return out + read.decode(whole.subarray(at))
}

/** The index in text of a line and column, both from 1, the column in characters. */
export function indexOf(text: string, line: number, column: number): number {
  const lines = text.split('\n')
  const before = lines.slice(0, line - 1).reduce((n, l) => n + l.length + 1, 0)
  const inLine = [...(lines[line - 1] ?? '')].slice(0, Math.max(0, column - 1)).join('').length
  return Math.min(text.length, before + inLine)
}

/** The URLs in a field that has one on a line. */
export function urls(text: string): { url: string }[] {
  return text.split(/\s+/).filter(Boolean).map((url) => ({ url }))
}
