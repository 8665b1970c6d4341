// Where the panel is: the browser's address, as something that pages follow.
class Route {
  path = $state(location.pathname)
  query = $state.raw(new URLSearchParams(location.search))

  constructor() {
    window.addEventListener('popstate', () => this.read())
    document.addEventListener('click', (e) => this.click(e))
  }

  /** Goes to an address of the panel. */
  go(address: string) {
    history.pushState(null, '', address)
    this.read()
    if (!address.includes('#')) scrollTo(0, 0)
  }

  /** Goes to an address of the panel that stands for the one before. */
  replace(address: string) {
    history.replaceState(null, '', address)
    this.read()
  }

  /** Changes the query where it is; what is empty is left out. */
  set(changes: Record<string, string>) {
    const query = new URLSearchParams(this.query)
    for (const [name, value] of Object.entries(changes)) {
      if (value) query.set(name, value)
      else query.delete(name)
    }
    history.replaceState(null, '', query.size ? `${this.path}?${query}` : this.path)
    this.query = query
  }

  private read() {
    this.path = location.pathname
    this.query = new URLSearchParams(location.search)
  }

  private click(e: MouseEvent) {
    if (e.defaultPrevented || e.button !== 0 || e.metaKey || e.ctrlKey || e.shiftKey || e.altKey) return
    const link = (e.target as Element).closest('a')
    if (!link || link.target || link.download || link.origin !== location.origin || link.pathname.startsWith('/v1/')) return
    if (link.pathname === location.pathname && link.search === location.search && link.hash) return
    e.preventDefault()
    this.go(link.pathname + link.search + link.hash)
  }
}

export const route = new Route()
