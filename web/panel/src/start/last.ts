// What the start form was told last, in this browser.
import { Kept } from '../kept.svelte'
import type { Bounds, Picked } from './model'

export const first = {
  repo: '', ref: '', environment: '', engine: '' as '' | 'gvisor' | 'runc', mode: 'agent' as 'agent' | 'plan', models: [] as Picked[],
  pullRequest: false, bounds: { cpus: '', memory: '', disk: '' } as Bounds,
}

export const last = new Kept('start.last', first)

/** Repositories with their refs, the latest first. */
export const recent = new Kept<{ url: string; refs: string[] }[]>('start.recent', [])
