import { sentence, type Presence } from '../api/api'
import { follow, type Message } from '../api/stream'
import type { Event } from '../journal/events'
import { Fold, type Held, type RunFold } from '../journal/fold'

/** An agent's conversation as its journal grows. */
export class Conversation {
  runs = $state.raw<RunFold[]>([])
  plan = $state.raw<Fold['plan']>([])
  model = $state('')
  machine = $state('')
  /** Set once what was there at first is shown. */
  loaded = $state(false)
  connected = $state(true)
  problem = $state('')
  /** Who has the agent in hand. */
  held = $state.raw<Held>()
  /** Who is there just now, this page's reader among them. */
  people = $state.raw<NonNullable<Presence['people']>>([])
  busy = $derived(this.runs.find((r) => r.status === 'preparing' || r.status === 'running'))
  waiting = $derived(this.runs.filter((r) => r.status === 'queued'))
  private fold = new Fold()
  private frame = 0

  constructor(private readonly agent: string) {}

  /** Reads and follows until the returned function is called. */
  follow(): () => void {
    const end = follow(`/v1/agents/${encodeURIComponent(this.agent)}/journal?presence=true`, {
      on: (messages) => this.read(messages),
      connected: (yes) => {
        this.connected = yes
        if (!yes) this.people = []
      },
      failed: (why) => (this.problem = sentence(why)),
    })
    return () => {
      cancelAnimationFrame(this.frame)
      end()
    }
  }

  private read(messages: Message[]) {
    for (const m of messages) {
      if (m.event === 'done') this.problem = 'This agent was deleted.'
      else if (m.event === 'presence') this.people = (JSON.parse(m.data) as Presence).people ?? []
      else this.fold.add(JSON.parse(m.data) as Event)
    }
    // Drawn once in a frame, however many came.
    cancelAnimationFrame(this.frame)
    this.frame = requestAnimationFrame(() => {
      this.runs = this.fold.runs
      this.plan = this.fold.plan
      this.model = this.fold.model
      this.machine = this.fold.machine
      this.held = this.fold.held
      this.loaded = true
    })
  }
}
