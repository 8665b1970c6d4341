import { sentence } from '../api/api'
import { follow, type Message } from '../api/stream'
import type { Event } from '../journal/events'
import { Fold, type Item } from '../journal/fold'

/** The journal of a build or a setup as it grows: its phases and what was said
 * beside them. */
export class Log {
  items = $state.raw<Item[]>([])
  connected = $state(true)
  /** Set once it has ended, or will not come. */
  ended = $state(false)
  problem = $state('')
  private fold = new Fold()
  private part = 0
  private frame = 0

  /** Reads and follows url until its end or until the returned function is called.
   * changed is called with each event that is about the whole. */
  follow(url: string, changed: (event: Event) => void): () => void {
    const end = follow(url, {
      on: (messages) => {
        for (const m of messages) this.read(m, changed)
        if (this.ended) end()
        cancelAnimationFrame(this.frame)
        this.frame = requestAnimationFrame(() => (this.items = this.fold.runs.flatMap((r) => r.items)))
      },
      connected: (yes) => (this.connected = yes || this.ended),
      failed: (why) => {
        this.ended = true
        this.problem = sentence(why)
      },
    })
    return () => {
      cancelAnimationFrame(this.frame)
      end()
    }
  }

  private read(m: Message, changed: (event: Event) => void) {
    if (m.event === 'done') {
      this.ended = true
      return
    }
    const event = JSON.parse(m.data) as Event
    // What is done again, as a proof, stands below what was done before.
    if (event.kind === 'setup.changed') this.part++
    this.fold.add({ ...event, run: String(this.part) })
    if (/^(build|setup)\./.test(event.kind)) changed(event)
  }
}
