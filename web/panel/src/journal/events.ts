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

/** A person, as the journal names them. */
export interface Caller {
  key: string
  name?: string
}

export function called(c: Caller | undefined): string {
  return c?.name || c?.key || ''
}

/** What became of a machine while a person had it in hand. */
export interface Changes {
  files?: { path: string; status: string; added: number; deleted: number }[]
  moreFiles?: number
  commits?: { id: string; author: string; title: string }[]
  patch?: string
  patchCut?: boolean
  whole?: string
  commands?: { where?: string; who?: string; text: string }[]
  screens?: { terminal: string; text: string }[]
  problem?: string
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
  'takeover.started': { caller: Caller; until: string; from?: Caller; longer?: boolean }
  'takeover.ready': object
  'takeover.reminded': { caller: Caller; until: string; leftMs: number }
  'takeover.command': { caller: Caller; command: string }
  'takeover.ending': object
  'takeover.ended': { holder: Caller; since: string; ending: { caller?: Caller; why: string; note?: string }; changed: Changes; summary: string }
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
