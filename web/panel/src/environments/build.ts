// How builds are said.
import type { Build } from '../api/environments'

/** Why there is a build. */
export function why(b: Build): string {
  const reasons: Record<Build['trigger'], string> = { MANUAL: 'asked for', CONFIG_CHANGE: 'a change', RECURRING: 'on schedule', AGENT: 'an agent asked' }
  return reasons[b.trigger] + (b.by ? ` by ${b.by}` : '')
}

/** How long it took, or has been under way; undefined before it began. */
export function length(b: Build, now: number): number | undefined {
  return b.startedAt ? Math.max(0, (b.completedAt ? Date.parse(b.completedAt) : now) - Date.parse(b.startedAt)) : undefined
}
