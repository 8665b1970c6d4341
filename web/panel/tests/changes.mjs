// The review of a change of 20,000 lines: it opens in under a second, scrolls, and
// stands beside its commits and what is known of a pull request.
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { atBothWidths, repo, request, signIn, url } from './browser.mjs'
import { quick, smooth } from './frames.mjs'

const { agent: { id } } = await request('POST', '/v1/agents', {
  prompt: { text: 'Make many values' }, repos: [{ url: repo }], engine: 'runc', autoCreatePR: true,
})

await atBothWidths(async (page, width, look) => {
  await signIn(page, `/agents/${id}`)
  await page.getByRole('heading', { name: /^Finished/ }).waitFor({ timeout: 90_000 })

  await quick(page, `${width} wide, an agent`, `${url}/agents/${id}`, 'section.finished h3')
  await quick(page, `${width} wide, 20,000 lines by their address`, `${url}/agents/${id}/changes`, '.rows .line code')

  // From the press on the link until lines are painted.
  const opened = []
  for (let i = 0; i < 3; i++) {
    opened.push(await page.evaluate(async () => {
      const began = performance.now()
      document.querySelector('nav[aria-label=Agent] a[href$="/changes"]').click()
      while (!document.querySelector('.rows .line code')?.textContent) await new Promise(requestAnimationFrame)
      await new Promise((done) => requestAnimationFrame(() => setTimeout(done)))
      return Math.round(performance.now() - began)
    }))
    await page.getByText('2 files').waitFor()
    await page.getByText('+20001').first().waitFor()
    if (i < 2) await page.getByRole('link', { name: 'Conversation', exact: true }).click()
  }
  console.log(`${width} wide: 20,000 lines opened in ${opened.join(', ')} ms`)
  assert.ok(Math.min(...opened) < 1000, `20,000 lines opened in ${opened.join(', ')} ms`)

  // The commits, which of them was pushed, and no pull request that is not there.
  await page.getByText('2 commits').click()
  const commits = page.locator('.published li')
  assert.deepEqual(await commits.locator('.title').allInnerTexts(), ['Say how they are used', 'Make many values'])
  assert.equal(await commits.first().getByText('pushed').count(), 1)
  assert.equal(await commits.nth(1).getByText('pushed').count(), 0)
  await page.getByText('A pull request was asked for; this server opens none yet').waitFor()
  await look('changes-large')

  // Its lines get their colours where they are in sight, and it moves.
  await page.locator('.rows .hljs-keyword').first().waitFor()
  await smooth(page, `${width} wide, 20,000 lines`, '.line, .file, .hunk', 600, 150, { processor: 60, middle: 100, task: 800, rows: 600 })
  await page.waitForFunction(() => {
    scrollTo(0, document.documentElement.scrollHeight)
    return [...document.querySelectorAll('.line code')].some((code) => code.textContent.endsWith('// line 20000'))
  })

  // The tree leads to a file; the other layout has the same lines.
  await page.getByRole('navigation', { name: 'Files' }).getByRole('button', { name: /values\.ts/ }).click()
  await page.getByText('line 1', { exact: false }).first().waitFor()
  await page.getByRole('button', { name: /^(Unified|Side by side)$/ }).click()
  await page.getByText('compute(1,').first().waitFor()
  await page.keyboard.press('s')
  await page.getByText('compute(1,').first().waitFor()

  const [patch] = await Promise.all([page.waitForEvent('download'), page.getByRole('button', { name: 'Patch' }).click()])
  assert.equal(readFileSync(await patch.path(), 'utf8').split('\n').filter((l) => /^\+[^+]/.test(l)).length, 20_001)
})
