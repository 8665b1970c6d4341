// The files of an agent's machine, seen and changed beside the agent.
import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { atBothWidths, key, paste, repo, request, signIn, url } from './browser.mjs'

const picture = 'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=='
const { agent: { id } } = await request('POST', '/v1/agents', {
  prompt: { text: 'Make files' }, repos: [{ url: repo }], engine: 'runc', envVars: { PICTURE: picture, SECRET: 'very-secret-token-4711' },
})

/** Writes a file in the machine, as the agent would. */
async function write(path, text) {
  const response = await fetch(`${url}/v1/agents/${id}/files/content?path=${encodeURIComponent(path)}`, { method: 'PUT', headers: { Authorization: `Bearer ${key}` }, body: text })
  assert.equal(response.status, 200, await response.text())
}

const read = async (path) => (await request('GET', `/v1/agents/${id}/files/text?path=${encodeURIComponent(path)}`)).text
const dir = mkdtempSync(join(tmpdir(), 'panel-files-'))
process.on('exit', () => rmSync(dir, { recursive: true }))
const save = (name, text) => (writeFileSync(join(dir, name), text), join(dir, name))

/** The scripts of the editor that a page has loaded, and how large they are, compressed. */
async function editor(page) {
  const names = await page.evaluate(() => performance.getEntriesByType('resource').map((e) => new URL(e.name).pathname).filter((p) => /^\/assets\/editor-.*\.js$/.test(p)))
  return { names, bytes: names.reduce((n, name) => n + statSync(`${process.env.PANEL_DIST}${name}.br`).size, 0) }
}

