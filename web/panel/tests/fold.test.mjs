// The conversation as a fold over the journal, event by event.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { runnerImport } from 'vite'

const { module } = await runnerImport(new URL('../src/journal/fold.ts', import.meta.url).pathname)
const { Fold } = module

/** A journal that is written as a test goes on. */
function journal() {
  const fold = new Fold()
  let seq = 0
  const events = []
  const tell = (kind, data = {}, run = 'run-1') => {
    seq++
    const event = { seq, run, time: new Date(Date.UTC(2026, 0, 1) + seq * 1000).toISOString(), kind, data }
    events.push(event)
    fold.add(event)
  }
  return { fold, events, tell, items: (run = 0) => fold.runs[run].items }
}

/** A run that was queued and taken up. */
function begun() {
  const j = journal()
  j.tell('run.queued', { prompt: { text: 'Do it' }, caller: { key: 'k', name: 'Ada' } })
  j.tell('run.status', { status: 'preparing' })
  j.tell('run.status', { status: 'running' })
  return j
}

const types = (items) => items.map((i) => i.type)

test('a prompt, what was said, what was done, and the end', () => {
  const j = begun()
  j.tell('turn.started', { turn: 1, attempt: 1, model: 'scripted' })
  j.tell('thinking', { turn: 1, attempt: 1, text: 'First ' })
  j.tell('thinking', { turn: 1, attempt: 1, text: 'look.' })
  j.tell('text', { turn: 1, attempt: 1, text: 'I ' })
  j.tell('text', { turn: 1, attempt: 1, text: 'look.' })
  j.tell('tool.called', { turn: 1, op: 'o1', name: 'run_terminal_cmd', args: { command: 'ls' } })
  j.tell('tool.ended', { op: 'o1', name: 'run_terminal_cmd', output: 'a\n', durationMs: 5, result: { exitCode: 0 } })
  j.tell('turn.ended', { turn: 1, usage: {} })
  j.tell('run.status', { status: 'finished', result: 'Done.', durationMs: 9, usage: { input: 1, output: 2, cacheRead: 3, cacheWrite: 4 } })
  assert.deepEqual(types(j.items()), ['prompt', 'thinking', 'text', 'tool', 'end'])
  const [prompt, thinking, text, tool, end] = j.items()
  assert.equal(prompt.by, 'Ada')
  assert.equal(thinking.text, 'First look.')
  assert.equal(thinking.ms, 2000, 'thinking ends where something else begins')
  assert.equal(text.text, 'I look.')
  assert.equal(tool.end.output, 'a\n')
  assert.equal(end.result, 'Done.')
  assert.equal(j.fold.model, 'scripted')
  assert.equal(j.fold.runs[0].status, 'finished')
})

test('an event that was folded already changes nothing', () => {
  const j = begun()
  j.tell('text', { turn: 1, attempt: 1, text: 'once' })
  const before = JSON.stringify(j.fold)
  for (const e of j.events) j.fold.add(e)
  assert.equal(JSON.stringify(j.fold), before)
})

test('the same events give the same items, however they come', () => {
  const j = begun()
  j.tell('text', { turn: 1, attempt: 1, text: 'one' })
  j.tell('tool.called', { turn: 1, op: 'o', name: 'x', args: null })
  const again = new Fold()
  for (const e of j.events) again.add(e)
  assert.deepEqual(again, j.fold)
})

test('what changes is made anew, and what does not is not', () => {
  const j = begun()
  j.tell('tool.called', { turn: 1, op: 'o1', name: 'a', args: {} })
  const [before, runs] = [j.items(), j.fold.runs]
  j.tell('tool.ended', { op: 'o1', name: 'a', output: '', durationMs: 1 })
  assert.notEqual(j.fold.runs, runs)
  assert.notEqual(j.items(), before)
  assert.equal(j.items()[0], before[0], 'the prompt is the same')
  assert.notEqual(j.items()[1], before[1], 'the call is not')
  assert.equal(before[1].end, undefined, 'nothing is changed in place')
})

