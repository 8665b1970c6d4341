// Agents at work and what a person does meanwhile: several are started with
// different models, follow-ups wait, are edited and taken back, and what is under
// way is interrupted and stopped.
import assert from 'node:assert/strict'
import { atBothWidths, paste, repo, request, signIn, url } from './browser.mjs'

await atBothWidths(async (page, width, look) => {
  await page.context().grantPermissions(['clipboard-read', 'clipboard-write'], { origin: url })
  await signIn(page, '/new')

  // The branches of the repository are offered; one that is not there says so.
  const repository = page.getByRole('combobox', { name: 'Repository', exact: true })
  const ref = page.getByRole('combobox', { name: 'Branch, tag or commit' })
  await repository.fill(`${repo}/nowhere`)
  await repository.blur()
  await page.getByText(/^Listing the branches of .* failed/).waitFor()
  await look('new-no-repository')
  await repository.fill(repo)
  await repository.blur()
  await page.getByText('3 branches and tags').waitFor()
  assert.equal(await ref.getAttribute('placeholder'), 'main (default)')
  const offered = await page.locator('#refs option').evaluateAll((all) => all.map((o) => `${o.value}: ${o.textContent}`))
  assert.deepEqual(offered, ['main: default branch', 'release/1: branch', 'v1: tag'])

  // All choices but the variables are there after a reload.
  const prompt = page.getByRole('textbox', { name: 'Prompt' })
  await prompt.fill(`Please greet (${width} wide)`)
  await ref.fill('release/1')
  for (const model of ['Claude Sonnet 4.5', 'Claude Haiku 5.5']) await page.getByRole('checkbox', { name: model, exact: true }).check()
  await page.getByLabel('Claude Haiku 5.5: Effort').selectOption('low')
  await page.getByLabel('Engine').selectOption('runc')
  await page.getByLabel('Processors').fill('1.5')
  await page.getByLabel('Memory, GiB').fill('1')
  await page.getByLabel('Open a pull request').check()
  await paste(prompt)
  await paste(prompt, 'drop')
  await page.getByRole('img', { name: 'Picture 2' }).waitFor()
  await kept(page, 'draft.new', 2)
  await page.reload()
  await page.getByRole('img', { name: 'Picture 2' }).waitFor()
  assert.equal(await prompt.inputValue(), `Please greet (${width} wide)`)
  assert.equal(await ref.inputValue(), 'release/1')
  assert.equal(await page.getByLabel('Processors').inputValue(), '1.5')
  assert.equal(await page.getByLabel('Open a pull request').isChecked(), true)
  assert.equal(await page.getByLabel('Claude Haiku 5.5: Effort').inputValue(), 'low')
  assert.equal(await page.getByLabel('Name of variable 1').count(), 0)
  await page.getByRole('button', { name: 'Add a variable' }).click()
  await page.getByLabel('Name of variable 1').evaluate((element) => {
    const data = new DataTransfer()
    data.setData('text', 'export GREETING="hello"\nOTHER=2\n')
    element.dispatchEvent(new ClipboardEvent('paste', { clipboardData: data, bubbles: true, cancelable: true }))
  })
  assert.equal(await page.getByLabel('Value of variable 1').inputValue(), 'hello')
  await page.getByRole('button', { name: 'Take out variable 2' }).click()
  await page.getByRole('button', { name: 'Take out picture 2' }).click()
  await look('new-two')
  await page.getByRole('button', { name: 'Start 2 agents' }).click()
  await page.getByText('Started 2 agents.').waitFor()
  await page.waitForURL(`${url}/`)
  const rows = page.getByRole('listitem').filter({ hasText: `greet (${width} wide)` })
  await rows.nth(1).getByText('Finished').waitFor({ timeout: 90_000 })
  await rows.nth(0).getByText('Finished').waitFor({ timeout: 90_000 })
  await look('list-two')
  const { items } = await request('GET', '/v1/agents?limit=2')
  assert.deepEqual(items.map((a) => a.model.id).sort(), ['claude-haiku-5-5', 'claude-sonnet-4-5'])
  for (const { id } of items) {
    const a = await request('GET', `/v1/agents/${id}`)
    assert.deepEqual(a.limits, { cpus: 1.5, memory: 2 ** 30 })
    assert.equal(a.autoCreatePR, true)
    assert.equal(a.repos[0].startingRef, 'release/1')
  }

  // A draft of a follow-up survives a reload; a picture goes with it.
  const agent = items.find((a) => a.model.id === 'claude-haiku-5-5').id
  await page.goto(`${url}/agents/${agent}`)
  await page.getByText('It says hello.').waitFor()
  const box = page.getByRole('textbox', { name: 'Follow-up' })
  await box.fill('Now some long work')
  await paste(box)
  await kept(page, `draft.${agent}`, 1)
  await page.reload()
  await page.getByText('It says hello.').waitFor()
  assert.equal(await box.inputValue(), 'Now some long work')
  await page.getByRole('img', { name: 'Picture 1', exact: true }).waitFor()
  await page.getByRole('button', { name: 'Send', exact: true }).click()
  await page.getByText('I take my time.').waitFor()
  assert.equal(await page.getByRole('img', { name: 'Picture 1 of the prompt' }).count(), 2)

  // Follow-ups wait, and the list says that the agent runs.
  const queue = async (text) => {
    await box.fill(text)
    await page.getByRole('button', { name: 'Queue' }).click()
    await page.locator('.queued', { hasText: text }).waitFor()
  }
  await queue('The first of two')
  await queue('The second of two')
  await look('waiting')
  await page.getByRole('link', { name: 'Errand: all agents' }).click()
  const row = page.locator(`#row-${agent}`)
  await row.getByText('Running').waitFor()
  if (width === 1440) await row.getByText('2 waiting').waitFor()
  await page.goBack()

  // One is edited, the other taken back. Neither has begun.
  await page.locator('.queued', { hasText: 'The first of two' }).getByRole('button', { name: 'Edit' }).click()
  await page.locator('.queued', { hasText: 'The first of two' }).waitFor({ state: 'detached' })
  assert.equal(await box.inputValue(), 'The first of two')
  await queue('The first, put in other words')
  await page.locator('.queued', { hasText: 'The second of two' }).getByRole('button', { name: 'Remove' }).click()
  await page.locator('.queued', { hasText: 'The second of two' }).waitFor({ state: 'detached' })
  assert.equal(await page.locator('.queued').count(), 1)
  assert.equal(await page.getByText(/^Taken back before its turn/).count(), 2)
  await row.page().getByText('Taken back before its turn: The second of two').waitFor()

  // Interrupt ends what is under way and what waits.
  await box.fill('Something urgent')
  await page.getByRole('button', { name: 'Interrupt' }).click()
  await page.getByText('I turn to that at once.').waitFor({ timeout: 60_000 })
  await page.getByRole('heading', { name: /^Finished/ }).nth(1).waitFor({ timeout: 60_000 })
  assert.equal(await page.getByRole('heading', { name: /^Cancelled/ }).count(), 1)
  assert.equal(await page.locator('.queued').count(), 0)

  // Stop ends it and nothing else.
  await box.fill('More long work')
  await page.getByRole('button', { name: 'Send', exact: true }).click()
  await page.getByText('I take my time.').nth(1).waitFor({ timeout: 60_000 })
  await page.getByRole('button', { name: 'Stop' }).click()
  await page.getByRole('heading', { name: /^Cancelled/ }).nth(1).waitFor({ timeout: 60_000 })
  await page.getByText('It was stopped.').nth(1).waitFor()
  assert.equal(await page.getByText('running…').count(), 0)
  await look('stopped')

  // From anywhere it is one press to the latest.
  await page.evaluate(() => scrollTo(0, 0))
  await page.getByRole('button', { name: '↓ Latest' }).click()
  await page.waitForFunction(() => scrollY + innerHeight >= document.documentElement.scrollHeight - 2)
  await page.getByRole('button', { name: '↓ Latest' }).waitFor({ state: 'detached' })

  // The conversation as Markdown.
  await page.getByRole('button', { name: 'Copy' }).click()
  await page.getByText('Copied as Markdown.').waitFor()
  const copied = await page.evaluate(() => navigator.clipboard.readText())
  assert.ok(copied.startsWith(`# Please greet (${width} wide)\n\n## `), copied.slice(0, 200))
  for (const part of ['It says **hello**.', '$ echo "$GREETING', 'hello from errand', 'Something urgent', '**Cancelled** after ', '**Finished** after ']) {
    assert.ok(copied.includes(part), `the Markdown lacks ${part}:\n${copied}`)
  }

  // What was taken back does not count as what became of the agent.
  await page.goto(url)
  await row.getByText('Cancelled').waitFor()

  // The next one begins with what was chosen last, and nothing of what was sent.
  await page.keyboard.press('n')
  await page.waitForURL(`${url}/new`)
  assert.equal(await prompt.inputValue(), '')
  assert.equal(await page.getByRole('img', { name: 'Picture 1' }).count(), 0)
  assert.equal(await repository.inputValue(), repo)
  assert.equal(await page.getByRole('checkbox', { name: 'Claude Sonnet 4.5', exact: true }).isChecked(), true)
  await page.getByText('branches and tags').waitFor()
  assert.equal(await page.locator('#refs option').first().evaluate((o) => `${o.value}: ${o.textContent}`), 'release/1: used before')
})

/** Waits until the browser has kept so many pictures of a draft. */
async function kept(page, draft, count) {
  await page.waitForFunction(async ([draft, count]) => {
    const open = indexedDB.open('errand', 1)
    await new Promise((done) => (open.onsuccess = done))
    const get = open.result.transaction('images').objectStore('images').get(draft)
    await new Promise((done) => (get.onsuccess = done))
    open.result.close()
    return get.result?.length === count
  }, [draft, count])
}
