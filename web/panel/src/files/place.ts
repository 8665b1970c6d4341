// Addresses of files: of the page that shows them, and of the API's downloads.
import { fill } from '../api/api'

/** The page of a folder, or of a file in it. */
export function pageOf(id: string, path: string, open = ''): string {
  const query = new URLSearchParams()
  if (path) query.set('path', path)
  if (open) query.set('open', open)
  return `/agents/${id}/files${query.size ? `?${query}` : ''}`
}

/** A path of a folder's entry. */
export function within(folder: string, name: string): string {
  return folder ? `${folder}/${name}` : name
}

export function folderOf(path: string): string {
  return path.includes('/') ? path.slice(0, path.lastIndexOf('/')) : ''
}

/** A file as it is. tag makes the address another when the content is. */
export function contentOf(id: string, path: string, tag = ''): string {
  return fill('/v1/agents/{id}/files/content', { id }, { path, tag: tag || undefined })
}

export function archiveOf(id: string, path: string, format = 'zip'): string {
  return fill('/v1/agents/{id}/files/archive', { id }, { path, format })
}

/** Whether a name is of a picture that can be shown. */
export function isPicture(name: string): boolean {
  return /\.(png|jpe?g|gif|webp)$/i.test(name)
}
