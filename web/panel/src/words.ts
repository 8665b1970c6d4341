// How things are said on screens.
import type { AgentSummary, Usage } from './api/api'
import type { RunStatus } from './journal/events'

/** "12 s", "3 min", "5 h", "2 d" since a time. */
export function age(since: string, now: number): string {
  return span(Math.max(0, now - Date.parse(since)))
}

/** A length of time in its largest unit. */
export function span(ms: number): string {
  const s = ms / 1000
  if (s < 60) return `${Math.floor(s)} s`
  if (s < 3600) return `${Math.floor(s / 60)} min`
  if (s < 86_400) return `${Math.floor(s / 3600)} h`
  return `${Math.floor(s / 86_400)} d`
}

/** A time of this day. */
export function clock(at: string): string {
  return new Date(at).toLocaleTimeString([], { hour: '2-digit', minute: '2-digit' })
}

/** How long something took. */
export function took(ms: number): string {
  if (ms < 1000) return `${ms} ms`
  if (ms < 60_000) return `${(ms / 1000).toFixed(1)} s`
  return `${Math.floor(ms / 60_000)} min ${Math.floor((ms % 60_000) / 1000)} s`
}

export function tokens(n: number): string {
  if (n < 1000) return String(n)
  if (n < 999_500) return `${(n / 1000).toFixed(n < 10_000 ? 1 : 0)}k`
  return `${(n / 1_000_000).toFixed(1)}M`
}

export function cost(cents: number): string {
  return cents < 1 ? '<1¢' : cents < 100 ? `${Math.round(cents)}¢` : `$${(cents / 100).toFixed(2)}`
}

/** What an agent cost: in money where the price is known, else in tokens. */
export function spent(usage: Usage | undefined, cents: number | undefined): string {
  if (cents) return cost(cents)
  return usage?.totalTokens ? `${tokens(usage.totalTokens)} tok` : ''
}

/** A repository's name without what is the same for all. */
export function repositoryName(url: string): string {
  return url.replace(/^[a-z+]+:\/\//, '').replace(/\/$/, '').replace(/\.git$/, '').split('/').slice(-2).join('/')
}

/** The page on which a repository's host has a person open a pull request from a
 * branch; undefined where the host is none that is known. */
export function pullRequestPage(repository: string, branch: string): string | undefined {
  const [, host, whole] = /^(?:https:\/\/(?:[^/@]*@)?|ssh:\/\/git@|git@)([\w.-]+)[/:]([\w.~-]+(?:\/[\w.~-]+)+)\/?$/.exec(repository) ?? []
  const path = whole?.replace(/\.git$/, '')
  const from = encodeURIComponent(branch)
  switch (host?.toLowerCase()) {
    case 'github.com': return `https://github.com/${path}/pull/new/${from}`
    case 'gitlab.com': return `https://gitlab.com/${path}/-/merge_requests/new?merge_request%5Bsource_branch%5D=${from}`
    case 'bitbucket.org': return `https://bitbucket.org/${path}/pull-requests/new?source=${from}`
  }
}

export const statusWords: Record<RunStatus, string> = {
  queued: 'Queued',
  preparing: 'Preparing',
  running: 'Running',
  finished: 'Finished',
  failed: 'Failed',
  cancelled: 'Cancelled',
  expired: 'Expired',
}

/** What a list says of an agent: the status of the run that it is at, or that it is
 * archived. */
export function stateOf(a: AgentSummary): RunStatus | 'archived' {
  if (a.status === 'ARCHIVED') return 'archived'
  return (a.glance?.state || a.state || 'queued') as RunStatus
}

/** "just now", "3 min ago". */
export function ago(since: string, now: number): string {
  const ms = now - Date.parse(since)
  return ms < 60_000 ? 'just now' : `${span(ms)} ago`
}

/** A size in bytes in its largest unit. */
export function bytes(n: number): string {
  if (n < 1000) return `${n} B`
  const units = ['kB', 'MB', 'GB', 'TB']
  let at = -1
  do {
    n /= 1000
    at++
  } while (n >= 999.5 && at < units.length - 1)
  return `${n < 10 ? n.toFixed(1) : Math.round(n)} ${units[at]}`
}

/** As much of an id as tells it from others. */
export function short(id: string): string {
  const [, prefix, digits] = /^([a-z]+-)(?:\d{8}-)?([0-9a-f]{8})-/.exec(id) ?? []
  return digits ? prefix + digits : id.slice(0, 15)
}

/** A sentence with the ids in it cut short. */
export function shortened(text: string): string {
  return text.replace(/\b[a-z]+-(?:\d{8}-)?[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b/g, short)
}

/** "1 build", "3 builds". */
export function count(n: number, one: string, many = `${one}s`): string {
  return `${n} ${n === 1 ? one : many}`
}
