// What the programs that drive the panel in a real browser share. cmd/errand's
// tests start each of them, with a server and the scripted model behind it.
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { chromium } from 'playwright-core'

export const { PANEL_URL: url, PANEL_KEY: key, PANEL_REPO: repo } = process.env
const { PANEL_SHOTS: shots, PANEL_CHROMIUM: executablePath } = process.env
const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8')
const answers = createInterface({ input: process.stdin })[Symbol.asyncIterator]()

/** Lets drive be a person at a wide screen and at a phone's, one after the other.
 * It is given a page, its width, and what keeps a picture of the page, or of
 * another tab. */
export async function atBothWidths(drive) {
  const browser = await chromium.launch({
    executablePath,
    args: ['--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'],
  })
  try {
    for (const [width, height, colorScheme] of [[1440, 900, 'dark'], [390, 844, 'light']]) {
      const context = await browser.newContext({ viewport: { width, height }, colorScheme, acceptDownloads: true, reducedMotion: 'reduce' })
      const page = await context.newPage()
      page.setDefaultTimeout(30_000)
      const faults = []
      page.on('pageerror', (e) => faults.push(String(e)))
      page.on('console', (m) => m.type() === 'error' && !/Failed to load resource|ERR_/.test(m.text()) && faults.push(m.text()))
      await drive(page, width, (name, tab = page) => lookAt(tab, `${name}-${width}`))
      assert.deepEqual(faults, [], 'the browser complained')
      await context.close()
    }
  } finally {
    await browser.close()
    process.stdin.destroy() // which would keep this program
  }
}

/** Asks the test that started this program for something, and waits for it. */
export async function ask(what) {
  console.log(what)
  assert.equal((await answers.next()).value, 'ready')
}

/** Makes a request to the API, beside the browser. */
export async function request(method, path, body) {
  const response = await fetch(url + path, { method, headers: { Authorization: `Bearer ${key}`, 'Content-Type': 'application/json' }, body: body && JSON.stringify(body) })
  const text = await response.text()
  assert.ok(response.ok, `${method} ${path}: ${response.status} ${text}`)
  return text ? JSON.parse(text) : undefined
}

/** Signs in as `errand open` does, and is then at path. */
export async function signIn(page, path = '/') {
  const { code } = await request('POST', '/v1/sign-in-codes')
  await page.goto(`${url}${path}#code=${code}`)
  await page.getByRole('button', { name: 'Sign out' }).waitFor()
}

/** Pastes a picture, or drops it there, as a browser does it. */
export async function paste(into, how = 'paste') {
  await into.evaluate((element, how) => {
    const png = Uint8Array.from(atob('iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=='), (c) => c.charCodeAt(0))
    const data = new DataTransfer()
    data.items.add(new File([png], 'dot.png', { type: 'image/png' }))
    const kind = { bubbles: true, cancelable: true }
    element.dispatchEvent(how === 'drop' ? new DragEvent('drop', { dataTransfer: data, ...kind }) : new ClipboardEvent('paste', { clipboardData: data, ...kind }))
  }, how)
}

/** Notices that the browser shows now, each as its title, text, tag and path. */
export function shown(page) {
  return page.evaluate(async () => (await (await navigator.serviceWorker.ready).getNotifications()).map((n) => [n.title, n.body, n.tag, n.data.path]))
}

/** Asks again and again for something until it is as wanted. */
export async function until(what, ok) {
  let timer
  const late = new Promise((_, fail) => (timer = setTimeout(() => fail(new Error(`it stays ${JSON.stringify(last)}`)), 40_000)))
  let last
  try {
    while (!ok((last = await Promise.race([what(), late])))) await Promise.race([new Promise((done) => setTimeout(done, 50)), late])
    return last
  } finally {
    clearTimeout(timer)
  }
}

/** Gives what comes of a promise, and undefined where nothing comes for a minute:
 * now and then the browser draws no more frames on a busy machine, and a script in
 * the page that waits for one, ours or axe's, would wait for ever. */
export async function inTime(promise) {
  let timer
  const late = new Promise((done) => (timer = setTimeout(done, 60_000)))
  try {
    return await Promise.race([promise, late])
  } finally {
    clearTimeout(timer)
  }
}

/** Tells what is known of a page that draws no frames. */
export async function stalled(page, what) {
  const seen = await inTime(page.evaluate(() => `it is ${document.visibilityState}${document.hasFocus() ? '' : ', without the focus'}`))
  console.log(`${what}: the browser draws no frames; ${seen ?? 'it does not answer either'}`)
  await page.bringToFront()
}

/** Keeps a picture of the page for people, and lets axe look at it. */
export async function lookAt(page, name) {
  await page.screenshot({ path: join(shots, `${name}.png`) })
  assert.equal(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), true, `${name} is wider than the screen`)
  // The page's policy lets no script be added to it; the browser itself may.
  const run = async () => {
    await page.bringToFront()
    return inTime(page.evaluate(`(() => { ${axe}\n })(), axe.run({ resultTypes: ['violations'] })`))
  }
  let found = await run()
  if (!found) {
    await stalled(page, name)
    found = await run()
  }
  assert.ok(found, `axe does not end at ${name}`)
  const { violations } = found
  const grave = violations.filter((v) => v.impact === 'serious' || v.impact === 'critical')
  assert.deepEqual(grave.map((v) => `${v.id}: ${v.nodes.map((n) => `${n.html.slice(0, 160)} ${n.any[0]?.message ?? ''}`).slice(0, 3).join(' | ')}`), [], `axe at ${name}`)
}

