// The panel's service worker: the pages' own files for when the server does not
// answer, and notices. No answer of the API passes through it. VERSION and FILES
// are put before it when the panel is built (worker/plugin.js).
const shell = `shell-${VERSION}`

// A new version takes over at once, for pages of the version before too: these ask
// for files by names that no later version has.
self.addEventListener('install', (e) => {
  self.skipWaiting()
  e.waitUntil(caches.open(shell).then((c) => c.addAll(FILES.map((f) => new Request(f, { cache: 'reload' })))))
})

// The files of the version before stay, since a page of it may still want one.
self.addEventListener('activate', (e) => {
  e.waitUntil(
    (async () => {
      const old = (await caches.keys()).filter((k) => k.startsWith('shell-') && k !== shell)
      await Promise.all(old.slice(0, -1).map((k) => caches.delete(k)))
      await self.clients.claim()
    })(),
  )
})

self.addEventListener('fetch', (e) => {
  const { pathname, origin } = new URL(e.request.url)
  if (e.request.method !== 'GET' || origin !== location.origin) return
  // The page is asked of the server first, so that it is never an old one.
  if (e.request.mode === 'navigate' && !pathname.startsWith('/v1/') && pathname !== '/openapi.json') e.respondWith(fetch(e.request).catch(() => kept('/')))
  // These are named by what is in them.
  else if (pathname.startsWith('/assets/')) e.respondWith(kept(e.request).then((r) => (r.ok ? r : fetch(e.request))))
  else if (FILES.includes(pathname) && pathname !== '/') e.respondWith(fetch(e.request).catch(() => kept(e.request)))
})

async function kept(request) {
  const own = await (await caches.open(shell)).match(request, { ignoreVary: true })
  return own ?? (await caches.match(request, { ignoreVary: true })) ?? Response.error()
}

self.addEventListener('message', (e) => {
  const [asks] = e.ports
  e.waitUntil(
    tell(e.data).then(
      () => asks.postMessage({}),
      (fault) => asks.postMessage({ fault: String(fault) }),
    ),
  )
})

/** Shows a notice, unless what it tells of is looked at. */
async function tell({ title, how }) {
  const pages = await self.clients.matchAll({ type: 'window', includeUncontrolled: true })
  if (pages.some((p) => p.visibilityState === 'visible' && p.focused && new URL(p.url).pathname === how.data.path)) return
  await self.registration.showNotification(title, how)
}

self.addEventListener('notificationclick', (e) => {
  e.notification.close()
  e.waitUntil(
    (async () => {
      const { path } = e.notification.data
      const pages = await self.clients.matchAll({ type: 'window', includeUncontrolled: true })
      const there = pages.find((p) => new URL(p.url).pathname === path)
      if (there) return there.focus()
      if (!pages[0]) return self.clients.openWindow(path)
      pages[0].postMessage({ go: path })
      return pages[0].focus()
    })(),
  )
})
