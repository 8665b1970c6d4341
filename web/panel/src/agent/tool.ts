// What a tool call is on a screen: tool's words for it, and what it came to. What
// a model sent and a machine gave may be anything, so each field is looked at.
import type { PlanItem } from '../journal/events'
import type { ItemOf } from '../journal/fold'

type Tool = ItemOf<'tool'>

const verbs: Record<string, [verb: string, argument: string]> = {
  run_terminal_cmd: ['Run', 'command'],
  read_file: ['Read', 'path'],
  edit_file: ['Edit', 'path'],
  write_file: ['Write', 'path'],
  apply_patch: ['Patch', ''],
  list_dir: ['List', 'path'],
  search: ['Search', 'pattern'],
  read_terminal: ['Look at terminal', 'name'],
  update_plan: ['Plan', ''],
  finish: ['Finish', ''],
}

/** The call in a line. whole says that the line leaves nothing of it out. */
export function lineOf(item: Tool): { verb: string; what: string; whole: boolean } {
  const [verb, argument] = verbs[item.name] ?? [item.name, '']
  if (item.name === 'update_plan') {
    const plan = planOf(item)
    return { verb, what: `${plan.filter((p) => p.status === 'done').length} of ${plan.length} done`, whole: true }
  }
  if (item.name === 'apply_patch') return { verb, what: changesOf(item).map((c) => c.path).join(', '), whole: false }
  const what = argument ? text(item.args[argument]) : ''
  if (item.name === 'read_file') {
    const { first, last } = result(item) as { first?: number; last?: number }
    return { verb, what: first && last ? `${what}:${first}–${last}` : what, whole: true }
  }
  return { verb, what, whole: Object.keys(item.args).length <= 1 && !!what }
}

export interface FileChange {
  path: string
  from?: string
  what: string
  added: number
  removed: number
  diff?: string
}

export function changesOf(item: Tool): FileChange[] {
  const { files } = result(item) as { files?: unknown }
  if (!Array.isArray(files)) return []
  return files.filter((f): f is FileChange => typeof f?.path === 'string' && Number.isInteger(f.added) && Number.isInteger(f.removed))
}

/** A command's exit code as text; "" where it has none. */
export function exitOf(item: Tool): string {
  const { exitCode, terminal, timedOut, signal } = result(item) as Record<string, unknown>
  if (timedOut) return 'timed out'
  if (typeof signal === 'string' && signal) return signal
  return typeof exitCode === 'number' && !terminal ? String(exitCode) : ''
}

export function planOf(item: Tool): PlanItem[] {
  const { items } = item.args as { items?: unknown }
  return Array.isArray(items) ? items.filter((i): i is PlanItem => typeof i?.text === 'string') : []
}

/** A command's output with its colours, '' where it has none. */
export function colouredOf(item: Tool): string {
  const { coloured } = result(item) as { coloured?: unknown }
  return typeof coloured === 'string' ? coloured : ''
}

function result(item: Tool): object {
  return item.end?.result && typeof item.end.result === 'object' ? item.end.result : {}
}

function text(value: unknown): string {
  return typeof value === 'string' ? value : ''
}