test('a turn that is tried again takes back what the attempt before had said', () => {
  const j = begun()
  j.tell('turn.started', { turn: 1, attempt: 1, model: 'm' })
  j.tell('text', { turn: 1, attempt: 1, text: 'half a sen' })
  j.tell('turn.retried', { turn: 1, reason: 'The connection broke.', waitMs: 1500 })
  j.tell('turn.started', { turn: 1, attempt: 2, model: 'm' })
  j.tell('text', { turn: 1, attempt: 2, text: 'A sentence.' })
  assert.deepEqual(types(j.items()), ['prompt', 'notice', 'text'])
  assert.match(j.items()[1].text, /again in 2 s/)
  assert.equal(j.items()[2].text, 'A sentence.')
})

test('a call that is told again after a kill is there once', () => {
  const j = begun()
  for (let i = 0; i < 2; i++) j.tell('tool.called', { turn: 1, op: 'o1', name: 'a', args: {} })
  j.tell('tool.ended', { op: 'o1', name: 'a', output: 'x', durationMs: 1 })
  assert.deepEqual(types(j.items()), ['prompt', 'tool'])
  assert.equal(j.items()[1].end.output, 'x')
})

test('the end of a call that nobody saw begin is shown', () => {
  const j = begun()
  j.tell('tool.ended', { op: 'o9', name: 'a', output: 'x', durationMs: 1 })
  assert.deepEqual(types(j.items()), ['prompt', 'tool'])
})

test('phases stand in one block, also with notices between them; the work is none', () => {
  const j = begun()
  j.tell('phase.started', { phase: 'mirror' })
  j.tell('phase.ended', { phase: 'mirror', durationMs: 10, note: 'abc of main' })
  j.tell('notice', { level: 'warning', text: 'A guess.' })
  j.tell('phase.started', { phase: 'install', command: 'make' })
  j.tell('phase.output', { phase: 'install', text: 'one ' })
  j.tell('phase.started', { phase: 'install', command: 'make' }) // entered again
  j.tell('phase.output', { phase: 'install', text: 'two' })
  j.tell('phase.ended', { phase: 'install', durationMs: 20, error: { kind: 'invalid', code: 'c', message: 'No.' } })
  j.tell('phase.started', { phase: 'work' })
  j.tell('text', { turn: 1, attempt: 1, text: 'hello' })
  j.tell('phase.ended', { phase: 'work', durationMs: 1 })
  j.tell('phase.started', { phase: 'settle' })
  assert.deepEqual(types(j.items()), ['prompt', 'phases', 'notice', 'text', 'phases'])
  const [, ready, , , settle] = j.items()
  assert.deepEqual(ready.phases.map((p) => [p.phase, p.output, p.ms]), [['mirror', '', 10], ['install', 'one two', 20]])
  assert.equal(ready.phases[1].error.message, 'No.')
  assert.deepEqual(settle.phases.map((p) => [p.phase, p.ms]), [['settle', undefined]])
})

test('of a long output the end is kept', () => {
  const j = begun()
  j.tell('phase.started', { phase: 'install' })
  for (let i = 0; i < 3; i++) j.tell('phase.output', { phase: 'install', text: String(i).repeat(40 << 10) })
  const { output } = j.items()[1].phases[0]
  assert.equal(output.length, 64 << 10)
  assert.equal(output.at(-1), '2')
})

test('follow-ups wait, are taken back, or are stopped', () => {
  const j = begun()
  j.tell('run.queued', { prompt: { text: 'More' }, caller: { key: 'k' } }, 'run-2')
  assert.deepEqual(j.fold.runs.map((r) => [r.status, r.begun]), [['running', true], ['queued', false]])
  j.tell('run.cancelAsked', {}, 'run-2')
  j.tell('run.status', { status: 'cancelled', durationMs: 0 }, 'run-2')
  assert.deepEqual(j.fold.runs.map((r) => [r.status, r.begun]), [['running', true], ['cancelled', false]])
  j.tell('run.cancelAsked')
  assert.equal(j.fold.runs[0].stopping, true)
  j.tell('run.status', { status: 'cancelled', durationMs: 5 })
  assert.equal(j.items(0).at(-1).status, 'cancelled')
  assert.equal(j.items(1)[0].by, 'k', 'a caller without a name has that of its key')
})

