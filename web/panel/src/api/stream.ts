// Server-sent events with resume. EventSource would tell neither why it failed
// nor names that it was not told of, and it gives up when a server that starts
// again answers with an error.
import { Refusal, send } from './api'
import { upgrade } from '../upgrade.svelte'

export interface Message {
  id: string
  event: string
  data: string
}

export interface Stream {
  /** Goes on while the page is hidden. */
  whileHidden?: boolean
  /** Messages that came together, in order, each once; never heartbeats. */
  on(messages: Message[]): void
  /** The connection came to stand (again), or broke. */
  connected?(yes: boolean): void
  /** It will not come back: the thing is gone, or not for this caller. */
  failed?(why: Refusal): void
}

const shortest = 300
const longest = 10_000
/** The server shows every 15 s that it lives. */
const silence = 40_000

/** Follows url from after the message with the id last until the returned
 * function is called. While the page is hidden it is not connected (unless the
 * stream says so), and goes on where it was: browsers grant a server few connections, and hidden pages would
 * use them up. */
export function follow(url: string, stream: Stream, last = ''): () => void {
  const away = () => document.hidden && !stream.whileHidden
  let ended = false
  let broken = false
  let wait = shortest
  let current: AbortController | undefined
  let timer: ReturnType<typeof setTimeout> | undefined

  async function connect() {
    const abort = (current = new AbortController())
    try {
      const headers: Record<string, string> = { Accept: 'text/event-stream' }
      if (last) headers['Last-Event-ID'] = last
      const response = await send(url, { headers, signal: abort.signal })
      stream.connected?.(true)
      if (broken) void upgrade.look() // it may be another server that answers now
      broken = false
      wait = shortest
      await read(response, abort, (messages) => {
        last = messages.findLast((m) => m.id)?.id ?? last
        const told = messages.filter((m) => m.event !== 'heartbeat')
        if (told.length && !abort.signal.aborted) stream.on(told)
      })
    } catch (fault) {
      if (fault instanceof Refusal && fault.status >= 400 && fault.status < 500 && fault.status !== 429) {
        ended = true
        if (fault.status !== 401) stream.failed?.(fault)
      }
    }
    if (current !== abort) return
    current = undefined
    if (ended) return
    stream.connected?.(false)
    broken = true
    if (away()) return
    timer = setTimeout(connect, wait)
    wait = Math.min(wait * 2, longest)
  }

  function shown() {
    clearTimeout(timer)
    if (away()) {
      const was = current
      current = undefined
      was?.abort()
    } else if (!current) {
      wait = shortest
      void connect()
    }
  }

  document.addEventListener('visibilitychange', shown)
  window.addEventListener('online', shown)
  if (!away()) void connect()
  return () => {
    ended = true
    clearTimeout(timer)
    document.removeEventListener('visibilitychange', shown)
    window.removeEventListener('online', shown)
    const was = current
    current = undefined
    was?.abort()
  }
}

/** Reads a body until it ends, breaks or falls silent. */
async function read(response: Response, abort: AbortController, on: (messages: Message[]) => void) {
  const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader()
  let rest = ''
  for (;;) {
    const watch = setTimeout(() => abort.abort(), silence)
    const { done, value } = await reader.read().finally(() => clearTimeout(watch))
    if (done) return
    rest += value
    const end = rest.lastIndexOf('\n\n')
    if (end < 0) continue
    const messages = rest.slice(0, end).split('\n\n').map(parse)
    rest = rest.slice(end + 2)
    on(messages)
  }
}

function parse(block: string): Message {
  const message: Message = { id: '', event: 'message', data: '' }
  for (const line of block.split('\n')) {
    const colon = line.indexOf(': ')
    const [name, value] = [line.slice(0, colon), line.slice(colon + 2)]
    if (name === 'id') message.id = value
    else if (name === 'event') message.event = value
    else if (name === 'data') message.data += value
  }
  return message
}
