// Asks for the colours of lines, many at once, and keeps those that came.
import type { Wanted } from './colours'

/** How many lines are kept: some screens of them, for scrolling back. */
const kept = 4000

/** Between two requests, in milliseconds: what is scrolled past by then needs no
 * colours. */
const pause = 80

/** Gives lines their colours, a moment after they are shown. */
export class Paint {
  private readonly worker = new Worker(new URL('./colours.ts', import.meta.url), { type: 'module' })
  private readonly known = new Map<string, string | undefined>()
  private waiting: Asked[] = []
  /** What the worker has been asked for; it answers in order. */
  private readonly asked: Asked[][] = []
  private timer: ReturnType<typeof setTimeout> | undefined

  constructor() {
    this.worker.onmessage = ({ data }: MessageEvent<(string | undefined)[]>) => {
      this.asked.shift()?.forEach((a, i) => {
        this.keep(keyOf(a), data[i])
        a.on?.(data[i])
      })
    }
  }

  /** What is known of a line already; undefined: nothing, or it has no colours. */
  now(path: string, text: string): string | undefined {
    return this.known.get(keyOf({ path, text }))
  }

  /** Calls on with a line as HTML, whose text is escaped, or with undefined where it
   * has no colours, unless the returned function is called before. */
  of(path: string, text: string, on: (html: string | undefined) => void): () => void {
    if (this.known.has(keyOf({ path, text }))) {
      on(this.now(path, text))
      return () => {}
    }
    const asked: Asked = { path, text, on }
    this.waiting.push(asked)
    this.timer ??= setTimeout(() => this.send(), pause)
    return () => (asked.on = undefined)
  }

  /** Ends the worker. */
  close() {
    clearTimeout(this.timer)
    this.worker.terminate()
  }

  private send() {
    this.timer = undefined
    const still = this.waiting.filter((a) => a.on) // the others were scrolled past
    this.waiting = []
    if (!still.length) return
    this.asked.push(still)
    this.worker.postMessage(still.map(({ path, text }): Wanted => ({ path, text })))
  }

  private keep(key: string, html: string | undefined) {
    this.known.set(key, html)
    if (this.known.size > kept) this.known.delete(this.known.keys().next().value!)
  }
}

interface Asked extends Wanted {
  on?: (html: string | undefined) => void
}

function keyOf({ path, text }: Wanted): string {
  return `${path}\n${text}`
}
