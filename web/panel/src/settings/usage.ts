// What was used over time, as charts and tables show it.
import type { UsageOver } from '../api/api'

type Part = UsageOver['total']

/** Something that can be counted of it. */
export interface Measure {
  name: string
  of(p: Part): number
  says(n: number): string
}

export const measures: Measure[] = [
  { name: 'Tokens', of: (p) => p.usage.totalTokens, says: (n) => n.toLocaleString('en') },
  { name: 'Cost', of: (p) => p.costCents, says: money },
  { name: 'Machine hours', of: (p) => p.machineMs / 3_600_000, says: hours },
]

/** US cents as dollars; parts of a cent where there is no more. */
export function money(cents: number): string {
  return `$${(cents / 100).toFixed(cents > 0 && cents < 1 ? 4 : 2)}`
}

export function hours(n: number): string {
  return `${n.toFixed(n > 0 && n < 1 ? 3 : 1)} h`
}

export interface Row {
  start: string
  /** By name, in the order of names. */
  parts: (Part | undefined)[]
}

const day = 86_400_000

/** Gives every day or week that was asked for, those without use too, and the
 * names, the most used first, those without figures of their own last. */
export function rowsOf(u: UsageOver): { names: string[]; rows: Row[] } {
  const items = u.items ?? []
  const called = (i: (typeof items)[number]) => (i.others ? 'others' : i.name || nameless(u.by))
  const totals = new Map<string, number>()
  for (const i of items) totals.set(called(i), (totals.get(called(i)) ?? 0) + i.usage.totalTokens + (i.others ? -1e15 : 0))
  const names = [...totals.keys()].sort((a, b) => totals.get(b)! - totals.get(a)!)
  const rows = new Map<string, Row>()
  const step = u.unit === 'week' ? 7 * day : day
  for (let at = Date.parse(u.from); at <= Date.parse(u.to); at += step) {
    const start = new Date(at).toISOString().slice(0, 10)
    rows.set(start, { start, parts: names.map(() => undefined) })
  }
  for (const i of items) {
    const row = rows.get(i.start)
    if (row) row.parts[names.indexOf(called(i))] = i
  }
  return { names, rows: [...rows.values()] }
}

function nameless(by: string | undefined): string {
  return by === 'repository' ? 'no repository' : by === 'model' ? 'the default' : by === 'person' ? 'nobody' : 'all'
}

/** The least round number that is not below n. */
export function ceiling(n: number): number {
  if (n <= 0) return 1
  const unit = 10 ** Math.floor(Math.log10(n))
  return unit * [1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10].find((m) => m * unit >= n * 0.999999)!
}
