// What a browser keeps for itself: drafts, last choices, what was looked at.

/** A value under a name in localStorage, which pages follow. What cannot be read
 * or kept (no room, storage forbidden) is the value it began with. */
export class Kept<T> {
  value = $state.raw<T>() as T

  constructor(
    private readonly name: string,
    private readonly first: T,
  ) {
    this.value = read(name, first)
  }

  set(value: T) {
    this.value = value
    try {
      if (JSON.stringify(value) === JSON.stringify(this.first)) localStorage.removeItem(this.name)
      else localStorage.setItem(this.name, JSON.stringify(value))
    } catch {
      // No room, or storage is forbidden: it holds until the page is left.
    }
  }
}

function read<T>(name: string, first: T): T {
  try {
    const text = localStorage.getItem(name)
    return text === null ? first : (JSON.parse(text) as T)
  } catch {
    return first
  }
}
