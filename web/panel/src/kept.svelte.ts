// What a browser keeps for itself: drafts, last choices, what was looked at.
import type { Image } from './api/api'

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

  /** Follows what other tabs keep under the name. */
  shared(): this {
    window.addEventListener('storage', (e) => {
      if (e.key === this.name) this.value = read(this.name, this.first)
    })
    return this
  }

  forget() {
    this.set(this.first)
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

/** The pictures of a draft, in IndexedDB: localStorage has no room for them. They
 * are there a moment after a page is, and where they cannot be kept they hold until
 * it is left. */
export class KeptImages {
  private list = $state.raw<Image[]>([])
  private set = false

  constructor(private readonly name: string) {
    void request<Image[]>('readonly', (store) => store.get(name)).then((images) => {
      if (images && !this.set) this.list = images
    })
  }

  get value(): Image[] {
    return this.list
  }

  set value(images: Image[]) {
    this.list = images
    this.set = true
    void request('readwrite', (store) => (images.length ? store.put(images, this.name) : store.delete(this.name)))
  }
}

/** Asks the database; undefined where it has none, or may not be used. */
async function request<T>(mode: IDBTransactionMode, ask: (store: IDBObjectStore) => IDBRequest): Promise<T | undefined> {
  const done = <R>(r: IDBRequest<R>) =>
    new Promise<R>((resolve, reject) => {
      r.onsuccess = () => resolve(r.result)
      r.onerror = () => reject(r.error)
    })
  try {
    const open = indexedDB.open('errand', 1)
    open.onupgradeneeded = () => open.result.createObjectStore('images')
    const database = await done(open)
    try {
      return (await done(ask(database.transaction('images', mode).objectStore('images')))) as T
    } finally {
      database.close()
    }
  } catch {
    return undefined
  }
}
