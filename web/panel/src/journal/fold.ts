// The conversation as a fold over an agent's journal. The same events give the
// same items; an event that was folded already changes nothing, so a stream may
// begin again anywhere.
//
// Items are never changed in place: what changes is put there anew, and a page
// sees by identity what it has to draw again.
import { called, type Changes, type Data, type Event, type Fault, type Kind, type Picture, type PlanItem, type RunStatus, type Counted } from './events'
import { span } from '../words'

export interface PhaseItem {
  phase: string
  command?: string
  output: string
  started: string
  ms?: number
  cached?: boolean
  note?: string
  error?: Fault
}

export type Item = { key: string; seq: number; time: string } & (
  | { type: 'prompt'; text: string; images: Picture[]; by: string; mode?: string }
  | { type: 'phases'; phases: PhaseItem[] }
  | { type: 'text'; turn: number; attempt: number; text: string }
  | { type: 'thinking'; turn: number; attempt: number; text: string; ms?: number }
  | { type: 'tool'; op: string; name: string; args: Record<string, unknown>; end?: Data['tool.ended']; cut?: boolean }
  | { type: 'notice'; level: 'info' | 'warning'; text: string }
  | { type: 'handback'; by: string; ender: string; why: string; note: string; ms: number; changed: Changes; summary: string }
  | { type: 'end'; status: RunStatus; result: string; error?: Fault; ms: number; usage?: Counted }
)

export type ItemOf<T extends Item['type']> = Extract<Item, { type: T }>

export interface RunFold {
  id: string
  status: RunStatus
  /** Whether it was ever taken up; a run that was cancelled before is one that was
   * taken back. */
  begun: boolean
  stopping: boolean
  items: Item[]
}

/** Who has the agent in hand. */
export interface Held {
  by: string
  since: string
  until: string
  ready: boolean
  reminded: number
  ending: boolean
}

/** How much of a phase's output is kept; the end is what tells. */
const keptOutput = 64 << 10

export class Fold {
  runs: RunFold[] = []
  plan: PlanItem[] = []
  /** The number of the last event. */
  seq = 0
  model = ''
  machine = ''
  held?: Held

  /** Adds an event. */
  add(event: Event) {
    if (event.seq <= this.seq) return
    this.seq = event.seq
    const fold = folds[event.kind] as ((f: Fold, e: Event<never>) => void) | undefined
    fold?.(this, event as Event<never>)
  }

  /** The run that an event belongs to, made anew so that its change is seen. */
  run(event: Event): RunFold {
    const at = event.run ? this.runs.findIndex((r) => r.id === event.run) : this.runs.length - 1
    if (at < 0) {
      const made: RunFold = { id: event.run ?? '', status: 'queued', begun: false, stopping: false, items: [] }
      this.runs = [...this.runs, made]
      return made
    }
    const run = { ...this.runs[at]!, items: this.runs[at]!.items.slice() }
    this.runs = this.runs.with(at, run)
    return run
  }
}

/** The run that an event of no run is shown with: the one under way, or else the
 * last that had begun. */
function beside(f: Fold, e: Event): Event {
  const run = f.runs.find((r) => r.status === 'preparing' || r.status === 'running') ?? f.runs.findLast((r) => r.begun)
  return { ...e, run: run?.id }
}

type Folds = { [K in Kind]?: (f: Fold, e: Event<K>) => void }

const head = (e: Event) => ({ key: String(e.seq), seq: e.seq, time: e.time })

