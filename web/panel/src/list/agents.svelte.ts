import { ask, sentence, type AgentChange, type AgentSummary } from '../api/api'
import { follow, type Message } from '../api/stream'
import { Kept } from '../kept.svelte'
import { stateOf } from '../words'

/** All agents, newest first, as they change. */
export class Agents {
  items = $state.raw<AgentSummary[]>([])
  loading = $state(true)
  connected = $state(true)
  problem = $state('')
  private known = new Map<string, AgentSummary>()
  private loads = 0
  private drawn = 0

  /** Reads and follows until the returned function is called. */
  follow(): () => void {
    // The stream is opened first, so that nothing falls between it and the
    // reading; and all is read anew when it comes back, since it does not repeat
    // which agents were deleted meanwhile.
    const end = follow('/v1/agents/changes', {
      on: (messages) => this.change(messages),
      connected: (yes) => {
        this.connected = yes
        if (yes) void this.load()
      },
      failed: (why) => (this.problem = sentence(why)),
    })
    return () => {
      this.loads++
      cancelAnimationFrame(this.drawn)
      end()
    }
  }

  private async load() {
    const load = ++this.loads
    const seen = new Set<string>()
    const before = new Set(this.known.keys())
    try {
      let cursor: string | undefined
      do {
        const page = await ask('get', '/v1/agents', { query: { glance: true, limit: 100, cursor } })
        if (load !== this.loads) return
        for (const a of page.items ?? []) {
          seen.add(a.id)
          this.put(a)
        }
        cursor = page.nextCursor
        this.draw()
      } while (cursor)
      for (const id of before) if (!seen.has(id)) this.known.delete(id)
      this.problem = ''
    } catch (fault) {
      if (load === this.loads) this.problem = sentence(fault)
    }
    if (load !== this.loads) return
    this.loading = false
    this.draw()
  }

  private change(messages: Message[]) {
    for (const m of messages) {
      if (m.event !== 'change') continue
      const { agent, removed } = JSON.parse(m.data) as AgentChange
      if (agent) this.put(agent)
      if (removed) this.known.delete(removed)
    }
    this.draw()
  }

  private put(a: AgentSummary) {
    const was = this.known.get(a.id)
    if (!was || was.updatedAt <= a.updatedAt) this.known.set(a.id, a)
  }

  /** Shows what is known, once in a frame. */
  private draw() {
    cancelAnimationFrame(this.drawn)
    this.drawn = requestAnimationFrame(() => {
      this.items = [...this.known.values()].sort((a, b) => (a.createdAt < b.createdAt ? 1 : a.createdAt > b.createdAt ? -1 : a.id < b.id ? -1 : 1))
    })
  }
}

/** Until when agents were looked at. What ended before this browser first saw
 * the list is taken as read. */
class Seen {
  private readonly began = new Kept('seen.began', '')
  private readonly times = new Kept<Record<string, string>>('seen', {})

  constructor() {
    if (!this.began.value) this.began.set(new Date().toISOString())
  }

  unread(a: AgentSummary): boolean {
    return !!a.idle && a.status === 'ACTIVE' && a.updatedAt > (this.times.value[a.id] ?? this.began.value)
  }

  mark(id: string, updatedAt: string) {
    const newest = Object.entries({ ...this.times.value, [id]: updatedAt })
      .sort(([, a], [, b]) => (a < b ? 1 : -1))
      .slice(0, 2000)
    this.times.set(Object.fromEntries(newest))
  }
}

export const seen = new Seen()

/** Whether an agent fits what the address asks for. */
export function fits(a: AgentSummary, query: URLSearchParams): boolean {
  const status = query.get('status') ?? ''
  const archived = a.status === 'ARCHIVED'
  if (status === 'archived' ? !archived : archived) return false
  if (status === 'under way' && a.idle) return false
  if (status === 'unread' && !seen.unread(a)) return false
  if (status === 'failed' && !['failed', 'expired'].includes(stateOf(a))) return false
  if (query.get('repo') && a.glance?.repo !== query.get('repo')) return false
  if (query.get('model') && a.model?.id !== query.get('model')) return false
  const words = (query.get('q') ?? '').toLowerCase().split(/\s+/).filter(Boolean)
  const text = [a.name, a.branch, a.glance?.repo, a.glance?.line, a.model?.id, a.id].join('\n').toLowerCase()
  return words.every((w) => text.includes(w))
}
