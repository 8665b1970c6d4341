// How a terminal's command fares, in a word and a colour.
import type { Terminal } from '../api/api'

export interface Health {
  look: 'good' | 'warn' | 'bad' | ''
  says: string
}

export function healthOf(t: Terminal): Health {
  const h = t.health
  const again = h?.restarts ? `, ${h.restarts === 1 ? 'one restart' : `${h.restarts} restarts`}` : ''
  if (h?.status === 'waiting') return { look: 'bad', says: `crashed with ${t.exitCode ?? 0}, is started again${again}` }
  if (h?.status === 'stopped') return { look: 'warn', says: `stopped by Ctrl-C${again}` }
  if (!t.running) return t.exitCode ? { look: 'bad', says: `exited with ${t.exitCode}${again}` } : { look: '', says: `exited${again}` }
  return { look: again ? 'warn' : 'good', says: `running${again}` }
}