const folds: Folds = {
  'run.queued'(f, e) {
    const run = f.run(e)
    const { prompt, caller, mode } = e.data
    run.items.push({ ...head(e), type: 'prompt', text: prompt.text, images: prompt.images ?? [], by: caller.name || caller.key, mode })
  },
  'run.cancelAsked'(f, e) {
    f.run(e).stopping = true
  },
  'run.status'(f, e) {
    const run = f.run(e)
    const { status, result, error, durationMs, usage } = e.data
    run.status = status
    if (status === 'preparing' || status === 'running') run.begun = true
    if (status === 'queued' || status === 'preparing' || status === 'running') return
    // What is still under way ends with its run.
    run.items = run.items.map((i) => (i.type === 'tool' && !i.end ? { ...i, cut: true } : i))
    run.items.push({ ...head(e), type: 'end', status, result: said(run, result ?? ''), error, ms: durationMs ?? 0, usage })
  },
  'phase.started'(f, e) {
    if (e.data.phase === 'work') return
    const phases = phasesOf(f.run(e), e)
    // A phase that was interrupted is opened again.
    const open = phases.phases.findIndex((p) => p.phase === e.data.phase && p.ms === undefined)
    const phase: PhaseItem = { phase: e.data.phase, command: e.data.command, output: '', started: e.time }
    if (open < 0) phases.phases.push(phase)
    else phases.phases[open] = { ...phase, output: phases.phases[open]!.output }
  },
  'phase.output'(f, e) {
    changePhase(f, e, e.data.phase, (p) => ({ ...p, output: (p.output + e.data.text).slice(-keptOutput) }))
  },
  'phase.ended'(f, e) {
    const { phase, durationMs, cached, note, error } = e.data
    changePhase(f, e, phase, (p) => ({ ...p, ms: durationMs, cached, note, error }))
  },
  machine(f, e) {
    const { what, driver, engine, image } = e.data
    f.machine = [engine || driver, image].filter(Boolean).join(' on ') || f.machine
    if (what === 'lost') notice(f, e, 'warning', 'The machine ended by itself. It is woken on its own disk.')
  },
  'turn.started'(f, e) {
    f.model = e.data.model
    if (e.data.attempt === 1) return
    const run = f.run(e)
    run.items = run.items.filter((i) => !((i.type === 'text' || i.type === 'thinking') && i.turn === e.data.turn && i.attempt < e.data.attempt))
  },
  text(f, e) {
    const run = f.run(e)
    closeThinking(run, e.time)
    const last = run.items.at(-1)
    if (last?.type === 'text' && last.turn === e.data.turn) run.items[run.items.length - 1] = { ...last, text: last.text + e.data.text }
    else run.items.push({ ...head(e), type: 'text', ...e.data })
  },
  thinking(f, e) {
    const run = f.run(e)
    const last = run.items.at(-1)
    if (last?.type === 'thinking' && last.turn === e.data.turn) run.items[run.items.length - 1] = { ...last, text: last.text + e.data.text }
    else run.items.push({ ...head(e), type: 'thinking', ...e.data })
  },
  'turn.retried'(f, e) {
    notice(f, e, 'warning', `The model's answer broke off: ${e.data.reason} It is asked again in ${Math.ceil(e.data.waitMs / 1000)} s.`)
  },
  'turn.ended'(f, e) {
    closeThinking(f.run(e), e.time)
  },
  'tool.called'(f, e) {
    const run = f.run(e)
    closeThinking(run, e.time)
    const args = e.data.args && typeof e.data.args === 'object' ? (e.data.args as Record<string, unknown>) : {}
    // A call that was under way when the server was killed is told again.
    if (run.items.some((i) => i.type === 'tool' && i.op === e.data.op)) return
    run.items.push({ ...head(e), type: 'tool', op: e.data.op, name: e.data.name, args })
  },
  'tool.ended'(f, e) {
    const run = f.run(e)
    const at = run.items.findLastIndex((i) => i.type === 'tool' && i.op === e.data.op)
    const called = run.items[at]
    if (called?.type === 'tool') run.items[at] = { ...called, end: e.data }
    else run.items.push({ ...head(e), type: 'tool', op: e.data.op, name: e.data.name, args: {}, end: e.data })
  },
  plan(f, e) {
    f.plan = e.data.items ?? []
  },
  compacted(f, e) {
    notice(f, e, 'info', `The conversation grew long (${e.data.tokensBefore.toLocaleString('en')} tokens); for the model, what came before is now a summary.`)
  },
  commit(f, e) {
    notice(f, e, 'info', `Committed ${e.data.commit.slice(0, 10)}: ${e.data.title} (${e.data.files} ${e.data.files === 1 ? 'file' : 'files'}).`)
  },
  push(f, e) {
    const branch = e.data.ref.replace('refs/heads/', '')
    if (e.data.refused) notice(f, e, 'warning', `Pushing ${branch} was refused: ${e.data.refused}`)
    else notice(f, e, 'info', `Pushed ${branch}${e.data.new ? ` at ${e.data.new.slice(0, 10)}` : ''}.`)
  },
  'setup.changed'(f, e) {
    if (e.data.what) notice(f, e, 'info', `${e.data.what[0]!.toUpperCase()}${e.data.what.slice(1)}.`)
  },
  'build.status'(f, e) {
    if (e.data.note) notice(f, e, 'info', e.data.note)
  },
  'takeover.started'(f, e) {
    const { caller, until, from, longer } = e.data
    const by = called(caller)
    f.held = { since: e.time, ready: false, ...f.held, by, until, reminded: 0, ending: false }
    notice(f, beside(f, e), 'info', longer ? `${by} has it for longer.` : from ? `${by} took it over from ${called(from)}.` : `${by} took over. What is under way ends, and nothing new begins until it is handed back.`)
  },
  'takeover.ready'(f) {
    if (f.held) f.held = { ...f.held, ready: true }
  },
  'takeover.reminded'(f, e) {
    if (f.held) f.held = { ...f.held, reminded: f.held.reminded + 1 }
    notice(f, beside(f, e), 'warning', `It is handed back by itself in ${span(e.data.leftMs)}.`)
  },
  'takeover.command'(f, e) {
    notice(f, beside(f, e), 'info', `${called(e.data.caller)} ran ${e.data.command}`)
  },
  'takeover.ending'(f) {
    if (f.held) f.held = { ...f.held, ending: true }
  },
  'takeover.ended'(f, e) {
    f.held = undefined
    const { holder, since, ending, changed, summary } = e.data
    f.run(beside(f, e)).items.push({ ...head(e), type: 'handback', by: called(holder), ender: called(ending.caller), why: ending.why, note: ending.note ?? '', ms: Math.max(0, Date.parse(e.time) - Date.parse(since)), changed, summary })
  },
  notice(f, e) {
    notice(f, e, e.data.level === 'warning' ? 'warning' : 'info', e.data.text)
  },
}

