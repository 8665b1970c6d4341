// Drives the settings, the notices and the panel as an app. cmd/errand's
// TestPanelSettings starts the server, behind a proxy that can be down and make
// the panel another version.
import assert from 'node:assert/strict'
import { ask, atBothWidths, key, repo, request, shown, signIn, until, url } from './browser.mjs'

/** How often each was done, at both widths. */
let runs = 0
let slept = 0

await atBothWidths(async (page, width, look) => {
  const context = page.context()
  await context.grantPermissions(['notifications'], { origin: url })
  await context.addInitScript(() => {
    window.tones = 0
    const make = AudioContext.prototype.createOscillator
    AudioContext.prototype.createOscillator = function () {
      window.tones++
      return make.call(this)
    }
    // What a browser does to a page in the background.
    let hidden = false
    Object.defineProperty(Document.prototype, 'hidden', { get: () => hidden })
    window.hide = (yes) => {
      hidden = yes
      document.dispatchEvent(new Event('visibilitychange'))
    }
  })
  const step = (name) => console.log(`${width} wide: ${name}`)
  await signIn(page)
  step('keys')
  const token = await keys(page, width, look)
  step('models')
  await models(page, look)
  step('defaults')
  await defaults(page, look)
  step('notices')
  const agent = await notices(page, width, look, token)
  step('usage')
  await usage(page, width, look)
  step('system')
  await system(page, look)
  step('sleep')
  await sleep(page, agent)
  step('app')
  await app(page, step)
  step('done')
})

/** As the key, beside the browser. */
async function as(token, method, path, body) {
  const response = await fetch(url + path, { method, headers: { Authorization: `Bearer ${token}`, 'Content-Type': 'application/json' }, body: body && JSON.stringify(body), signal: AbortSignal.timeout(30_000) })
  return { status: response.status, body: await response.json() }
}

async function keys(page, width, look) {
  await page.getByRole('link', { name: 'Settings' }).click()
  await page.waitForURL('**/settings')
  for (const name of [`robot-${width}`, `lost-${width}`]) {
    await page.getByRole('textbox', { name: 'Name' }).fill(name)
    await page.getByRole('textbox', { name: /^Person/ }).fill('Ada Lovelace')
    await page.getByRole('textbox', { name: /^Email/ }).fill(`ada-${width}@example.com`)
    await page.getByRole('button', { name: 'Make a key' }).click()
    await page.getByText(`The key “${name}”`).waitFor()
  }
  const lost = await page.locator('.token code').innerText()
  assert.equal((await as(lost, 'GET', '/v1/me')).body.userEmail, `ada-${width}@example.com`)
  await look('settings-keys')
  await page.getByRole('button', { name: 'I have it' }).click()
  assert.equal((await page.locator('main').innerText()).includes(lost), false)
  page.once('dialog', (d) => d.accept())
  await page.getByRole('button', { name: `Revoke lost-${width}…` }).click()
  const row = page.getByRole('listitem').filter({ hasText: `lost-${width}` })
  await row.getByText(/^revoked/).waitFor()
  assert.equal((await as(lost, 'GET', '/v1/me')).status, 401)
  // A name that is taken is said.
  await page.getByRole('textbox', { name: 'Name' }).fill(`robot-${width}`)
  await page.getByRole('button', { name: 'Make a key' }).click()
  await page.getByRole('alert').filter({ hasText: `There is a key "robot-${width}" already` }).waitFor()
  // The other one is used below: made again, since it was shown once.
  page.once('dialog', (d) => d.accept())
  await page.getByRole('button', { name: `Revoke robot-${width}…` }).click()
  await page.getByRole('listitem').filter({ hasText: `robot-${width}` }).getByText(/^revoked/).waitFor()
  return (await as(key, 'POST', '/v1/keys', { name: `robot-${width}`, person: 'Ada Lovelace', email: `ada-${width}@example.com` })).body.token
}

async function models(page, look) {
  await page.getByRole('link', { name: 'Models' }).click()
  await page.getByText('ANTHROPIC_API_KEY is set').waitFor()
  await page.getByText(/set OPENAI_API_KEY for the server/).waitFor()
  await page.getByRole('button', { name: 'Test Priced' }).click()
  const good = page.getByRole('listitem').filter({ hasText: 'Priced' })
  await good.getByText('“ready”').waitFor()
  await good.getByText('12 tokens').waitFor()
  await page.getByRole('button', { name: 'Test Refused' }).click()
  const bad = page.getByRole('listitem').filter({ hasText: 'Refused' })
  await bad.getByText('anthropic answered 401: invalid x-api-key').waitFor()
  await bad.getByText('Look at ANTHROPIC_API_KEY of the server').waitFor()
  await bad.scrollIntoViewIfNeeded()
  await look('settings-models')
}

