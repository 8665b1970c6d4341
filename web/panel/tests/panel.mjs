// Drives the built panel in a real browser against a real server, as a person
// would. cmd/errand's TestPanel starts both, and the scripted model behind them.
//
// Said on stdout, a line each: "restart", which the test answers with "ready"
// when the server was killed and serves again. Everything else is for people.
import assert from 'node:assert/strict'
import { readFileSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { ask, atBothWidths, key, paste, repo, request, url } from './browser.mjs'

/** The whole path of a person at one width. */
await atBothWidths(async (page, width, look) => {
  // A page that is asked for before signing in is there afterwards.
  await (width === 1440 ? signInByKey : signInByCode)(page, look)

  // Start an agent. A draft survives a reload.
  await page.goto(`${url}/new`)
  const prompt = page.getByRole('textbox', { name: 'Prompt' })
  await prompt.fill(`Make the test suite pass (${width} wide)`)
  await page.getByRole('combobox', { name: 'Repository', exact: true }).fill(repo)
  await page.getByLabel('Engine').selectOption('runc')
  await page.reload()
  assert.equal(await prompt.inputValue(), `Make the test suite pass (${width} wide)`)
  assert.equal(await page.getByRole('combobox', { name: 'Repository', exact: true }).inputValue(), repo)
  await paste(prompt)
  await page.getByRole('img', { name: 'Picture 1' }).waitFor()
  await look('new')
  await page.getByRole('button', { name: 'Start', exact: true }).click()

  // Watch it.
  await page.getByText('I will run the tests first').waitFor()
  await page.getByText('All tests pass now').waitFor({ timeout: 60_000 })
  await page.getByRole('heading', { name: /^Finished/ }).waitFor({ timeout: 60_000 })
  assert.equal(await page.getByRole('img', { name: 'Picture 1 of the prompt' }).count(), 1)
  const run = page.locator('summary', { hasText: 'sh tests/run.sh' }).first()
  await run.click()
  await page.locator('.ansi-red-fg').getByText('not ok').first().waitFor()
  await page.locator('summary', { hasText: 'Edit' }).first().click()
  await page.getByText('<img src=x onerror=').waitFor() // as text
  assert.equal(await page.evaluate(() => 'broken' in window), false, 'what a model says was run as a script')
  await page.evaluate(() => scrollTo(0, 0))
  await look('agent')

  // Follow up; the server is killed while it works, and comes back. What streamed
  // is there once.
  const box = page.getByRole('textbox', { name: 'Follow-up' })
  await box.fill('Add a changelog too')
  await page.getByRole('button', { name: 'Send', exact: true }).click()
  await page.getByText('I add the changelog').waitFor()
  await page.getByRole('button', { name: 'Stop' }).waitFor()
  await box.fill('And say who wrote it')
  await page.getByRole('button', { name: 'Queue' }).click()
  await page.getByText('Next:').waitFor()
  await look('busy')
  await ask('restart')
  await page.getByText('CHANGELOG.md now says what changed').waitFor({ timeout: 60_000 })
  await page.getByText('Ada wrote it').waitFor({ timeout: 60_000 })
  await page.getByRole('heading', { name: /^Finished/ }).nth(2).waitFor({ timeout: 60_000 })
  for (const once of ['I will run the tests first', 'I add the changelog', 'CHANGELOG.md now says what changed', 'Ada wrote it']) {
    assert.equal(await page.locator('.conversation').getByText(once).count(), 1, `${once}: not there once`)
  }
  const agent = new URL(page.url()).pathname

  // A link to a place leads there.
  const place = await page.locator('.item', { hasText: 'All tests pass now' }).first().getAttribute('id')
  await page.goto(`${url}${agent}#${place}`)
  await page.locator(`#${place}`).waitFor()
  await page.waitForFunction((id) => {
    const r = document.getElementById(id).getBoundingClientRect()
    return r.top >= 0 && r.bottom <= innerHeight
  }, place)

  // Review: mark as viewed, comment, and send that as a follow-up.
  await page.getByRole('link', { name: 'Changes', exact: true }).click()
  await page.getByText('2 files').waitFor()
  await page.getByText("tr -s ' ' '-'").first().waitFor()
  await look('changes')
  const [patch] = await Promise.all([page.waitForEvent('download'), page.getByRole('button', { name: 'Patch' }).click()])
  assert.match(readFileSync(await patch.path(), 'utf8'), /^diff --git a\/CHANGELOG\.md/)
  await page.getByRole('button', { name: /^(Unified|Side by side)$/ }).click()
  const line = page.getByRole('button', { name: 'Comment on line 3 of CHANGELOG.md' }).first()
  await line.focus()
  await page.keyboard.press('Enter')
  await page.getByRole('textbox', { name: 'Comment on line 3 of CHANGELOG.md' }).fill('Say it in one word.')
  await look('review')
  await page.getByRole('checkbox', { name: 'Viewed slug.sh' }).check()
  await page.getByText('1 viewed').waitFor()
  await page.getByRole('button', { name: 'Send 1 comment' }).click()
  await page.getByText('I see to the comments').waitFor()
  await page.locator('.conversation').getByText('Say it in one word.').waitFor()

  // The list: live, searched, driven by keys.
  await page.goto(url)
  const row = page.getByRole('listitem').filter({ hasText: `${width} wide` })
  await row.getByText('Finished').waitFor()
  await look('list')
  await page.keyboard.press('/')
  await page.keyboard.type(`${width} wide`)
  await page.waitForFunction(() => document.querySelectorAll('[role=listitem]').length === 1)
  assert.match(page.url(), /q=/)
  await page.keyboard.press('Escape')
  await page.keyboard.press('j')
  await page.keyboard.press('?')
  await look('keys')
  await page.keyboard.press('Escape')
  await page.keyboard.press('Enter')
  await page.waitForURL(`**${agent}`)
  await page.goBack()
  await row.waitFor()
  await page.keyboard.press('j')
  await page.keyboard.press('e')
  await page.getByText(/^(No agent fits|All agents are archived)/).waitFor()
  await page.goto(`${url}/?status=archived`)
  await row.waitFor()

  await page.getByRole('button', { name: 'Sign out' }).click()
  await page.getByRole('button', { name: 'Sign in' }).waitFor()
  await page.goto(`${url}${agent}`)
  await page.getByRole('button', { name: 'Sign in' }).waitFor()
})

async function signInByKey(page, look) {
  await page.goto(`${url}/?status=unread`)
  await page.getByLabel('Key').fill('wrong')
  await page.getByRole('button', { name: 'Sign in' }).click()
  await page.getByRole('alert').filter({ hasText: /\w/ }).waitFor()
  await look('sign-in')
  await page.getByLabel('Key').fill(key)
  await page.getByRole('button', { name: 'Sign in' }).click()
  await page.getByText('No agent fits').waitFor()
  assert.equal(new URL(page.url()).search, '?status=unread')
}

/** Signs in as `errand open` does. The agent of the round before is archived. */
async function signInByCode(page) {
  const { code } = await request('POST', '/v1/sign-in-codes')
  await page.goto(`${url}/#code=${code}`)
  await page.getByText('All agents are archived').waitFor()
  assert.equal(new URL(page.url()).hash, '')
}

/** The panel's scripts without what is loaded only where a text is shown,
 * compressed, in bytes. */
const first = readdirSync(process.env.PANEL_DIST + '/assets')
  .filter((f) => f.endsWith('.js.br') && !/^(colours|editor)-/.test(f))
  .reduce((n, f) => n + readFileSync(join(process.env.PANEL_DIST, 'assets', f)).length, 0)
assert.ok(first < 300_000, `${first} bytes of script`)
