// A person takes an agent over, sees who else is there, and hands it back; another
// takes it, and the first hands it back for them.
import assert from 'node:assert/strict'
import { ask, atBothWidths, repo, request, signIn, url } from './browser.mjs'

await atBothWidths(async (page, width, look) => {
  await signIn(page)
  const { agent } = await request('POST', '/v1/agents', { prompt: { text: `Mend the greeting (${width} wide)` }, repos: [{ url: repo }], engine: 'runc' })
  const id = agent.id
  await page.goto(`${url}/agents/${id}`)
  await page.getByText('I run the tests.').waitFor({ timeout: 60_000 })
  await ask(`begun ${id}`)

  // Taken over in the middle of a call, which goes on; nothing is asked for it.
  await page.getByRole('button', { name: 'Take over' }).click()
  const held = page.getByRole('region', { name: 'Taken over' })
  await held.getByText(/ has taken over$/).waitFor()
  await held.getByText(/until .*, then it is handed back by itself/).waitFor()
  await page.getByText('The command under way goes on to its end').waitFor()
  assert.equal(await page.getByRole('button', { name: 'Take over' }).count(), 0)
  await look('taken-over')

  // Another comes into a terminal.
  await ask(`grace ${id}`)
  if (width < 1000) await page.locator('aside summary').click()
  await page.getByText('types in desk').or(page.getByText('is in desk')).waitFor()
  await look('two-people')
  if (width < 1000) await page.locator('aside summary').click()
  await ask(`left ${id}`)
  await page.getByText(/in desk/).waitFor({ state: 'detached' })

  // The list says so, a follow-up waits, and the page is the same after a reload.
  await page.getByRole('link', { name: 'Errand: all agents' }).click()
  await page.locator(`#row-${id}`).getByText(/ has taken over\./).waitFor()
  await look('list-taken-over')
  await page.goBack()
  const box = page.getByRole('textbox', { name: 'Follow-up' })
  await box.fill('And a changelog')
  await page.getByRole('button', { name: 'Queue' }).click()
  await page.locator('.queued', { hasText: 'And a changelog' }).waitFor()
  await ask(`edit ${id}`)
  await page.getByText(/^Paused until .* hands the agent back\.$/).waitFor()
  await held.getByRole('textbox', { name: 'A note for the agent' }).fill('It was a typo.')
  await page.reload()
  assert.equal(await held.getByRole('textbox', { name: 'A note for the agent' }).inputValue(), 'It was a typo.')
  await held.getByRole('button', { name: 'Longer' }).click()
  await page.getByText(/ has it for longer\.$/).waitFor()

  // Another takes it by force; to hand it back for them takes a second press.
  await ask(`force ${id}`)
  await held.getByText('Grace has taken over').waitFor()
  await held.getByRole('button', { name: 'Hand back' }).click()
  await held.getByRole('alert').getByText(/Grace has had agent/).waitFor()
  await look('somebody-elses')
  await held.getByRole('button', { name: 'Hand it back for Grace' }).click()
  await page.getByRole('heading', { name: / handed it back/ }).waitFor()
  await held.waitFor({ state: 'detached' })
  await page.getByText('I go on from there.').waitFor({ timeout: 60_000 })
  const told = page.locator('section', { has: page.getByRole('heading', { name: / handed it back/ }) })
  await told.getByText('It was a typo.').waitFor()
  await told.locator('ul').first().getByText('Mend the greeting').waitFor()
  for (const summary of await told.locator('summary').all()) await summary.click()
  await told.getByText('echo hello').waitFor()
  await told.scrollIntoViewIfNeeded()
  await look('handed-back')
  await page.getByText('There is a changelog.').waitFor({ timeout: 60_000 })
  assert.equal(await page.getByRole('button', { name: 'Take over' }).count(), 1)
})
