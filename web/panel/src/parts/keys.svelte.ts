// The keyboard: what a page listens to, and what the help says of it.
export interface Key {
  key: string
  says: string
  do(): void
}

class Keyboard {
  shown = $state(false)
  bound = $state.raw<Key[]>([])

  /** Adds a page's keys until the returned function is called. */
  bind(added: Key[]): () => void {
    this.bound = [...this.bound, ...added]
    return () => {
      this.bound = this.bound.filter((k) => !added.includes(k))
    }
  }
}

export const keys = new Keyboard()

/** Whether a key press is meant for a field or a control. */
export function typing(e: KeyboardEvent): boolean {
  const at = e.target as HTMLElement
  return at.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(at.tagName)
}
