// The list of agents with 1,000 of them: it scrolls without a stutter, its filters
// live in the address, and what is picked is archived and deleted at once.
import assert from 'node:assert/strict'
import { atBothWidths, request, signIn, url } from './browser.mjs'
import { quick, smooth } from './frames.mjs'

await atBothWidths(async (page, width, look) => {
  await signIn(page)
  const count = () => page.getByText(/^\d+ agents?$/).innerText().then((t) => parseInt(t))
  const counted = (n) => page.getByText(n === 1 ? '1 agent' : `${n} agents`, { exact: true }).waitFor()
  const rows = page.getByRole('listitem')

  // All are there, few are drawn, and they move.
  const began = Date.now()
  await page.waitForFunction(() => parseInt(document.querySelector('[role=status].muted')?.textContent ?? '') > 990)
  const all = await count()
  console.log(`${width} wide: ${all} agents were there after ${Date.now() - began} ms`)
  await look('list-1000')
  await quick(page, `${width} wide, the list of ${all} agents`, url, '.row')
  await smooth(page, `${width} wide, ${all} agents`, '.row', 500, 1000, { processor: 30, middle: 60, task: 400, rows: 100 })
  await page.getByRole('link', { name: /Task 000/ }).waitFor()

  // The filters are the address: together, over a reload, and as a link.
  await page.evaluate(() => scrollTo(0, 0))
  await page.getByLabel('Status').selectOption('failed')
  await page.getByLabel('Repository').selectOption({ label: 'team/app-1' })
  await page.getByLabel('Model').selectOption('claude-sonnet-4-5')
  await page.getByLabel('Search agents').fill('task-0')
  await page.waitForURL(/q=task-0$/)
  const address = page.url()
  assert.deepEqual(Object.fromEntries(new URL(address).searchParams), { status: 'failed', repo: 'https://git.example/team/app-1.git', model: 'claude-sonnet-4-5', q: 'task-0' })
  const fitting = await count()
  assert.ok(fitting > 3 && fitting < 30, `${fitting} agents fit`)
  assert.equal(await rows.filter({ hasText: 'Failed' }).count(), fitting)
  await look('filters')
  await page.reload()
  await counted(fitting)
  assert.equal(page.url(), address)
  assert.equal(await page.getByLabel('Status').inputValue(), 'failed')
  assert.equal(await page.getByLabel('Search agents').inputValue(), 'task-0')
  await page.goto(`${url}/?q=no+such+agent`)
  await page.getByRole('button', { name: 'Show all' }).click()
  await counted(all)
  assert.equal(new URL(page.url()).search, '')

  // Several are picked by keys, archived, and taken out again by buttons.
  for (const key of ['j', 'x', 'j', 'x', 'j', 'x']) await page.keyboard.press(key)
  await page.getByText('3 picked').waitFor()
  await look('picked')
  await page.keyboard.press('e')
  await page.getByText('Archived 3 agents.').waitFor()
  await counted(all - 3)
  await page.getByLabel('Status').selectOption('archived')
  await counted(3)
  await rows.first().getByRole('checkbox').check()
  await page.getByRole('button', { name: 'All 3' }).click()
  await page.getByRole('button', { name: 'Unarchive' }).click()
  await page.getByText('Unarchived 3 agents.').waitFor()
  await page.goto(url)
  await counted(all)

  // Deleting asks first, one or several.
  const asked = []
  const answer = (yes) => page.once('dialog', (d) => { asked.push(d.message()); void (yes ? d.accept() : d.dismiss()) })
  const name = await rows.first().locator('.name').evaluate((e) => e.lastChild.textContent)
  await page.keyboard.press('j')
  answer(false)
  await page.keyboard.press('#')
  await counted(all)
  answer(true)
  await page.keyboard.press('#')
  await page.getByText(`Deleted ${name}.`).waitFor()
  await counted(all - 1)
  assert.equal(asked.length, 2)
  assert.ok(asked.every((text) => text.startsWith(`Delete “${name}”`)), asked[0])
  await rows.nth(0).getByRole('checkbox').check()
  await rows.nth(1).getByRole('checkbox').check()
  const ids = await rows.evaluateAll((all) => all.slice(0, 3).map((row) => row.id.slice('row-'.length)))
  answer(true)
  await page.getByRole('button', { name: 'Delete…' }).click()
  await page.getByText('Deleted 2 agents.').waitFor()
  assert.match(asked[2], /^Delete 2 agents/)
  await counted(all - 3)
  const { items } = await request('GET', '/v1/agents?limit=100')
  assert.deepEqual(items.filter((a) => ids.includes(a.id)).map((a) => a.id), ids.slice(2))

  // What somebody else does is seen at once.
  await request('DELETE', `/v1/agents/${ids[2]}`)
  await counted(all - 4)
  await request('POST', `/v1/agents/${items[10].id}/archive`)
  await counted(all - 5)
  await request('POST', `/v1/agents/${items[10].id}/unarchive`)
  await counted(all - 4)
})