function notice(f: Fold, e: Event, level: 'info' | 'warning', text: string) {
  f.run(e).items.push({ ...head(e), type: 'notice', level, text })
}

/** The phases block at the end of a run, which is made where there is none. */
function phasesOf(run: RunFold, e: Event): ItemOf<'phases'> {
  const at = run.items.length - 1
  const last = run.items[at]
  const between = run.items.findLastIndex((i) => i.type === 'phases')
  // Notices between phases do not begin a second block.
  const open = last?.type === 'phases' ? at : run.items.slice(between + 1).every((i) => i.type === 'notice') ? between : -1
  const was = run.items[open]
  if (was?.type === 'phases') {
    const now = { ...was, phases: was.phases.slice() }
    run.items[open] = now
    return now
  }
  const made: ItemOf<'phases'> = { ...head(e), type: 'phases', phases: [] }
  run.items.push(made)
  return made
}

function changePhase(f: Fold, e: Event, phase: string, change: (p: PhaseItem) => PhaseItem) {
  if (phase === 'work') return
  const run = f.run(e)
  const at = run.items.findLastIndex((i) => i.type === 'phases' && i.phases.some((p) => p.phase === phase))
  const block = run.items[at]
  if (block?.type !== 'phases') return
  const n = block.phases.findLastIndex((p) => p.phase === phase)
  run.items[at] = { ...block, phases: block.phases.with(n, change(block.phases[n]!)) }
}

function closeThinking(run: RunFold, time: string) {
  const last = run.items.at(-1)
  if (last?.type === 'thinking' && last.ms === undefined) {
    run.items[run.items.length - 1] = { ...last, ms: Math.max(0, Date.parse(time) - Date.parse(last.time)) }
  }
}

/** A run's result, unless it is what was said last anyway. */
function said(run: RunFold, result: string): string {
  const last = run.items.findLast((i) => i.type === 'text')
  return last?.type === 'text' && last.text.trim() === result.trim() ? '' : result
}
