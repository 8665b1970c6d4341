import type { CreateAgent } from '../api/api'

/** A model that an agent is to be started with, and its parameters. */
export type Picked = {
  id: string
  params?: { id: string; value: string }[]
}

/** A variable for an agent's machine. */
export interface Variable {
  name: string
  value: string
}

/** Bounds of a machine as they are typed: processors, and GiB; "" is the server's
 * choice. */
export interface Bounds {
  cpus: string
  memory: string
  disk: string
}

/** Variables as the API takes them; lines that were left empty are none. */
export function envVarsOf(all: Variable[]): CreateAgent['envVars'] {
  const named = all.filter((v) => v.name.trim()).map((v) => [v.name.trim(), v.value])
  return named.length ? (Object.fromEntries(named) as Record<string, string>) : undefined
}

/** Bounds as the API takes them. */
export function limitsOf(b: Bounds): CreateAgent['limits'] {
  const gib = (text: string) => (Number(text) ? Math.round(Number(text) * 2 ** 30) : undefined)
  const limits = { cpus: Number(b.cpus) || undefined, memory: gib(b.memory), disk: gib(b.disk) }
  return Object.values(limits).some((n) => n !== undefined) ? limits : undefined
}