async function defaults(page, look) {
  await page.goto(`${url}/new`)
  await page.getByRole('combobox', { name: 'Repository', exact: true }).fill('https://git.example/team/app.git')
  await page.getByLabel('Engine').selectOption('runc')
  await page.goto(`${url}/settings/defaults`)
  await page.getByRole('cell', { name: 'https://git.example/team/app.git' }).waitFor()
  await page.getByRole('row', { name: /--idle/ }).getByText('2s', { exact: true }).waitFor()
  await page.getByRole('row', { name: /--runs/ }).getByText('default', { exact: true }).waitFor()
  await look('settings-defaults')
  await page.getByRole('button', { name: 'Forget them' }).click()
  await page.getByRole('cell', { name: 'none', exact: true }).waitFor()
}

async function notices(page, width, look, token) {
  await page.getByRole('link', { name: 'Notices' }).click()
  await page.getByRole('switch', { name: 'Show notices' }).check()
  await page.getByRole('button', { name: 'Show one now' }).click()
  await until(() => shown(page), (all) => all.some((n) => n[2] === 'test'))
  await look('settings-notices')
  const tones = await page.evaluate(() => window.tones)
  // Two tabs, one of them in the background, tell it once between them.
  const other = await page.context().newPage()
  await other.goto(url)
  await other.getByRole('link', { name: 'Settings' }).waitFor()
  await page.evaluate(() => window.hide(true))
  const made = (await as(token, 'POST', '/v1/agents', { name: `Count (${width})`, prompt: { text: 'Count the files' }, repos: [{ url: repo }], engine: 'runc' })).body
  const { id } = made.agent
  const all = await until(() => shown(page), (all) => all.some((n) => n[2] === made.run.id))
  assert.deepEqual(all.find((n) => n[2] === made.run.id), [`Count (${width}): done`, 'There are two files.', made.run.id, `/agents/${id}`])
  assert.equal((await page.evaluate(() => window.tones)) - tones, 2, 'the sound is two tones, of one tab')
  assert.equal(await other.evaluate(() => window.tones), 0)
  // Its end is no news when it is archived later; nor is what was stopped.
  await request('POST', `/v1/agents/${id}/archive`)
  await request('POST', `/v1/agents/${id}/unarchive`)
  // The tab that told it is closed: the other goes on. A question is one.
  await page.evaluate(() => window.hide(false))
  await page.goto('about:blank')
  const asked = (await as(token, 'POST', `/v1/agents/${id}/runs`, { prompt: { text: 'Shall it go on' } })).body.run
  await until(() => shown(other), (all) => all.some((n) => n[2] === asked.id))
  const now = (await shown(other)).filter((n) => n[2] !== 'test').sort()
  assert.deepEqual(now.map((n) => n.slice(0, 2)), [[`Count (${width}): done`, 'There are two files.'], [`Count (${width}): has a question`, 'Shall I delete it?']])
  await other.close()
  await page.goto(`${url}/settings/notices`)
  await page.getByRole('switch', { name: 'Show notices' }).uncheck()
  return id
}

async function usage(page, width, look) {
  runs++
  const mine = (by) => request('GET', `/v1/usage?by=${by}`)
  // The machine is stopped when nobody has used it for two seconds.
  const person = `ada-${width}@example.com`
  const own = (await until(() => mine('person'), (u) => u.items.some((i) => i.name === person && i.machineMs > 0))).items.find((i) => i.name === person)
  assert.deepEqual(own.usage, { inputTokens: 1001, outputTokens: 201, cacheWriteTokens: 51, cacheReadTokens: 3001, totalTokens: 4254 })
  assert.equal(own.costCents, 0.4725 + 0.00147) // in dollars for a million: 2, 10, 0.2, 2.5
  assert.ok(own.machineMs < 10 * 60_000, `${own.machineMs} ms`)

  await page.goto(`${url}/settings/usage?by=person`)
  await page.getByText('As a table').click()
  const cells = await page.getByRole('row', { name: new RegExp(` ${person} `) }).getByRole('cell').allInnerTexts()
  assert.deepEqual([cells[2], cells[3], cells[5], cells[6]], ['4,254', '$0.0047', '1,001, 201', '3,001, 51'])
  assert.match(cells[4], /^0\.\d{3} h$/)
  await page.getByRole('combobox', { name: /^By/ }).selectOption('model')
  await page.waitForURL('**/settings/usage?by=model')
  // One run with two prompts for each width so far, and a test of the model.
  const row = await until(() => page.getByRole('row', { name: /priced/ }).getByRole('cell').allInnerTexts(), (all) => all.length > 2)
  const used = runs * 4254 + slept * 4 + runs * 12
  assert.equal(row[2], used.toLocaleString('en'))
  let before = 0 // as the test wrote it
  for (let ago = 1; ago < 30; ago++) for (let n = 0; n < 3; n++) if ((ago + n) % 6) before += (1 + ((ago * 7 + n * 3) % 11)) * 100_000
  const all = (before + used).toLocaleString('en')
  assert.equal(await page.getByRole('img', { name: new RegExp(`^Tokens, .*: ${all} in all`) }).count(), 1, all)
  await look('settings-usage')
  await page.getByRole('combobox', { name: /^By/ }).selectOption('repository')
  await page.getByRole('combobox', { name: /^Over/ }).selectOption('26w')
  await page.getByRole('img', { name: /^Machine hours/ }).waitFor()
  await look('settings-usage-weeks')
}

