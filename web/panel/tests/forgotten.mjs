// A take-over that its person forgets: a notice of the browser calls it to mind,
// until it ends by itself.
import assert from 'node:assert/strict'
import { ask, atBothWidths, repo, request, shown, signIn, until, url } from './browser.mjs'

/** Starts an agent whose command waits, and gives its id once it does. */
async function begun(name) {
  const { agent } = await request('POST', '/v1/agents', { name, prompt: { text: 'Mend the greeting' }, repos: [{ url: repo }], engine: 'runc' })
  await ask(`begun ${agent.id}`)
  return agent.id
}

await atBothWidths(async (page, width, look) => {
  await page.context().grantPermissions(['notifications'], { origin: url })
  await signIn(page, '/settings/notices')
  await page.getByRole('switch', { name: 'Show notices' }).check()
  const theirs = await begun(`Theirs (${width})`)
  const mine = await begun(`Mine (${width})`)
  await ask(`grace ${theirs}`)
  await page.goto(`${url}/agents/${mine}`)
  await page.getByRole('button', { name: 'Take over' }).click()
  await page.getByRole('region', { name: 'Taken over' }).getByText(/ has taken over$/).waitFor()

  // The person is elsewhere in the panel. Grace's came before and was called to
  // mind before, but not to this person.
  await page.goto(url)
  const [notice] = await until(async () => (await shown(page)).filter((n) => n[2].startsWith('takeover ')), (all) => all.length)
  assert.deepEqual([notice[0], notice[2], notice[3]], [`Mine (${width}): still in your hands`, `takeover ${mine}`, `/agents/${mine}`])
  assert.match(notice[1], /^It is handed back by itself at \d?\d:\d\d/)
  await until(() => request('GET', `/v1/agents/${theirs}`), (agent) => agent.takeover?.reminded || !agent.takeover)
  await page.goto(`${url}${notice[3]}`)
  await page.getByRole('region', { name: 'Taken over' }).waitFor()
  await look('forgotten')

  // Nobody comes back.
  await ask(`go ${mine}`)
  await ask(`go ${theirs}`)
  await page.getByRole('heading', { name: /itself/ }).waitFor()
  await page.getByText('I go on from there.').waitFor({ timeout: 60_000 })
  assert.deepEqual((await shown(page)).filter((n) => n[2].startsWith('takeover ')).map((n) => n[2]), [`takeover ${mine}`], 'one notice, of what this person holds')
})
