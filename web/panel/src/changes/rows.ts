// A diff as a list of rows of known kinds, which are drawn only where they are in
// sight: its length costs nothing.
import { pairs, type FilePatch, type Line, type Pair } from './patch'

/** A line of a file on one side of the difference. */
export interface Place {
  path: string
  side: 'old' | 'now'
  line: number
}

export interface Comment extends Place {
  id: string
  /** The line that it is about, to be quoted. */
  quote: string
  text: string
}

export type Row =
  | { kind: 'file'; key: string; file: FilePatch }
  | { kind: 'note'; key: string; text: string }
  | { kind: 'hunk'; key: string; text: string }
  | { kind: 'line'; key: string; path: string; line: Line }
  | { kind: 'pair'; key: string; path: string; pair: Pair }
  | { kind: 'comment'; key: string; comment: Comment }

export function rowsOf(files: FilePatch[], how: { beside: boolean; closed: ReadonlySet<string>; comments: Comment[] }): Row[] {
  const rows: Row[] = []
  const commented = new Map<string, Comment[]>()
  for (const c of how.comments) commented.set(keyOf(c), [...(commented.get(keyOf(c)) ?? []), c])
  const comments = (path: string, line: Line | undefined) => {
    if (!line || !commented.size) return
    for (const comment of commented.get(keyOf(placeOf(path, line))) ?? []) rows.push({ kind: 'comment', key: `c${comment.id}`, comment })
  }
  for (const file of files) {
    const { path } = file
    rows.push({ kind: 'file', key: path, file })
    if (how.closed.has(path)) continue
    if (file.binary) rows.push({ kind: 'note', key: `${path} binary`, text: 'Binary; not shown.' })
    else if (!file.hunks.length) rows.push({ kind: 'note', key: `${path} empty`, text: file.notes.join(', ') || 'No lines.' })
    file.hunks.forEach((hunk, h) => {
      rows.push({ kind: 'hunk', key: `${path} ${h}`, text: hunk.header })
      if (how.beside) {
        pairs(hunk.lines).forEach((pair, i) => {
          rows.push({ kind: 'pair', key: `${path} ${h} ${i}`, path, pair })
          if (pair.left !== pair.right) comments(path, pair.left)
          comments(path, pair.right)
        })
      } else {
        hunk.lines.forEach((line, i) => {
          rows.push({ kind: 'line', key: `${path} ${h} ${i}`, path, line })
          comments(path, line)
        })
      }
    })
  }
  return rows
}

/** Where a line stands: removed ones in the old file, others in the new. */
export function placeOf(path: string, line: Line): Place {
  return line.kind === '-' ? { path, side: 'old', line: line.old } : { path, side: 'now', line: line.now }
}

export function keyOf(p: Place): string {
  return `${p.side} ${p.line} ${p.path}`
}

/** Comments as one prompt. */
export function promptOf(comments: Comment[]): string {
  const told = comments.map((c) => `${c.path}:${c.line}${c.side === 'old' ? ' (a line that was removed)' : ''}\n> ${c.quote.trim()}\n\n${c.text.trim()}`)
  return `I looked at the changes. Please see to these comments:\n\n${told.join('\n\n---\n\n')}`
}
