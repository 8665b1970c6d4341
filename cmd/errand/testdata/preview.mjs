// A program that an agent might be building, for the tests of previews: pages,
// cookies, streams, large bodies and WebSockets, and what it was sent, as JSON.
import { createHash } from 'node:crypto'
import { createServer } from 'node:http'

const [port, host] = process.argv.slice(2)
const sockets = new Set()

const routes = {
  '/': (req, res) => res.setHeader('Content-Type', 'text/html').end('<!doctype html><title>Program</title><h1>It works</h1>'),
  '/seen': (req, res) => res.setHeader('Content-Type', 'application/json').end(JSON.stringify({ url: req.url, headers: req.headers, raw: req.rawHeaders })),
  '/away': (req, res) => res.writeHead(302, { Location: `http://${req.headers.host}/seen?from=away` }).end(),
  '/cookies': (req, res) =>
    res
      .setHeader('Set-Cookie', ['mine=1; Path=/; Domain=localhost', 'errand_preview=stolen; Path=/', 'other=2; HttpOnly'])
      .setHeader('Clear-Site-Data', '"*"')
      .setHeader('Strict-Transport-Security', 'max-age=1')
      .end(),
  '/events': (req, res) => {
    res.writeHead(200, { 'Content-Type': 'text/event-stream' })
    let n = 0
    const send = () => res.write(`data: ${++n}\n\n`)
    send()
    const timer = setInterval(send, 200)
    res.on('close', () => clearInterval(timer))
  },
  '/down': (req, res) => {
    let left = Number(new URL(req.url, 'http://x').searchParams.get('mb'))
    const piece = Buffer.alloc(1 << 20, 'd')
    res.setHeader('Content-Length', left << 20)
    const more = () => {
      while (left > 0) if ((left--, !res.write(piece))) return
      res.end()
    }
    res.on('drain', more)
    more()
  },
  '/up': (req, res) => {
    let size = 0
    const sum = createHash('sha256')
    req.on('data', (d) => ((size += d.length), req.headers['x-sum'] && sum.update(d)))
    req.on('end', () => res.end(JSON.stringify({ size, sum: req.headers['x-sum'] ? sum.digest('hex') : '' })))
  },
  '/headers': (req, res) => res.setHeader('X-Large', 'x'.repeat(1 << 20)).end(),
  '/sockets': (req, res) => res.end(String(sockets.size)),
}

const server = createServer({ maxHeaderSize: 1 << 20 }, (req, res) => {
  const route = routes[new URL(req.url, 'http://x').pathname]
  if (route) route(req, res)
  else res.writeHead(404).end('no such page')
})

// Frames of clients are masked; of those up to 64 KiB nothing is fragmented here.
server.on('upgrade', (req, socket) => {
  const accept = createHash('sha1').update(req.headers['sec-websocket-key'] + '258EAFA5-E914-47DA-95CA-C5AB0DC85B11').digest('base64')
  socket.write(`HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${accept}\r\n\r\n`)
  sockets.add(socket)
  socket.on('close', () => sockets.delete(socket))
  socket.on('error', () => socket.destroy())
  let have = Buffer.alloc(0)
  socket.on('data', (data) => {
    have = Buffer.concat([have, data])
    for (;;) {
      if (have.length < 6) return
      let length = have[1] & 127
      let at = 2
      if (length === 126) [length, at] = [have.readUInt16BE(2), 4]
      if (have.length < at + 4 + length) return
      const mask = have.subarray(at, at + 4)
      const body = Buffer.from(have.subarray(at + 4, at + 4 + length))
      for (let i = 0; i < length; i++) body[i] ^= mask[i & 3]
      const head = length < 126 ? Buffer.from([have[0], length]) : Buffer.from([have[0], 126, length >> 8, length & 255])
      socket.write(Buffer.concat([head, body])) // a ping too is answered with what it was
      have = have.subarray(at + 4 + length)
    }
  })
})

server.listen(Number(port), host, () => console.log('listening'))
