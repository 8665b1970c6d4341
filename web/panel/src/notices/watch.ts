import { ask, type AgentChange, type AgentSummary } from '../api/api'
import { follow, type Message } from '../api/stream'
import { Kept } from '../kept.svelte'
import { clock } from '../words'
import { show, sound, wanted } from './notices.svelte'

/** After so long without the panel nobody is told what was before. */
const longest = 10 * 60_000
const most = 100

/** Tells of runs that end until the returned function is called. Of all tabs of
 * this browser one does it; when that is closed, the next goes on where it was. */
export function watch(): () => void {
  const end = new AbortController()
  navigator.locks
    .request('errand.notices', { signal: end.signal }, () => new Promise<void>((done) => {
      const leave = new Watch().follow()
      end.signal.addEventListener('abort', () => {
        leave()
        done()
      })
    }))
    .catch(() => {}) // it was ended while it waited
  return () => end.abort()
}

class Watch {
  /** The server's time of the last change that was looked at, and until when this
   * browser did so. */
  private readonly place = new Kept('notices.place', { id: '', at: 0 })
  /** Runs that were told, by any tab. */
  private readonly told = new Kept<string[]>('notices.told', [])
  private readonly under = new Set<string>()
  private since = 0

  follow(): () => void {
    const { id, at } = this.place.value
    const last = Date.now() - at < longest ? id : ''
    this.since = last ? Number(last) : 0
    return follow('/v1/agents/changes', { whileHidden: true, on: (messages) => this.read(messages) }, last)
  }

  private read(messages: Message[]) {
    for (const m of messages) {
      if (m.event !== 'change') continue
      this.since ||= Number(m.id) || 0
      const { agent } = JSON.parse(m.data) as AgentChange
      if (agent?.latestRunId) void this.look(agent, agent.latestRunId)
      if (agent?.takeover?.reminded) void this.remind(agent, agent.takeover)
      if (m.id) this.place.set({ id: m.id, at: Date.now() })
    }
  }

  private async look(agent: AgentSummary, run: string) {
    if (agent.state === 'queued' || agent.state === 'preparing' || agent.state === 'running') {
      this.under.add(run)
      return
    }
    if (this.told.value.includes(run)) return
    this.told.set([...this.told.value, run].slice(-most))
    // What was not seen under way may have ended long ago.
    if (!this.under.delete(run) && !(await this.endedSince(agent.id, run))) return
    const notice = noticeOf(agent)
    if (!notice) return
    try {
      await show(notice)
    } catch {
      return // the browser takes none any more; the settings say so when one is tried
    }
    if (wanted.value.sound) sound()
  }

  /** Tells who has an agent in hand that it is handed back by itself soon. */
  private async remind(agent: AgentSummary, held: NonNullable<AgentSummary['takeover']>) {
    const what = `${agent.id} ${held.until} ${held.reminded}`
    if (this.told.value.includes(what)) return
    this.told.set([...this.told.value, what].slice(-most))
    try {
      const me = await ask('get', '/v1/me')
      const name = [me.userFirstName, me.userLastName].filter(Boolean).join(' ') || me.apiKeyName
      if (name !== held.by) return
      await show({ title: `${agent.name || 'An agent'}: still in your hands`, body: `It is handed back by itself at ${clock(held.until)}.`, tag: `takeover ${agent.id}`, path: `/agents/${agent.id}` })
    } catch {
      return // as with other notices
    }
    if (wanted.value.sound) sound()
  }

  private async endedSince(id: string, runId: string): Promise<boolean> {
    try {
      const run = await ask('get', '/v1/agents/{id}/runs/{runId}', { at: { id, runId } })
      return Date.parse(run.updatedAt) >= this.since
    } catch {
      return false // it is gone
    }
  }
}

/** What is said of a run that ended; nothing of one that a person ended. */
function noticeOf(a: AgentSummary) {
  const body = a.glance?.line ?? ''
  const at = { body, tag: a.latestRunId ?? a.id, path: `/agents/${a.id}` }
  const name = a.name || 'An agent'
  switch (a.state) {
    case 'finished':
      return { ...at, title: body.trimEnd().endsWith('?') ? `${name}: has a question` : `${name}: done` }
    case 'failed':
      return { ...at, title: `${name}: failed` }
    case 'expired':
      return { ...at, title: `${name}: ran out of time` }
  }
  return undefined
}
