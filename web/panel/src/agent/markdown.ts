// A conversation as Markdown, to be put elsewhere.
import type { RunFold } from '../journal/fold'
import { statusWords, took } from '../words'
import { lineOf } from './tool'

/** Gives what was asked, said and done; not what was thought. */
export function asMarkdown(name: string, runs: RunFold[]): string {
  const out = [`# ${name}`]
  for (const item of runs.flatMap((r) => r.items)) {
    if (item.type === 'prompt') out.push(`## ${item.by}`, item.text)
    else if (item.type === 'text') out.push(item.text.trim())
    else if (item.type === 'notice') out.push(`> ${item.text}`)
    else if (item.type === 'tool') {
      const { verb, what } = lineOf(item)
      out.push(item.name === 'run_terminal_cmd' ? fence(`$ ${what}\n${item.end?.output ?? ''}`) : `- ${verb} ${what ? `\`${what}\`` : ''}`)
    } else if (item.type === 'end') {
      out.push(`**${statusWords[item.status]}** after ${took(item.ms)}`)
      if (item.error) out.push(item.error.message)
      if (item.result) out.push(item.result)
    }
  }
  return out.join('\n\n') + '\n'
}

/** Puts a fence around text that is longer than any in it. */
function fence(text: string): string {
  const marks = '`'.repeat(Math.max(3, ...(text.match(/`+/g) ?? []).map((m) => m.length + 1)))
  return `${marks}\n${text.trimEnd()}\n${marks}`
}
