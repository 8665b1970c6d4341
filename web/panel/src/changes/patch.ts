// Unified diffs, read into lines.

export interface Line {
  kind: ' ' | '+' | '-'
  text: string
  /** Line numbers before and after; 0 on the side where it is not. */
  old: number
  now: number
}

export interface Hunk {
  header: string
  lines: Line[]
}

export interface FilePatch {
  path: string
  oldPath: string
  hunks: Hunk[]
  binary: boolean
  /** What git says beside the lines: modes, renames. */
  notes: string[]
}

/** Reads what git, or a tool, printed. Lines that belong to nothing are left out. */
export function parsePatch(patch: string): FilePatch[] {
  const files: FilePatch[] = []
  let file: FilePatch | undefined
  let hunk: Hunk | undefined
  let [old, now, oldLeft, nowLeft] = [0, 0, 0, 0]
  const begin = () => {
    file = { path: '', oldPath: '', hunks: [], binary: false, notes: [] }
    hunk = undefined
    files.push(file)
  }
  for (const line of patch.split('\n')) {
    if (hunk && (oldLeft > 0 || nowLeft > 0)) {
      const kind = line[0] ?? ' '
      if (kind === '\\') continue
      if (kind === '+') hunk.lines.push({ kind, text: line.slice(1), old: 0, now: now++ }), nowLeft--
      else if (kind === '-') hunk.lines.push({ kind, text: line.slice(1), old: old++, now: 0 }), oldLeft--
      else hunk.lines.push({ kind: ' ', text: line.slice(1), old: old++, now: now++ }), oldLeft--, nowLeft--
      continue
    }
    const at = /^@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@(.*)$/.exec(line)
    if (at) {
      if (!file) begin()
      old = Number(at[1])
      now = Number(at[3])
      oldLeft = Number(at[2] ?? 1)
      nowLeft = Number(at[4] ?? 1)
      hunk = { header: line, lines: [] }
      file!.hunks.push(hunk)
    } else if (line.startsWith('diff --git ')) {
      begin()
      const paths = /^diff --git "?a\/(.*?)"? "?b\/(.*?)"?$/.exec(line)
      if (paths) [file!.oldPath, file!.path] = [paths[1]!, paths[2]!]
    } else if (line.startsWith('--- ')) {
      if (!file || file.hunks.length) begin()
      file!.oldPath = name(line.slice(4)) || file!.oldPath
    } else if (line.startsWith('+++ ') && file) {
      file.path = name(line.slice(4)) || file.path || file.oldPath
    } else if (file && /^(Binary files|GIT binary patch)/.test(line)) {
      file.binary = true
    } else if (file && /^(old mode|new mode|rename|similarity|new file|deleted file)/.test(line)) {
      if (line.startsWith('rename from ')) file.oldPath = line.slice(12)
      if (line.startsWith('rename to ')) file.path = line.slice(10)
      file.notes.push(line)
    }
  }
  return files
}

function name(text: string): string {
  const path = text.replace(/\t.*$/, '').replace(/^"(.*)"$/, '$1')
  return path === '/dev/null' ? '' : path.replace(/^[ab]\//, '')
}

/** A line beside what stands there now, for two columns. */
export interface Pair {
  left?: Line
  right?: Line
}

/** Puts removed lines beside the added ones that took their place. */
export function pairs(lines: Line[]): Pair[] {
  const out: Pair[] = []
  let removed: Line[] = []
  let added: Line[] = []
  const flush = () => {
    for (let i = 0; i < Math.max(removed.length, added.length); i++) out.push({ left: removed[i], right: added[i] })
    removed = []
    added = []
  }
  for (const line of lines) {
    if (line.kind === '-') {
      if (added.length) flush()
      removed.push(line)
    } else if (line.kind === '+') added.push(line)
    else {
      flush()
      out.push({ left: line, right: line })
    }
  }
  flush()
  return out
}
