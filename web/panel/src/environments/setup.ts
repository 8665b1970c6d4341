// How setups are said.
import type { Setup } from '../api/environments'

export const statuses: Record<Setup['status'], string> = {
  surveying: 'looking at the repository…',
  proposed: 'waits for you',
  opening: 'a machine is opened…',
  working: 'a model works on the draft…',
  proving: 'being proved…',
  proved: 'shown to work',
  writing: 'being written…',
  accepted: 'accepted',
}

/** Whether the server works on it, rather than waiting for people. */
export function busy(s: Setup): boolean {
  return !['proposed', 'proved', 'accepted'].includes(s.status)
}

/** The ports that a proof found open without being named in the draft. */
export function found(s: Setup): number[] {
  return (s.proof?.ports ?? []).filter((p) => !p.named).map((p) => p.port)
}
