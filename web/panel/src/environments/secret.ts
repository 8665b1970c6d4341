// Whose secrets are, and how they are said.
import { ask } from '../api/api'
import type { Secret } from '../api/environments'

export interface Owner {
  scope: Secret['scope']
  /** The environment's id, or the repository's URL. */
  of?: string
}

export const scopes: Record<Secret['scope'], string> = { user: 'yours', team: 'the team', repository: 'a repository', environment: 'an environment' }

export const kinds: Record<Secret['type'], { name: string; says: string }> = {
  runtime_secret: { name: 'runtime', says: 'A variable in the machine; taken out of all that leaves it, and pushes that contain it are refused.' },
  environment_variable: { name: 'variable', says: 'A variable in the machine, shown as it is.' },
  build_secret: { name: 'build', says: "Only for a Dockerfile's RUN --mount=type=secret; in no layer." },
}

export function ownerOf(s: Secret): Owner {
  return { scope: s.scope, of: s.environmentId ?? s.repository }
}

interface Place {
  path: '/v1/environments/{id}/secrets/{name}' | '/v1/repository/secrets/{name}' | '/v1/team/secrets/{name}' | '/v1/user/secrets/{name}'
  at: Record<string, string>
  query?: { url: string }
}

function place({ scope, of = '' }: Owner, name: string): Place {
  if (scope === 'environment') return { path: '/v1/environments/{id}/secrets/{name}', at: { id: of, name } }
  if (scope === 'repository') return { path: '/v1/repository/secrets/{name}', at: { name }, query: { url: of } }
  return { path: `/v1/${scope}/secrets/{name}`, at: { name } }
}

/** Sets a secret, new or in the place of the value that it had. */
export function put(owner: Owner, name: string, body: { value: string; type: Secret['type']; repos?: string[] }): Promise<Secret> {
  const { path, ...rest } = place(owner, name)
  return ask('put', path, { ...rest, body })
}

export function remove(owner: Owner, name: string) {
  const { path, ...rest } = place(owner, name)
  return ask('delete', path, rest)
}
