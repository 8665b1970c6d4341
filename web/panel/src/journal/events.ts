// The events of a journal, as event.go describes them: the fields that are shown.
import type { Usage } from '../api/api'

export type RunStatus = 'queued' | 'preparing' | 'running' | 'finished' | 'failed' | 'cancelled' | 'expired'

export interface Picture {
  mime: string
  data: string
}

export interface Fault {
  kind: string
  code: string
  message: string
  output?: string
  exitCode?: number
}

export interface PlanItem {
  text: string
  status: 'pending' | 'in_progress' | 'done'
}

/** Usage as the journal has it; api.Usage has the words of the wire. */
export interface Counted {
  input: number
  output: number
  cacheRead: number
  cacheWrite: number
}

export interface Data {
  'run.queued': { prompt: { text: string; images?: Picture[] }; mode?: string; caller: { key: string; name?: string } }
  'run.status': { status: RunStatus; result?: string; error?: Fault; durationMs?: number; usage?: Counted }
  'run.cancelAsked': object
  'phase.started': { phase: string; command?: string }
  'phase.output': { phase: string; text: string }
  'phase.ended': { phase: string; durationMs: number; cached?: boolean; note?: string; error?: Fault }
  machine: { what: string; driver?: string; engine?: string; image?: string; unenforced?: string[] }
  'turn.started': { turn: number; attempt: number; model: string }
  text: { turn: number; attempt: number; text: string }
  thinking: { turn: number; attempt: number; text: string }
  'turn.retried': { turn: number; reason: string; waitMs: number }
  'turn.ended': { turn: number; usage: Counted }
  'tool.called': { turn: number; op: string; name: string; args: unknown }
  'tool.ended': { op: string; name: string; output: string; isError?: boolean; durationMs: number; result?: unknown; images?: Picture[] }
  plan: { items: PlanItem[] | null }
  compacted: { summary: string; tokensBefore: number }
  commit: { commit: string; title: string; files: number }
  push: { repository: string; ref: string; new?: string; refused?: string }
  notice: { level: string; text: string }
  'build.queued': object
  'build.status': { status: string; note?: string; active?: boolean }
  'setup.changed': { status: string; what?: string; error?: Fault }
  environment: { name?: string; why?: string; build?: string }
}

export type Kind = keyof Data

export interface Event<K extends Kind = Kind> {
  seq: number
  run?: string
  time: string
  kind: K
  data: Data[K]
}

export function total(u: Counted): number {
  return u.input + u.output + u.cacheRead + u.cacheWrite
}

export function counted(u: Usage): Counted {
  return { input: u.inputTokens, output: u.outputTokens, cacheRead: u.cacheReadTokens, cacheWrite: u.cacheWriteTokens }
}
