// One WebSocket that shows a terminal: errand.exec.v1, in its bare form.
import { ask, fill, Refusal, sentence } from '../api/api'
import { access } from '../api/access.svelte'
import { upgrade } from '../upgrade.svelte'

export interface Size {
  cols: number
  rows: number
}

export interface Viewer {
  /** The size at this moment. */
  size(): Size
  /** A new connection stands: what was shown is shown anew. */
  connected(): void
  /** The connection broke; another is tried for. */
  broken(why: string): void
  /** Bytes to draw. drawn is called when they are. */
  show(bytes: Uint8Array, drawn: () => void): void
  /** It will not come back: the terminal has ended, or is not there. */
  ended(why: string, missing: boolean): void
}

export interface Connection {
  /** Types text, or what a mouse did as bytes. */
  type(data: string | Uint8Array): void
  resize(size: Size): void
  close(): void
}

/** How much output may be on its way that was not drawn, in bytes: a browser
 * cannot stop reading a WebSocket. What does not fit waits in the machine, where
 * tmux leaves out what has passed meanwhile. */
const windowSize = 256 << 10
const shortest = 300
const longest = 10_000
/** A page that nobody has seen for so long lets the machine sleep. */
const unseen = 10 * 60_000

const [stdin, text] = [0, new TextEncoder()]

/** Looks at a terminal until close is called or it ends, again and again when the
 * connection breaks. */
export function connect(at: { id: string; name: string }, readOnly: boolean, viewer: Viewer): Connection {
  const url = new URL(fill('/v1/agents/{id}/terminals/{name}', at), location.href)
  url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:'
  let socket: WebSocket | undefined
  let [closed, wait, drawn] = [false, shortest, 0]
  let timer: ReturnType<typeof setTimeout> | undefined
  let hidden: ReturnType<typeof setTimeout> | undefined

  const send = (frame: object) => socket?.readyState === WebSocket.OPEN && socket.send(JSON.stringify(frame))

  function open() {
    clearTimeout(timer)
    drawn = 0
    let why = ''
    const own = (socket = new WebSocket(url, 'errand.exec.v1'))
    own.binaryType = 'arraybuffer'
    let stood = false
    own.onopen = () => {
      stood = true
      send({ type: 'start', start: { tty: viewer.size(), stdin: true, readOnly, window: windowSize, bare: true, existing: true } })
    }
    own.onmessage = (e: MessageEvent<ArrayBuffer | string>) => {
      if (own !== socket) return
      if (typeof e.data === 'string') {
        why = last(e.data)
        return
      }
      if (wait) {
        wait = 0
        viewer.connected()
      }
      const bytes = new Uint8Array(e.data, 1)
      viewer.show(bytes, () => own === socket && ack(bytes.length))
    }
    own.onclose = () => {
      if (own !== socket || closed) return
      socket = undefined
      if (stood) return again(why)
      // A browser does not say why no WebSocket came about; a request does.
      ask('get', '/v1/agents/{id}/terminals', { at: { id: at.id } }).then(
        () => again(why),
        (fault) => {
          const final = fault instanceof Refusal && fault.status >= 400 && fault.status < 500 && fault.status !== 429
          if (!final) return again('')
          if (fault.status !== 401) end(sentence(fault), false)
        },
      )
    }
  }

  function ack(bytes: number) {
    drawn += bytes
    if (drawn < windowSize / 4) return
    send({ type: 'ack', bytes: drawn })
    drawn = 0
  }

  /** Reads the last message; gives why the connection ends, if one comes after it. */
  function last(message: string): string {
    const frame = JSON.parse(message) as { type: string; kind?: string; error?: { code: string; message: string } }
    if (frame.type === 'exit') end('It has ended.', false)
    if (frame.type !== 'error' || !frame.error) return ''
    if (frame.kind === 'unauthorized') {
      access.signedOut = true
      end(frame.error.message, false)
    } else if (frame.kind === 'not_found') end(frame.error.message, true)
    else if (frame.kind === 'invalid' || frame.kind === 'gone') end(frame.error.message, false)
    return frame.error.message
  }

  function end(why: string, missing: boolean) {
    if (closed) return
    close()
    viewer.ended(why, missing)
  }

  function again(why: string) {
    if (closed || socket) return // somebody has connected meanwhile
    if (!wait) void upgrade.look() // it may be another server that answers next
    viewer.broken(why)
    wait = Math.min(Math.max(wait * 2, shortest), longest)
    timer = setTimeout(open, wait)
  }

  function seen() {
    clearTimeout(hidden)
    if (closed) return
    if (document.hidden) hidden = setTimeout(drop, unseen)
    else if (!socket) open()
  }

  function drop() {
    clearTimeout(timer)
    const was = socket
    socket = undefined
    was?.close()
    viewer.broken('')
  }

  function close() {
    closed = true
    clearTimeout(timer)
    clearTimeout(hidden)
    document.removeEventListener('visibilitychange', seen)
    window.removeEventListener('online', seen)
    const was = socket
    socket = undefined
    was?.close()
  }

  document.addEventListener('visibilitychange', seen)
  window.addEventListener('online', seen)
  open()
  return {
    type(data) {
      if (readOnly || socket?.readyState !== WebSocket.OPEN) return
      const bytes = typeof data === 'string' ? text.encode(data) : data
      // The server takes no longer messages.
      for (let at = 0; at < bytes.length; at += 128 << 10) {
        const piece = bytes.subarray(at, at + (128 << 10))
        const message = new Uint8Array(1 + piece.length)
        message[0] = stdin
        message.set(piece, 1)
        socket.send(message)
      }
    },
    resize: (size) => void send({ type: 'resize', size }),
    close,
  }
}
