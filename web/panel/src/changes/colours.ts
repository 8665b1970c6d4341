// Syntax colours for the lines of a diff: the program of a worker, so that no
// scrolling waits for them. paint.ts asks it.
import hljs from 'highlight.js/lib/core'
import bash from 'highlight.js/lib/languages/bash'
import c from 'highlight.js/lib/languages/c'
import cpp from 'highlight.js/lib/languages/cpp'
import csharp from 'highlight.js/lib/languages/csharp'
import css from 'highlight.js/lib/languages/css'
import dockerfile from 'highlight.js/lib/languages/dockerfile'
import go from 'highlight.js/lib/languages/go'
import ini from 'highlight.js/lib/languages/ini'
import java from 'highlight.js/lib/languages/java'
import javascript from 'highlight.js/lib/languages/javascript'
import json from 'highlight.js/lib/languages/json'
import kotlin from 'highlight.js/lib/languages/kotlin'
import markdown from 'highlight.js/lib/languages/markdown'
import php from 'highlight.js/lib/languages/php'
import python from 'highlight.js/lib/languages/python'
import ruby from 'highlight.js/lib/languages/ruby'
import rust from 'highlight.js/lib/languages/rust'
import sql from 'highlight.js/lib/languages/sql'
import swift from 'highlight.js/lib/languages/swift'
import typescript from 'highlight.js/lib/languages/typescript'
import xml from 'highlight.js/lib/languages/xml'
import yaml from 'highlight.js/lib/languages/yaml'

const languages = { bash, c, cpp, csharp, css, dockerfile, go, ini, java, javascript, json, kotlin, markdown, php, python, ruby, rust, sql, swift, typescript, xml, yaml }
for (const [name, language] of Object.entries(languages)) hljs.registerLanguage(name, language)

const endings: Record<string, keyof typeof languages> = {
  sh: 'bash', bash: 'bash', zsh: 'bash', c: 'c', h: 'c', cc: 'cpp', cpp: 'cpp', hpp: 'cpp', cs: 'csharp', css: 'css', scss: 'css',
  go: 'go', mod: 'go', ini: 'ini', toml: 'ini', java: 'java', js: 'javascript', jsx: 'javascript', mjs: 'javascript', cjs: 'javascript',
  json: 'json', jsonc: 'json', kt: 'kotlin', md: 'markdown', php: 'php', py: 'python', rb: 'ruby', rs: 'rust', sql: 'sql', swift: 'swift',
  ts: 'typescript', tsx: 'typescript', html: 'xml', svelte: 'xml', vue: 'xml', svg: 'xml', xml: 'xml', yml: 'yaml', yaml: 'yaml',
}

/** A line that is to get its colours. */
export interface Wanted {
  path: string
  text: string
}

/** Lines longer than this are data rather than something to read. */
const longest = 1000

/** Gives a line as HTML with its colours; the text itself is escaped. Each line
 * stands alone, so what spans lines (a long comment) is coloured as code. */
function coloured({ path, text }: Wanted): string | undefined {
  const name = path.split('/').pop() ?? ''
  const language = name === 'Dockerfile' ? 'dockerfile' : endings[name.split('.').pop() ?? '']
  if (!language || text.length > longest) return undefined
  return hljs.highlight(text, { language, ignoreIllegals: true }).value
}

addEventListener('message', ({ data }: MessageEvent<Wanted[]>) => postMessage(data.map(coloured)))