await atBothWidths(async (page, width, look) => {
  await page.addInitScript(() => document.addEventListener('securitypolicyviolation', (e) => console.error(`the page's policy forbids ${e.blockedURI} by ${e.violatedDirective}`)))
  const list = page.getByRole('list', { name: 'Files' })
  const phone = width < 1000
  await signIn(page, `/agents/${id}`)
  await page.getByRole('heading', { name: /^Finished/ }).waitFor({ timeout: 90_000 })
  await page.getByRole('link', { name: 'Files', exact: true }).click()
  await list.getByRole('link', { name: 'README.md' }).waitFor()
  await look('files')
  assert.deepEqual((await editor(page)).names, [], 'the editor is loaded before a file is opened')

  // Into a folder, to a file with its colours; the address is the file's own.
  await list.getByRole('link', { name: 'src/' }).click()
  await list.getByRole('link', { name: 'main.go' }).click()
  const view = page.getByRole('region', { name: 'main.go' })
  const area = view.getByRole('textbox', { name: 'Content of main.go' })
  const line = (text) => area.locator('.cm-line', { hasText: text })
  const colour = (place) => place.evaluate((e) => getComputedStyle(e).color)
  await page.waitForFunction(() => [...document.querySelectorAll('.cm-line span')].some((s) => s.textContent === 'package'))
  assert.equal(await colour(area.locator('span', { hasText: /^package$/ })), await colour(page.getByRole('link', { name: 'workspace' })), 'a keyword has the colour that the panel gives it')
  assert.equal(await area.getAttribute('aria-readonly'), 'true')
  const { names, bytes } = await editor(page)
  assert.ok(bytes > 50_000 && bytes < 150_000, `${bytes} bytes for the editor and one language: ${names}`)
  assert.ok(page.url().endsWith(`/agents/${id}/files?path=src&open=main.go`), page.url())
  await look('files-code')
  await page.reload()
  await line('package').first().waitFor()

  // What the agent does shows by itself.
  await write('src/main.go', `package main\n\n// greet says good day at ${width}.\nfunc greet() string {\n\treturn "good day"\n}\n`)
  await view.getByText(`good day at ${width}`).waitFor()
  if (!phone) {
    await write(`src/new-${width}.txt`, 'new\n')
    await list.getByRole('link', { name: `new-${width}.txt` }).waitFor()
  }

  // An edit is saved, by keys; one that the agent was faster than is not, until it
  // is meant.
  await view.getByRole('button', { name: 'Edit' }).click()
  assert.equal(await area.evaluate((e) => e === document.activeElement), true, 'the text has the focus')
  await page.keyboard.press('Control+a')
  await page.keyboard.type('package main // mine\nfunc f() {\nreturn\n')
  await page.keyboard.press('Shift+Tab')
  await page.keyboard.type('}\n')
  await page.keyboard.press('Backspace')
  await look('files-editor')
  await area.press('Control+s')
  await page.getByText('Saved.').waitFor()
  const mine = await read('src/main.go')
  assert.match(mine, /^package main \/\/ mine\nfunc f\(\) \{\n\treturn\n\}$/, 'Enter and Tab indent as the file does')
  assert.equal(await view.getByRole('alert').count(), 0, 'what was saved is no news')
  await page.keyboard.type(' // more')
  await view.getByRole('button', { name: 'Discard' }).waitFor()
  await page.keyboard.press('Control+z')
  await view.getByRole('button', { name: 'Close' }).waitFor()
  assert.equal(await line('// more').count(), 0)

  // Search finds and replaces; the page's own keys are not heard meanwhile.
  await page.keyboard.press('Control+f')
  await view.getByRole('textbox', { name: 'Find' }).fill('mine')
  await view.getByRole('textbox', { name: 'Replace' }).fill('found')
  await area.locator('.cm-searchMatch').waitFor()
  await look('files-search')
  await view.getByRole('button', { name: 'replace all' }).click()
  await line('// found').waitFor()
  await page.keyboard.press('Escape')
  await view.getByRole('textbox', { name: 'Find' }).waitFor({ state: 'detached' })
  // Escape and Tab lead out of the text.
  await area.focus()
  await page.keyboard.press('Escape')
  await page.keyboard.press('Tab')
  assert.equal(await area.evaluate((e) => e.contains(document.activeElement)), false, 'the text keeps the focus')
  await view.getByRole('button', { name: 'Discard' }).click()
  await line('// mine').waitFor()
  assert.equal(await read('src/main.go'), mine)

  await view.getByRole('button', { name: 'Edit' }).click()
  await area.fill('package main // again')
  await write('src/main.go', 'package main // the agent\n')
  await view.getByRole('alert').getByText('changed in the machine').waitFor()
  await look('files-edit')
  const [refused] = await Promise.all([page.waitForResponse((r) => r.request().method() === 'PUT'), view.getByRole('button', { name: 'Save', exact: true }).click()])
  assert.equal(refused.status(), 409)
  assert.equal(await read('src/main.go'), 'package main // the agent\n')
  await view.getByRole('button', { name: 'Save mine over it' }).click()
  await view.getByRole('alert').waitFor({ state: 'detached' })
  assert.equal(await read('src/main.go'), 'package main // again')
  await view.getByRole('button', { name: 'Close' }).click()
  await view.getByRole('button', { name: 'Edit' }).waitFor()

  // The line endings of a file stay.
  await write('src/main.go', 'package main\r\n// two\r\n')
  await page.reload()
  await line('// two').waitFor()
  await view.getByRole('button', { name: 'Edit' }).click()
  await page.keyboard.press('Control+Home')
  await page.keyboard.type('// zero\n')
  await page.keyboard.press('Control+s')
  await page.getByText('Saved.').waitFor()
  assert.equal(await read('src/main.go'), '// zero\r\npackage main\r\n// two\r\n')
  await write('src/main.go', 'package main // again\n')
  await view.getByRole('button', { name: 'Show it as it is' }).click()
  await line('// again').waitFor()

  // A download is the file; a secret is not shown, and cannot be edited away.
  const [file] = await Promise.all([page.waitForEvent('download'), view.getByRole('link', { name: 'Download' }).click()])
  assert.equal(readFileSync(await file.path(), 'utf8'), 'package main // again\n')
  const open = async (name) => {
    await page.goto(`${url}/agents/${id}/files?path=src&open=${name}`)
    return page.getByRole('region', { name })
  }
  const secret = await open('secret.env')
  await secret.getByText('It holds secrets').waitFor()
  assert.equal(await secret.getByText('4711').count(), 0)
  assert.equal(await secret.getByRole('button', { name: 'Edit' }).isDisabled(), true)
  await (await open('zeros.bin')).getByText('no text').waitFor()
  const image = (await open('dot.png')).getByRole('img', { name: 'dot.png' })
  await image.waitFor()
  assert.equal(await image.evaluate((i) => i.complete && i.naturalWidth), 1)
  const long = await open('long.txt')
  await long.locator('.cm-line', { hasText: /^1$/ }).waitFor()
  await page.waitForFunction(() => {
    const text = document.querySelector('.cm-scroller')
    text.scrollTop = text.scrollHeight
    return [...document.querySelectorAll('.cm-line')].some((c) => c.textContent === '30000')
  })
  assert.ok((await long.locator('.cm-line').count()) < 500, 'all lines stand in the page')
  await (await open('nothing')).getByRole('alert').getByText('There is no').waitFor()

  // Uploads: by button, over one that is there, by drop, as an archive; a folder.
  await page.goto(`${url}/agents/${id}/files`)
  await list.getByRole('link', { name: 'README.md' }).waitFor()
  await page.getByLabel('Files to upload').setInputFiles([save(`up-${width}.txt`, 'up\n'), save('README.md', `# Mine at ${width}\n`)])
  await page.getByRole('alertdialog').getByText('is there already').waitFor()
  await list.getByRole('link', { name: `up-${width}.txt` }).waitFor()
  await look('files-upload')
  await page.getByRole('button', { name: 'Replace' }).click()
  await page.getByText('README.md is in the machine.').waitFor()
  assert.equal(await read('README.md'), `# Mine at ${width}\n`)
  if (!phone) {
    await paste(page.locator('.files'), 'drop')
    await list.getByRole('link', { name: 'dot.png' }).waitFor()
  }
  const [archive] = await Promise.all([page.waitForEvent('download'), page.getByRole('link', { name: 'Download' }).click()])
  assert.equal(readFileSync(await archive.path()).subarray(0, 2).toString(), 'PK')
  await page.getByRole('button', { name: 'New folder' }).click()
  await page.getByRole('textbox', { name: 'Name of the new folder' }).fill(`made-${width}`)
  await page.keyboard.press('Enter')
  await list.getByRole('link', { name: `made-${width}/` }).click()
  await page.getByText('This folder is empty').waitFor()
  await page.getByLabel('Archive to unpack').setInputFiles(await archive.path())
  await list.getByRole('link', { name: 'src/' }).waitFor()

  // Renamed, and deleted.
  await page.goto(`${url}/agents/${id}/files?open=up-${width}.txt`)
  const up = page.getByRole('region', { name: `up-${width}.txt` })
  await up.getByRole('button', { name: 'Rename' }).click()
  await up.getByRole('textbox', { name: 'New path' }).fill(`src/renamed-${width}.txt`)
  await page.keyboard.press('Enter')
  const renamed = page.getByRole('region', { name: `renamed-${width}.txt` })
  await renamed.locator('.cm-line', { hasText: /^up$/ }).waitFor()
  await renamed.getByRole('button', { name: 'Delete' }).click()
  await renamed.getByRole('button', { name: 'Delete' }).click()
  await page.getByText(`renamed-${width}.txt is deleted.`).waitFor()

  // What the agent left for people.
  await page.getByRole('link', { name: 'Artifacts' }).click()
  const dot = page.getByRole('list', { name: 'Artifacts' }).getByRole('img', { name: 'artifacts/dot.png' })
  await dot.waitFor()
  await page.waitForFunction(() => document.querySelector('ul img').naturalWidth === 1)
  await look('artifacts')
  const [report] = await Promise.all([page.waitForEvent('download'), page.getByRole('button', { name: 'Download artifacts/report.html' }).click()])
  assert.equal(readFileSync(await report.path(), 'utf8'), '<h1>report</h1>\n')
})
