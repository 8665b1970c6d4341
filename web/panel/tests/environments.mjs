// Drives the pages about environments in a real browser, as a person would: an
// environment from a broken text to an agent on its build, its history, secrets,
// snapshots, and a setup to its end. cmd/errand's TestPanelEnvironments starts it.
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { atBothWidths, key, lookAt, repo, url } from './browser.mjs'

const secretValue = (width, n) => `s3cret-${width}-${n}-value`

/** The whole path of a person at one width. */
await atBothWidths(async (page, width, look) => {
  page.on('dialog', (d) => d.accept())
  const told = []
  page.on('response', (r) => {
    if (r.url().includes('/v1/') && !r.headers()['content-type']?.includes('event-stream')) told.push(r.text().catch(() => '')) // a page that was left has no text
  })
  const name = `web-${width}`
  const row = (text) => page.getByRole('listitem').filter({ hasText: text })

  await page.goto(`${url}/environments`)
  await page.getByLabel('Key').fill(key)
  await page.getByRole('button', { name: 'Sign in' }).click()
  await page.getByRole('heading', { name: 'Environments', exact: true }).waitFor()

  // A secret, which nobody is shown again.
  await page.getByRole('link', { name: 'Secrets' }).click()
  await page.getByRole('button', { name: 'New secret' }).click()
  await page.getByLabel('Name').fill(`NPM_TOKEN_${width}`)
  await page.getByRole('combobox', { name: /^For/ }).selectOption('team')
  await page.getByRole('textbox', { name: 'Value' }).fill(secretValue(width, 1))
  await look('secret-new')
  await page.getByRole('button', { name: 'Keep it' }).click()
  await row(`NPM_TOKEN_${width}`).getByText('never used').waitFor()

  // A text that cannot be read, and one that is odd: both are corrected.
  await page.getByRole('link', { name: 'Environments' }).first().click()
  await page.getByRole('link', { name: 'Store one' }).click()
  await page.getByLabel('Name').fill(name)
  await page.getByLabel('Repositories').fill(repo)
  const text = page.getByRole('textbox', { name: 'Environment file' })
  const odd = '{\n  // what every agent needs\n  "install": "echo first; sleep 5; echo second | tee /opt/made"\n  "ports": [3000]'
  await text.fill(odd + ',\n  "terminals": 7\n}\n')
  await page.getByText('It cannot be understood as it stands').waitFor()
  await look('check')
  await page.getByRole('button', { name: '5:16' }).click()
  await page.keyboard.press('Delete') // the number
  assert.match(await text.inputValue(), /"terminals": \n/, 'the place that a finding names was not gone to')
  await text.fill(odd + '\n}\n')
  await page.getByText('2 things to look at').waitFor()
  await page.getByRole('button', { name: 'Apply', exact: true }).first().click()
  await page.getByText('1 thing to look at').waitFor()
  await page.getByText('A port is an object').waitFor()
  await page.getByRole('button', { name: /^Correct all/ }).click()
  await page.getByText('In order').waitFor()
  assert.match(await text.inputValue(), /what every agent needs[\s\S]*made",\n[\s\S]*\{ "port": 3000 \}/)
  await page.getByRole('button', { name: 'Store and build' }).click()

  // Its build, live.
  await row('a change').getByText('Building').waitFor()
  await row('a change').getByRole('link').click()
  await page.getByRole('heading', { name: /^Build / }).waitFor()
  const log = page.getByRole('log')
  await log.getByText('first', { exact: true }).waitFor()
  await page.getByText('Building', { exact: true }).waitFor()
  assert.equal(await log.getByText(/^first\s+second$/).count(), 0, 'the log came when all was over')
  await look('building')
  await log.getByText(/first\s+second/).waitFor()
  await page.getByText('Succeeded', { exact: true }).waitFor()
  await page.getByText('active', { exact: true }).waitFor()
  const first = page.url()

  // A new version, whose build is cancelled.
  await page.goto(first.replace(/\/builds.*/, ''))
  await text.waitFor()
  await text.fill('{\n  "install": "seq 100; echo waiting; sleep 600"\n}\n')
  await page.getByPlaceholder('What changes, in a few words').fill('Wait for ever')
  await page.getByText('In order').waitFor()
  await look('environment')
  await page.getByRole('button', { name: 'Save and build' }).click()
  await page.getByText('Saved as a new version').waitFor()
  await page.getByRole('link', { name: 'Builds' }).click()
  await row('Building').getByRole('link').click()
  await log.getByText(/waiting\s*$/).waitFor()
  assert.equal(await log.locator('pre').evaluate((p) => p.scrollTop + p.clientHeight >= p.scrollHeight - 24), true, 'the end of a growing log is not in sight')
  await page.getByRole('button', { name: 'Cancel' }).click()
  await page.getByText('Cancelled', { exact: true }).waitFor()

  // What that version changed, and the one before as it was.
  await page.getByRole('link', { name: /: builds$/ }).click()
  await page.getByRole('link', { name: 'History' }).click()
  await page.getByRole('button', { name: /Wait for ever/ }).click()
  await page.getByLabel('What the version changed').getByText('sleep 600').waitFor()
  await page.getByLabel('What the version changed').getByText('echo second').waitFor()
  await look('history')
  await page.getByRole('button', { name: /Wait for ever/ }).press('k')
  await page.keyboard.press('j')
  await page.keyboard.press('j')
  await page.keyboard.press('Enter')
  await page.getByRole('button', { name: 'Restore this version…' }).nth(0).waitFor()
  await page.getByRole('button', { name: 'Restore this version…' }).last().click()
  await row('restored').getByText('current').waitFor()
  await page.getByRole('link', { name: 'File' }).click()
  await page.waitForFunction(() => /echo second/.test(document.querySelector('textarea')?.value ?? ''))

  // A draft becomes active only when it is told to.
  await page.keyboard.press('b')
  await page.getByLabel('Draft').check()
  await page.getByLabel('Install anew').check()
  await page.getByRole('button', { name: 'Build now' }).click()
  await page.getByRole('heading', { name: /^Build / }).waitFor()
  await page.getByText('Succeeded', { exact: true }).waitFor({ timeout: 60_000 })
  await page.getByRole('button', { name: 'Activate' }).click()
  await page.getByRole('button', { name: 'Deactivate' }).waitFor()
  const disk = await page.locator('a[href^="/snapshots/"]').getAttribute('href')
  await page.getByRole('link', { name: /: builds$/ }).click()
  await page.getByRole('listitem').getByText('draft', { exact: true }).waitFor()
  await look('builds')
  await page.goBack()
  await page.getByRole('button', { name: 'Deactivate' }).click()
  await page.getByRole('button', { name: 'Activate' }).waitFor()

  // An agent on the first build: nothing is installed.
  await page.goto(first)
  await page.getByRole('link', { name: 'Start an agent on it' }).click()
  await page.getByText('Its machine starts on the build').waitFor()
  await page.getByRole('textbox', { name: 'Prompt' }).fill(`Look around (${width})`)
  await page.getByRole('button', { name: 'Start', exact: true }).click()
  await page.getByRole('heading', { name: /^Finished/ }).waitFor({ timeout: 60_000 })
  const agent = new URL(page.url()).pathname
  await page.getByRole('link', { name: 'Boot' }).click()
  const install = page.getByRole('row').filter({ has: page.getByRole('rowheader', { name: 'install' }) })
  await install.getByText('yes', { exact: true }).waitFor()
  await page.getByRole('link', { name, exact: true }).waitFor()
  await look('boot')

  // The draft's disk: what it is, its name, its end.
  await page.goto(`${url}/snapshots`)
  await page.getByRole('list', { name: 'Snapshots' }).waitFor()
  await look('snapshots')
  await page.goto(`${url}${disk}`)
  await page.getByLabel('Name').fill(`tools-${width}`)
  await page.getByRole('button', { name: 'Name it' }).click()
  await page.getByRole('heading', { name: `tools-${width}` }).waitFor()
  await page.getByText('a kept disk').first().waitFor()
  await page.getByRole('list', { name: 'Uses' }).getByRole('link', { name: /^build / }).first().waitFor()
  await look('snapshot')
  await page.getByRole('button', { name: 'Delete…' }).click()
  await page.getByText('Deleted.').waitFor()
  await page.getByRole('heading', { name: 'Snapshots' }).waitFor()
  assert.equal(await page.getByText(`tools-${width}`).count(), 0, 'a deleted snapshot is still listed')

  // The secret was used; it gets another value, and goes.
  await page.goto(`${url}/secrets`)
  await row(`NPM_TOKEN_${width}`).getByText(/^used /).waitFor()
  await page.getByRole('button', { name: new RegExp(`NPM_TOKEN_${width}`) }).click()
  await page.locator(`a[href="${agent}"]`).waitFor()
  await page.getByRole('textbox', { name: 'New value' }).fill(secretValue(width, 2))
  await look('secret')
  await page.getByRole('button', { name: 'Replace the value' }).click()
  await row(`NPM_TOKEN_${width}`).getByText('value 2').waitFor({ state: 'attached' })
  await look('secrets')
  await page.getByRole('button', { name: new RegExp(`NPM_TOKEN_${width}`) }).click()
  await page.getByRole('button', { name: 'Delete…' }).click()
  await page.getByText('No secrets', { exact: true }).waitFor()

  await setUp(page, look, width)

  await page.goto(`${url}/environments`)
  await row(name).getByText('no build').waitFor() // it was deactivated
  await row(`shop-${width}`).getByText('build active').waitFor()
  await look('environments')
  await page.keyboard.press('?')
  await page.getByRole('dialog').getByText('Setups').waitFor()
  await page.keyboard.press('Escape')
  await page.keyboard.press('j')
  await page.keyboard.press('Enter')
  await page.waitForURL(/\/environments\/env-/)

  // No answer and no page has a value.
  const all = (await Promise.all(told)).join('\n') + (await page.content())
  assert.ok(all.length > 10_000)
  for (const n of [1, 2]) assert.equal(all.includes(secretValue(width, n)), false, 'the value of a secret was shown')
  if (width < 1000) return
  await bringBack(page, name)
  await otherOutcomes(page)
  await otherWidths(page, [new URL(first).pathname, agent + '/boot', disk.replace(/[^/]*$/, ''), '/environments', '/secrets', '/setups'])
})

/** From a repository to an accepted environment, with a proof that fails first. */
async function setUp(page, look, width) {
  await page.keyboard.press('2')
  await page.getByRole('heading', { name: 'Set up a repository' }).waitFor()
  await page.getByRole('combobox', { name: 'Repository' }).fill(process.env.PANEL_SETUP_REPO)
  await page.getByRole('button', { name: 'Look at it' }).click()
  await page.getByText('package.json has a dev script').first().waitFor()
  await page.getByRole('radio', { name: 'no' }).check()
  await page.waitForFunction(() => !document.querySelector('textarea')?.value.includes('npm run dev'))
  await look('setup')
  await page.getByRole('textbox', { name: 'Shown to work by' }).fill('sh check.sh')
  await page.getByRole('button', { name: 'Prove it', exact: true }).click()
  await page.getByText('It did not work yet').waitFor({ timeout: 60_000 })
  await page.getByRole('alert').filter({ hasText: 'made is missing' }).waitFor()
  await look('proof-failed')
  await page.getByRole('textbox', { name: '.errand/environment.json' }).fill('{\n  "install": "touch made"\n}\n')
  await page.getByText('In order').waitFor()
  await page.getByRole('button', { name: 'Prove it again' }).click()
  await page.getByRole('heading', { name: 'What goes on' }).waitFor()
  await page.getByText('It works in a clean machine').waitFor({ timeout: 60_000 })
  await look('proof')
  await page.getByRole('radio', { name: 'stored on the server' }).check()
  await page.getByLabel('Name').fill(`shop-${width}`)
  await page.getByRole('button', { name: 'Write it' }).click()
  await page.getByText('It is stored on the server').waitFor()
  await look('accepted')
  await page.getByRole('link', { name: 'Open the environment' }).click()
  await page.getByRole('heading', { name: `shop-${width}` }).waitFor()
  await page.waitForFunction(() => document.querySelector('textarea')?.value.includes('touch made'))
  await page.goBack()
  const setup = new URL(page.url()).pathname
  await page.getByRole('button', { name: 'Remove…' }).click()
  await page.getByRole('heading', { name: 'Set up a repository' }).waitFor()
  await page.locator(`a[href="${setup}"]`).waitFor({ state: 'detached' })
}

/** A deleted environment, brought back from its history. */
async function bringBack(page, name) {
  await page.goto(`${url}/environments`)
  await page.getByRole('link', { name: new RegExp(`^${name}`) }).click()
  await page.getByRole('button', { name: 'Delete…' }).click()
  await page.getByRole('heading', { name: 'An environment that is not there' }).waitFor()
  await page.getByRole('button', { name: /restored/ }).click()
  await page.getByRole('button', { name: 'Restore this version…' }).click()
  await page.getByRole('heading', { name }).waitFor()
}

/** The other ends of a setup: a repository that is not there, a patch, a commit. */
async function otherOutcomes(page) {
  const begin = async (repository) => {
    await page.goto(`${url}/setups`)
    await page.getByRole('combobox', { name: 'Repository' }).fill(repository)
    await page.getByRole('button', { name: 'Look at it' }).click()
  }
  await begin('/nowhere/at-all.git')
  await page.getByRole('alert').filter({ hasText: '/nowhere/at-all' }).waitFor()
  for (const [as, says] of [['as a patch', 'Apply it in the repository'], ['as a commit on a branch', 'is on the branch errand/']]) {
    await begin(process.env.PANEL_SETUP_REPO)
    await page.getByRole('radio', { name: as }).check()
    assert.equal(await page.getByRole('button', { name: 'Write it' }).isDisabled(), true, 'a draft that was not shown to work is written')
    await page.getByRole('checkbox', { name: /was not shown to work/ }).check()
    await page.getByRole('button', { name: 'Write it' }).click()
    await page.getByText(says).waitFor({ timeout: 60_000 })
    if (as !== 'as a patch') continue
    const [patch] = await Promise.all([page.waitForEvent('download'), page.getByRole('button', { name: 'Download the patch' }).click()])
    assert.match(readFileSync(await patch.path(), 'utf8'), /\+\+\+ b\/\.errand\/environment\.json/)
  }
}

/** The narrowest and the widest screens: nothing is cut off. */
async function otherWidths(page, paths) {
  for (const [width, height] of [[375, 667], [3840, 2160]]) {
    await page.setViewportSize({ width, height })
    for (const path of paths) {
      await page.goto(url + path)
      await page.getByRole('heading').first().waitFor()
      await lookAt(page, `wide${path.replace(/\/[a-z]+-[^/]*/g, '').replaceAll('/', '-')}-${width}`)
    }
  }
}