async function system(page, look) {
  await page.getByRole('link', { name: 'System' }).click()
  await page.getByRole('list', { name: 'Findings' }).getByRole('listitem').first().waitFor()
  assert.ok((await page.getByRole('list', { name: 'Findings' }).getByRole('listitem').count()) >= 5)
  await page.getByText(/^0 of 4 under way, 0 waiting/).waitFor()
  await look('settings-system')
}

/** A page in the background is not connected, and goes on where it was. */
async function sleep(page, id) {
  await page.goto(`${url}/agents/${id}`)
  await page.getByText('There are two files').waitFor()
  await page.evaluate(() => window.hide(true))
  const { run } = await request('POST', `/v1/agents/${id}/runs`, { prompt: { text: 'While you slept' } })
  await until(() => request('GET', `/v1/agents/${id}/runs/${run.id}`), (r) => r.state === 'finished')
  slept++
  assert.equal(await page.getByText('I worked while nobody looked').count(), 0)
  await page.evaluate(() => window.hide(false))
  await page.getByText('I worked while nobody looked').first().waitFor()
  await page.getByRole('heading', { name: /^Finished/ }).nth(2).waitFor()
  for (const once of ['There are two files', 'Shall I delete it', 'I worked while nobody looked']) {
    assert.equal(await page.locator('.conversation').getByText(once).count(), 1, `${once}: not there once`)
  }
}

/** The panel without its server, and after an upgrade. */
async function app(page, step) {
  await page.goto(`${url}/settings/notices`)
  await until(() => page.evaluate(() => !!navigator.serviceWorker.controller), Boolean)
  const kept = () => page.evaluate(async () => {
    const all = []
    for (const name of await caches.keys()) all.push([name, (await (await caches.open(name)).keys()).map((r) => new URL(r.url).pathname)])
    return all
  })
  const before = await kept()
  assert.equal(before.length, 1)
  assert.ok(before[0][1].includes('/') && before[0][1].some((f) => /^\/assets\/.*\.js$/.test(f)), JSON.stringify(before))
  assert.deepEqual(before.flatMap(([, files]) => files).filter((f) => /^\/(v1|v0|openapi)/.test(f)), [], 'answers of the API are kept')

  step('without the server')
  await ask('down')
  await page.reload()
  await page.getByRole('link', { name: 'Settings' }).first().waitFor()
  await page.getByRole('link', { name: 'System' }).click()
  await page.getByText('The server does not answer').waitFor()
  await ask('up')
  await page.getByRole('button', { name: 'Look again' }).click()
  await page.getByRole('list', { name: 'Findings' }).waitFor()

  step('upgrade')
  // A page that is open tells of the upgrade by itself, and what it wrote is kept.
  await page.goto(`${url}/`)
  await page.getByText(/^\d+ agents?$/).waitFor()
  const script = () => page.evaluate(() => document.querySelector('script[type=module]').getAttribute('src'))
  const old = await script()
  await ask('upgrade')
  await page.getByText('The server was upgraded').waitFor()
  await page.getByRole('button', { name: 'Reload' }).click()
  await until(async () => (await script().catch(() => old)) !== old, Boolean)
  await page.getByText(/^\d+ agents?$/).waitFor()
  assert.equal(await page.getByText('The server was upgraded').count(), 0)
  step('after the upgrade')
  // The new version is what is kept now; the one before stays for pages of it.
  const after = await until(kept, (all) => all.length === 2 && all[1][1].length === before[0][1].length)
  assert.equal(after[0][0], before[0][0])
  const name = new URL(await script(), url).pathname
  assert.ok(after[1][1].includes(name) && !after[0][1].includes(name), JSON.stringify(after))
  await until(() => page.evaluate(async () => {
    const { installing, waiting, active } = await navigator.serviceWorker.ready
    return !installing && !waiting && active.state
  }), (state) => state === 'activated')
  await ask('down')
  await page.reload()
  await page.getByRole('link', { name: 'Settings' }).waitFor()
  assert.equal(await script(), name)
  await ask('up')
  await page.reload()
  await page.getByText(/^\d+ agents?$/).waitFor()
}
