// Notices of this browser: that an agent is done, or asks something. They come
// while the panel is open in any tab, hidden ones too.
import { Kept } from '../kept.svelte'

/** What a person chose for this browser. */
export const wanted = new Kept('notices', { on: false, sound: true }).shared()

/** Why this browser can show none, in a sentence; '' where it can. */
export function unable(): string {
  if (!isSecureContext) return 'Browsers show notices for pages over https and on localhost only. Put a proxy with TLS before the server, or use an ssh tunnel.'
  if (!('Notification' in window) || !('serviceWorker' in navigator) || !('locks' in navigator)) return 'This browser shows no notices for this page. On an iPhone or iPad it does once the panel is added to the home screen.'
  return ''
}

/** Has the browser ask the person, if it has not yet, and says whether it may. */
export async function allowed(): Promise<boolean> {
  return (await Notification.requestPermission()) === 'granted'
}

export interface Notice {
  title: string
  body: string
  /** A notice with the same word takes its place. */
  tag: string
  /** Where a click leads. */
  path: string
}

/** Shows a notice, unless its page is looked at: only the worker sees all pages. */
export async function show({ title, body, tag, path }: Notice) {
  const registration = await navigator.serviceWorker.ready
  const how = { body, tag, icon: '/icon-192.png', data: { path } }
  if (!(await handed(registration.active, title, how))) await registration.showNotification(title, how)
}

/** Hands a notice to the worker. False where it does not answer: one that is being
 * replaced loses what it is told. */
function handed(worker: ServiceWorker | null, title: string, how: NotificationOptions): Promise<boolean> {
  return new Promise((done, fail) => {
    const { port1, port2 } = new MessageChannel()
    const late = setTimeout(() => done(false), 3000)
    port1.onmessage = (e: MessageEvent<{ fault?: string }>) => {
      clearTimeout(late)
      if (e.data.fault) fail(new Error(e.data.fault))
      else done(true)
    }
    worker?.postMessage({ title, how }, [port2])
  })
}

/** Two short tones. A browser plays them in a tab that was clicked in before. */
export function sound() {
  const audio = new AudioContext()
  const loud = audio.createGain()
  loud.gain.value = 0.08
  loud.connect(audio.destination)
  for (const [n, pitch] of [660, 880].entries()) {
    const tone = audio.createOscillator()
    tone.frequency.value = pitch
    tone.connect(loud)
    tone.start(audio.currentTime + n * 0.14)
    tone.stop(audio.currentTime + n * 0.14 + 0.12)
    if (n === 1) tone.onended = () => void audio.close()
  }
}
