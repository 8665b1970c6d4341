// The panel's one way to the server: its public API, in the types of its own
// OpenAPI document. Streams are in stream.ts.
import type { components, paths } from './schema'
import { access } from './access.svelte'

type Schemas = components['schemas']
export type AgentSummary = Schemas['AgentSummary']
export type Agent = Schemas['Agent']
export type Run = Schemas['Run']
export type Usage = Schemas['Usage']
export type Diff = Schemas['Diff']
export type DiffFile = Schemas['DiffFile']
export type Model = Schemas['Model']
export type EnvironmentSummary = Schemas['EnvironmentSummary']
export type CreateAgent = Schemas['CreateAgent']
export type Image = Schemas['Image']
export type Ref = Schemas['Ref']
export type Commit = Schemas['Commit']
export type Key = Schemas['Key']
export type Settings = Schemas['Settings']
export type ModelTrial = Schemas['ModelTrial']
export type UsageOver = Schemas['UsageOver']
export type Ports = Schemas['Ports']
export type Terminal = Schemas['Terminal']
export type Health = Schemas['Health']
export type MachineFile = Schemas['File']
export type FileText = Schemas['FileText']
export type FileChanges = { paths: string[]; all?: boolean }
export type Artifact = Schemas['Artifact']
export type Presence = Schemas['Presence']
export type AgentChange = { agent?: AgentSummary; removed?: string }

type Method = 'get' | 'post' | 'put' | 'patch' | 'delete'
type Operation<M extends Method, P extends keyof paths> = paths[P] extends Record<M, infer O> ? O : never
type BodyOf<O> = O extends { requestBody: { content: { 'application/json': infer B } } }
  ? B
  : O extends { requestBody?: { content: { 'application/json': infer B } } } // one that may be left out
    ? B
    : undefined
type QueryOf<O> = O extends { parameters: { query?: infer Q } } ? Q : undefined
type Json<R> = R extends { content: { 'application/json': infer B } } ? B : void
type AnswerOf<O> = O extends { responses: infer R }
  ? { [S in keyof R]: S extends 200 | 201 | 204 ? Json<R[S]> : never }[keyof R]
  : never

/** What a request carries beside its path. */
export interface Asked<O> {
  /** The path's own parameters. */
  at?: Record<string, string>
  query?: QueryOf<O>
  body?: BodyOf<O>
  /** Makes a repeated request give the first one's answer. */
  idempotencyKey?: string
  signal?: AbortSignal
}

/** An answer that is no success. Its message is a sentence for people. */
export class Refusal extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
  ) {
    super(message)
  }
}

/** Makes a request. It fails with a Refusal, whose status is 0 if the server
 * cannot be reached. A 401 shows the sign-in page. */
export async function ask<M extends Method, P extends keyof paths>(
  method: M,
  path: P,
  asked: Asked<Operation<M, P>> = {},
): Promise<AnswerOf<Operation<M, P>>> {
  const headers: Record<string, string> = { Accept: 'application/json' }
  if (asked.body !== undefined) headers['Content-Type'] = 'application/json'
  if (asked.idempotencyKey) headers['Idempotency-Key'] = asked.idempotencyKey
  const response = await send(fill(path, asked.at, asked.query as object | undefined), {
    method: method.toUpperCase(),
    headers,
    body: asked.body === undefined ? undefined : JSON.stringify(asked.body),
    signal: asked.signal,
  })
  const text = await response.text()
  return (text ? JSON.parse(text) : undefined) as AnswerOf<Operation<M, P>>
}

/** Puts parameters into a path of the document. */
export function fill(path: string, at: Record<string, string> = {}, query: object = {}): string {
  const filled = path.replace(/\{(\w+)\}/g, (_, name: string) => encodeURIComponent(at[name] ?? ''))
  const rest = new URLSearchParams()
  for (const [name, value] of Object.entries(query)) {
    if (value !== undefined) rest.set(name, String(value))
  }
  return rest.size ? `${filled}?${rest}` : filled
}

/** Makes a request whose answer the caller reads itself. */
export async function send(url: string, init: RequestInit = {}): Promise<Response> {
  let response: Response
  try {
    response = await fetch(url, { ...init, credentials: 'same-origin' })
  } catch (fault) {
    if (init.signal?.aborted) throw fault
    throw new Refusal(0, 'unreachable', 'The server does not answer. Look whether errand serve is running; what you typed is kept.')
  }
  if (response.ok) return response
  if (response.status === 401 && url !== '/v1/sign-in') access.signedOut = true
  throw await refusal(response)
}

async function refusal(response: Response): Promise<Refusal> {
  try {
    const { error } = (await response.json()) as { error: { code: string; message: string } }
    return new Refusal(response.status, error.code, error.message)
  } catch {
    return new Refusal(response.status, 'unreadable', `The server answered ${response.status} without saying why. Its log does.`)
  }
}

/** The sentence for people in whatever was thrown. */
export function sentence(fault: unknown): string {
  return fault instanceof Error ? fault.message : String(fault)
}

/** A word that nobody else uses. Pages on plain HTTP have no randomUUID. */
export function unique(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) => b.toString(16).padStart(2, '0')).join('')
}
