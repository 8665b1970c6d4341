// The panel as an app: its service worker, and whether the server has a newer
// panel than the one that is open.
import { route } from './route.svelte'

class Upgrade {
  /** The server was upgraded: this page is of the version before. */
  ready = $state(false)
  private asking: Promise<void> | undefined
  private worker: ServiceWorkerRegistration | undefined

  /** Once, when the panel begins. */
  begin() {
    // A page's part that is not there any more.
    window.addEventListener('vite:preloadError', () => void this.look())
    document.addEventListener('visibilitychange', () => {
      if (!document.hidden) void this.look()
    })
    if (!import.meta.env.PROD || !('serviceWorker' in navigator)) return
    navigator.serviceWorker.register('/sw.js').then(
      (worker) => (this.worker = worker),
      () => {}, // a browser that allows none does without
    )
    navigator.serviceWorker.addEventListener('message', (e) => {
      const { go } = e.data as { go?: string }
      if (go) route.go(go)
    })
  }

  /** Looks which panel the server has now. Called when a connection comes back. */
  look(): Promise<void> {
    this.asking ??= this.ask().finally(() => (this.asking = undefined))
    return this.asking
  }

  private async ask() {
    const own = document.querySelector<HTMLScriptElement>('script[type=module][src^="/assets/"]')?.getAttribute('src')
    if (!own || this.ready) return
    try {
      const page = await (await fetch('/', { cache: 'no-cache' })).text()
      this.ready = page.includes('/assets/') && !page.includes(own)
      if (this.ready) await this.worker?.update()
    } catch {
      // The server is away again; the next connection asks anew.
    }
  }
}

export const upgrade = new Upgrade()