test('a call that is under way when its run ends is cut off', () => {
  const j = begun()
  j.tell('tool.called', { turn: 1, op: 'o1', name: 'a', args: {} })
  j.tell('tool.ended', { op: 'o1', name: 'a', output: '', durationMs: 1 })
  j.tell('tool.called', { turn: 1, op: 'o2', name: 'a', args: {} })
  j.tell('run.status', { status: 'cancelled', durationMs: 5 })
  assert.deepEqual(j.items().map((i) => i.cut), [undefined, undefined, true, undefined])
})

test('a result that was said last is not said again', () => {
  const j = begun()
  j.tell('text', { turn: 1, attempt: 1, text: 'All done.\n' })
  j.tell('run.status', { status: 'finished', result: 'All done.', durationMs: 1 })
  assert.equal(j.items().at(-1).result, '')
})

test('commits, pushes, machines, plans and summaries', () => {
  const j = begun()
  j.tell('machine', { what: 'created', driver: 'oci', engine: 'runc', image: 'host' })
  j.tell('machine', { what: 'lost' })
  j.tell('plan', { items: [{ text: 'a', status: 'done' }] })
  j.tell('commit', { commit: 'abcdef0123456789', title: 'Mend it', files: 1 })
  j.tell('push', { repository: 'r', ref: 'refs/heads/errand/x', new: 'abcdef0123456789' })
  j.tell('push', { repository: 'r', ref: 'refs/heads/main', refused: 'not yours' })
  j.tell('compacted', { summary: 's', tokensBefore: 12345 })
  assert.equal(j.fold.machine, 'runc on host')
  assert.deepEqual(j.fold.plan, [{ text: 'a', status: 'done' }])
  assert.deepEqual(j.items().slice(1).map((i) => [i.level, i.text]), [
    ['warning', 'The machine ended by itself. It is woken on its own disk.'],
    ['info', 'Committed abcdef0123: Mend it (1 file).'],
    ['info', 'Pushed errand/x at abcdef0123.'],
    ['warning', 'Pushing main was refused: not yours'],
    ['info', 'The conversation grew long (12,345 tokens); for the model, what came before is now a summary.'],
  ])
  j.tell('plan', { items: null })
  assert.deepEqual(j.fold.plan, [])
})

test('a kind that is not known yet changes nothing that is shown', () => {
  const j = begun()
  const before = j.fold.runs
  j.tell('something.new', { text: 'x' })
  assert.equal(j.fold.runs, before)
  assert.equal(j.fold.seq, 4)
})

test('a take-over holds the agent, and its end tells what was done', () => {
  const j = begun()
  const ada = { key: 'k', name: 'Ada' }
  j.tell('takeover.started', { number: 1, caller: ada, until: '2026-01-01T04:00:00Z' }, '')
  assert.deepEqual(j.fold.held, { by: 'Ada', since: j.events.at(-1).time, until: '2026-01-01T04:00:00Z', ready: false, reminded: 0, ending: false })
  const since = j.events.at(-1).time
  j.tell('takeover.ready', {}, '')
  j.tell('takeover.command', { caller: ada, command: 'make' }, '')
  j.tell('takeover.reminded', { caller: ada, until: '2026-01-01T04:00:00Z', leftMs: 7_200_000 }, '')
  j.tell('takeover.started', { number: 1, caller: { key: 'g' }, from: ada, until: '2026-01-01T05:00:00Z' }, '')
  assert.deepEqual(j.fold.held, { by: 'g', since, until: '2026-01-01T05:00:00Z', ready: true, reminded: 0, ending: false })
  j.tell('takeover.ending', {}, '')
  assert.equal(j.fold.held.ending, true)
  j.tell('takeover.ended', { holder: { key: 'g' }, since, ending: { caller: ada, why: 'handback', note: 'Done.' }, changed: { files: [] }, summary: 'all of it' }, '')
  assert.equal(j.fold.held, undefined)
  assert.deepEqual(j.items().slice(1).map((i) => i.text ?? i.type), [
    'Ada took over. What is under way ends, and nothing new begins until it is handed back.', 'Ada ran make',
    'It is handed back by itself in 2 h.', 'g took it over from Ada.', 'handback',
  ])
  const { by, ender, why, note, summary } = j.items().at(-1)
  assert.deepEqual({ by, ender, why, note, summary }, { by: 'g', ender: 'Ada', why: 'handback', note: 'Done.', summary: 'all of it' })
})
