// Looks at ports of machines: a real Vite dev server with hot reload, and a page
// that tries to act as the person. cmd/errand's TestPanelPreview starts the server
// and, when it is asked to, the programs in the machines.
import assert from 'node:assert/strict'
import { ask, atBothWidths, request, signIn, url } from './browser.mjs'

const { PREVIEW_AGENTS } = process.env
const engines = JSON.parse(PREVIEW_AGENTS) // by width: which agent, on which engine

await atBothWidths(async (page, width, look) => {
  const { id, engine } = engines[width]
  const step = (name) => console.log(`${width} wide, ${engine}: ${name}`)
  await signIn(page, `/agents/${id}`)
  step('ports')
  const ports = await listed(page, width)
  await ask(`start ${id} vite`)
  const vite = ports.getByRole('listitem').filter({ hasText: '5173' })
  await vite.filter({ hasText: 'vite' }).waitFor({ timeout: 60_000 })
  await vite.getByRole('button', { name: /^Copy/ }).waitFor()
  await look('agent-ports')
  step('vite')
  const preview = await open(page, vite)
  await hot(preview, id, step)
  step('hostile')
  await ask(`start ${id} hostile`)
  await hostile(page, id, new URL(preview.url()).origin)
  step('waiting')
  await waiting(page, id, look)
  step('editor')
  await listed(page, width) // the page was loaded anew
  await editor(page, id)
  step('done')
})

/** Gives the agent's ports, unfolding them on a phone. */
async function listed(page, width) {
  const side = page.getByRole('complementary', { name: 'About the agent' })
  if (width < 1000) await side.locator('summary').click()
  await side.getByRole('heading', { name: 'Ports' }).waitFor()
  return side.getByRole('list', { name: 'Ports' })
}

/** Opens a port as a person does, and gives the tab. */
async function open(page, port) {
  const [tab] = await Promise.all([page.waitForEvent('popup'), port.getByRole('button', { name: /^Open/ }).click()])
  await tab.waitForURL(/--/)
  return tab
}

/** Edits files of the Vite project and sees the page follow, without loading anew. */
async function hot(tab, id, step) {
  assert.match(tab.url(), new RegExp(`^http://5173--${id.slice(3)}\\.localhost:\\d+/$`), 'the ticket stays in the address')
  await tab.getByText('Text one').waitFor({ timeout: 60_000 })
  await tab.evaluate(() => (window.mark = 'the same page'))
  await ask(`edit ${id} text.js export const text = 'Text two'`)
  await tab.getByText('Text two').waitFor()
  assert.equal(await tab.evaluate(() => window.mark), 'the same page', 'the page was loaded anew')
  await ask(`edit ${id} style.css h1 { color: rgb(1, 2, 3) }`)
  await tab.waitForFunction(() => getComputedStyle(document.querySelector('h1')).color === 'rgb(1, 2, 3)')
  assert.equal(await tab.evaluate(() => window.mark), 'the same page', 'the page was loaded anew')
  step('server killed')
  await ask('restart')
  await ask(`edit ${id} text.js export const text = 'Text three'`)
  await tab.getByText('Text three').waitFor() // Vite's page finds its server again
}

/** A page in the machine tries what it can. */
async function hostile(page, id, other) {
  const before = (await request('GET', '/v1/agents')).items.length
  for (const panel of [url, url.replace('127.0.0.1', 'localhost')]) {
    if (panel !== url) await signInAt(page.context(), panel)
    const { url: way } = await request('POST', `/v1/agents/${id}/ports/4000/preview`, { path: `/?${new URLSearchParams({ panel, agent: id, other })}` })
    const tab = await page.context().newPage()
    await tab.goto(way)
    await tab.waitForFunction(() => document.title === 'Tried', undefined, { timeout: 120_000 })
    const found = JSON.parse(await tab.locator('#found').innerText())
    assert.deepEqual(
      { ...found, seen: '' },
      {
        cookies: '', // neither the panel's nor the preview's own, and none for all of localhost
        opener: 'null',
        me: 'refused: TypeError',
        'me, unread': 'refused: TypeError',
        start: 'refused: TypeError',
        ticket: 'refused: TypeError',
        exec: 'refused: no socket',
        tunnel: 'refused: no socket',
        'own host': 'basic 404 the program itself',
        'other preview': 'refused: TypeError',
        'other socket': 'refused: no socket',
        frame: 'refused: TypeError',
        form: 'sent', // and refused: below
        seen: '',
      },
      `what a page tries with ${panel}`,
    )
    assert.ok(!/errand_/.test(found.seen), `the program sees a cookie: ${found.seen}`)
    await tab.close()
  }
  const after = await request('GET', '/v1/agents')
  assert.equal(after.items.length, before, 'a page of a machine started an agent')
  assert.equal((await request('GET', `/v1/agents/${id}`)).status, 'ACTIVE', 'a page of a machine archived an agent')
  // The person is still who they were.
  await page.reload()
  await page.getByRole('button', { name: 'Sign out' }).waitFor()
}

/** The editor, in whose place the machine has the tests' program. */
async function editor(page, id) {
  const button = page.getByRole('button', { name: 'Open an editor' })
  await ask(`refuse ${id}`)
  await button.click()
  await page.getByText('Put code-server into the environment').waitFor({ timeout: 60_000 })
  await ask(`edit ${id} /usr/local/bin/code-server #!/bin/sh\\nexec node /tmp/preview.mjs 13337 127.0.0.1`)
  const [tab] = await Promise.all([page.waitForEvent('popup'), button.click()])
  await tab.getByText('It works').waitFor({ timeout: 60_000 })
  assert.match(tab.url(), /^http:\/\/13337--/)
  await tab.close()
}

async function signInAt(context, at) {
  const { code } = await request('POST', '/v1/sign-in-codes')
  const tab = await context.newPage()
  await tab.goto(`${at}/#code=${code}`)
  await tab.getByRole('button', { name: 'Sign out' }).waitFor()
  await tab.close()
}

/** A port that nothing listens on shows a page that loads again by itself. */
async function waiting(page, id, look) {
  const { url: way } = await request('POST', `/v1/agents/${id}/ports/4001/preview`)
  const tab = await page.context().newPage()
  await tab.goto(way)
  await tab.getByText('Nothing listens on port 4001 yet').waitFor()
  await look('preview-waits', tab)
  await ask(`start ${id} late`)
  await tab.getByText('It works').waitFor()
  await tab.goto(way)
  await tab.getByText('This address was used already').waitFor()
  await tab.close()
}
