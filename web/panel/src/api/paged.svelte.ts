import { sentence } from './api'

interface Page<T> {
  items: T[] | null
  nextCursor?: string | null
}

/** A list that is read page by page. */
export class Paged<T> {
  items = $state.raw<T[]>([])
  /** Set once there is an answer. */
  loaded = $state(false)
  /** Whether there are more pages. */
  more = $state(false)
  problem = $state('')
  private cursor: string | undefined
  private loads = 0

  constructor(private readonly read: (cursor?: string) => Promise<Page<T>>) {}

  /** Reads it anew, as far as it was shown. */
  load(): Promise<void> {
    return this.pages([], undefined, this.items.length)
  }

  /** Reads the next page. */
  next(): Promise<void> {
    return this.pages(this.items, this.cursor, 0)
  }

  private async pages(items: T[], cursor: string | undefined, atLeast: number) {
    const load = ++this.loads
    try {
      do {
        const page = await this.read(cursor)
        if (load !== this.loads) return
        items = [...items, ...(page.items ?? [])]
        cursor = page.nextCursor || undefined
      } while (cursor && items.length < atLeast)
      this.items = items
      this.cursor = cursor
      this.more = !!cursor
      this.problem = ''
    } catch (fault) {
      if (load === this.loads) this.problem = sentence(fault)
    }
    this.loaded = true
  }
}
