// A person at the terminals of an agent's machine, with another person, and the
// agent, at the same ones.
//
// Asked of the test that started this program: "restart", to kill the server and
// start it again, and "memory", to hold what the server takes against what it took
// at the first time.
import assert from 'node:assert/strict'
import { ask, atBothWidths, repo, request, signIn, url } from './browser.mjs'

await atBothWidths(async (page, width, look) => {
  const engine = width === 1440 ? 'gvisor' : 'runc'
  const context = page.context()
  await context.grantPermissions(['clipboard-read', 'clipboard-write'], { origin: url })
  const { agent, run } = await request('POST', '/v1/agents', { prompt: { text: 'Be there' }, repos: [{ url: repo }], engine })
  await ended(agent.id, run.id)
  await signIn(page, `/agents/${agent.id}`)

  // The environment's own terminal, at an address of its own.
  await page.getByRole('link', { name: 'Terminals' }).click()
  await page.waitForURL(`${url}/agents/${agent.id}/terminals/web`)
  await shows(page, 'web is up')
  await page.getByRole('link', { name: /^web ?, running/ }).waitFor()

  // A new one: a shell in the repository.
  await page.getByRole('button', { name: 'New terminal' }).click()
  await page.waitForURL(`${url}/agents/${agent.id}/terminals/shell-1`)
  // A long prompt that was wrapped is drawn over what stands above it, by bash, when
  // the size changes.
  await line(page, `PS1='$ '; clear; echo "$(pwd)"-see-$((6*7))`)
  await shows(page, '/workspace-see-42')

  // Two people at one terminal, their screens of different sizes.
  const other = await context.newPage()
  await other.setViewportSize({ width: 900, height: 700 })
  await other.goto(`${url}/agents/${agent.id}/terminals/shell-1`)
  await shows(other, '/workspace-see-42')
  await line(other, 'echo other-$((6*7))')
  await shows(page, 'other-42')
  await line(page, 'echo mine-$((6*7))')
  await shows(other, 'mine-42')

  // The agent types there too.
  await page.bringToFront()
  const typed = await request('POST', `/v1/agents/${agent.id}/runs`, { prompt: { text: 'Type into shell-1' } })
  await shows(page, 'agent-42')
  await ended(agent.id, typed.run.id)

  await line(page, `clear; git log --stat --color=always | cat; for i in $(seq 0 4 255); do printf "\\033[48;2;$i;90;$((255-i))m "; done; printf '\\033[m\\n'; echo ramp-$((6*7))`)
  await shows(page, 'ramp-42')
  await look('terminal')

  // It has the size of whoever typed last, also after that has changed.
  await line(page, 'clear; echo "size $(stty size)"')
  const before = await shows(page, /size (\d+) (\d+)/)
  const size = page.viewportSize()
  await page.setViewportSize({ width: size.width, height: size.height - 200 })
  await page.waitForFunction((rows) => document.querySelectorAll('.place .xterm-rows > div').length < rows, Number(before[1]))
  await line(page, 'clear; until [ $(stty size | cut -d" " -f1) -lt ' + before[1] + ' ]; do sleep 0.1; done; echo "now $(stty size)"')
  const after = await shows(page, /now (\d+) (\d+)/)
  assert.ok(Number(after[1]) < Number(before[1]) && after[2] === before[2], `${before[0]}, then ${after[0]}`)
  await page.setViewportSize(size)

  // All colours, wide characters, and links that open elsewhere and cannot reach back.
  await line(page, `clear; printf '\\033[38;2;255;136;7mamber\\033[m 宽字 é 👍 ok-%d\\n' $((6*7)); echo see http://127.0.0.1:9/there`)
  await shows(page, '宽字 é 👍 ok-42')
  const amber = page.locator('.xterm-rows span', { hasText: 'amber' }).last()
  assert.equal(await amber.evaluate((e) => getComputedStyle(e).color), 'rgb(255, 136, 7)')
  const opened = context.waitForEvent('page')
  await clickText(page, 'http://127.0.0.1:9/there', 2)
  const away = await opened
  assert.equal(await away.evaluate(() => window.opener).catch(() => null), null)
  await away.close()

  // What is printed cannot make the page do anything, not even by who controls the
  // terminal's other end.
  await page.bringToFront()
  await page.evaluate(() => navigator.clipboard.writeText('kept'))
  const raw = (text) => line(page, `clear; for t in $(tmux list-clients -F '#{client_tty}'); do printf '${text}' >$t; done; echo raw-$((6*7))`)
  const title = await page.title()
  await raw('\\033]0;evil\\007\\033]52;c;ZXZpbA==\\007\\033]52;c;?\\007\\033[21t')
  await shows(page, 'raw-42')
  await raw('\\033[12;1H\\033]8;;javascript:document.title=1\\033\\\\press\\055me\\033]8;;\\033\\\\')
  await shows(page, 'press-me')
  let popups = 0
  const count = () => popups++
  context.on('page', count)
  await clickText(page, 'press-me', 1)
  await line(page, 'clear; echo after-$((6*7))')
  await shows(page, 'after-42')
  context.off('page', count)
  assert.equal(popups, 0)
  assert.equal(await page.title(), title)
  assert.equal(await page.evaluate(() => navigator.clipboard.readText()), 'kept')

  // What has left the screen is a turn of the wheel away, for this person alone.
  await line(page, 'clear; seq -f row-%g 400; echo all-$((6*7))')
  await shows(page, 'all-42')
  await page.locator('.screen').hover()
  await page.mouse.wheel(0, -300)
  const history = page.getByRole('group', { name: 'History' })
  await history.waitFor()
  await page.keyboard.press('PageUp')
  await page.waitForFunction(() => !document.querySelector('.history .xterm-rows').innerText.includes('all-42'))
  await shows(other, 'all-42')
  await history.getByRole('button', { name: 'Back to the terminal' }).click()
  await history.waitFor({ state: 'detached' })
  await page.getByRole('button', { name: 'Find' }).click()
  await page.getByLabel('Find in the terminal').fill('row-27')
  await page.getByText('11 of 11').waitFor() // 27 and 270 to 279
  await page.keyboard.press('Enter')
  await page.getByText('10 of 11').waitFor()
  await look('terminal-find')
  await page.keyboard.press('Escape')
  await history.waitFor({ state: 'detached' })
  await page.getByRole('button', { name: 'Copy' }).click()
  await page.getByText('Copied what the terminal has shown.').waitFor()
  assert.match(await page.evaluate(() => navigator.clipboard.readText()), /\nrow-1\nrow-2\n[^]*\nrow-400\nall-42\n/)

  // Who only watches types nothing.
  await page.getByRole('button', { name: 'Watch only' }).click()
  await shows(page, 'all-42')
  await type(page, 'echo not-$((6*7))\n')
  await line(other, 'clear; echo heard-$((6*7))')
  await shows(page, 'heard-42')
  assert.ok(!(await screen(page)).includes('not-'), await screen(page))
  await page.getByRole('button', { name: 'Watch only' }).click()
  await line(page, 'echo again-$((6*7))')
  await shows(page, 'again-42')

  // The server is killed and comes back: so do the pages, and those that it left
  // behind in the machine are gone.
  await page.evaluate(() => {
    window.away = new Promise((done) => new MutationObserver(() => document.body.innerText.includes('Not connected; trying again…') && done(true)).observe(document.body, { subtree: true, childList: true, characterData: true }))
  })
  await ask('restart')
  assert.equal(await page.evaluate(() => window.away), true)
  await shows(page, 'again-42')
  await shows(other, 'again-42')
  await line(page, 'clear; echo clients-$(tmux list-clients | wc -l)')
  await shows(page, 'clients-2')

  // A flood freezes nothing and is ended by one key.
  await ask('memory')
  await page.bringToFront()
  await line(page, 'clear; yes')
  await shows(page, 'y\ny\ny\ny')
  // By the clock: other programs hold a page up too, but not each time.
  let flooded
  for (let i = 0; i < 3; i++) {
    flooded = await stutter(page, 5)
    if (flooded.middle < 500 && flooded.longest < 1500) break
    console.log(`${engine}: the page stood still for ${JSON.stringify(flooded)} ms`)
  }
  const stop = Date.now()
  await page.keyboard.press('Control+C')
  await line(page, 'clear; echo stopped-$((6*7))')
  await shows(page, 'stopped-42')
  const stopped = Date.now() - stop
  await line(page, 'head -c 75000000 /dev/urandom | base64 >/tmp/large; clear; wc -c </tmp/large')
  await shows(page, '101315790', 120_000)
  const began = Date.now()
  await line(page, 'clear; cat /tmp/large; echo over-$((6*7))')
  const poured = await stutter(page, 5)
  await shows(page, 'over-42', 300_000)
  console.log(`${engine}: the page stood still, at the longest in a second: yes ${JSON.stringify(flooded)} ms, cat ${JSON.stringify(poured)} ms; from Ctrl-C to the next command's output ${stopped} ms; cat of 100 MB ${((Date.now() - began) / 1000).toFixed(1)} s`)
  assert.ok(flooded.middle < 500 && flooded.longest < 1500 && poured.longest < 3000, 'the page stood still')
  assert.ok(stopped < 4000, `Ctrl-C took ${stopped} ms`)
  await ask('memory')

  // The keys of a phone, editors, and the end.
  if (width === 390) {
    await line(page, 'clear; echo one-$((6*7))')
    await page.getByRole('button', { name: 'Up', exact: true }).click()
    await shows(page, '$ clear; echo one')
    await page.getByRole('button', { name: 'Ctrl', exact: true }).click()
    await page.keyboard.type('a')
    await page.keyboard.type('#')
    await shows(page, '$ #clear; echo one')
    await page.getByRole('button', { name: 'Ctrl C' }).click()
  }
  const { address } = await request('GET', '/v1/ssh')
  assert.ok(address)
  await page.getByText('Open in…').click()
  const short = agent.id.slice(3, 11)
  assert.equal(await page.getByRole('link', { name: 'VS Code' }).getAttribute('href'), `vscode://vscode-remote/ssh-remote+errand-${short}/workspace`)
  assert.equal(await page.getByRole('link', { name: 'Zed' }).getAttribute('href'), `zed://ssh/errand-${short}/workspace`)
  await look('terminal-editors')
  await page.getByText('Open in…').click()
  await page.getByRole('button', { name: 'End…' }).click()
  await look('terminal-end')
  await page.getByRole('button', { name: 'End it' }).click()
  await page.waitForURL(`${url}/agents/${agent.id}/terminals/web`)
  await shows(page, 'web is up')
  await other.getByText('It has ended.').waitFor()
  await other.getByRole('button', { name: 'Look again' }).click()
  await other.getByText('There is no terminal "shell-1"').waitFor()
  await other.getByRole('button', { name: 'Open a shell named shell-1' }).click()
  await other.getByRole('alert').waitFor({ state: 'detached' })
  await line(other, 'echo reborn-$((6*7))')
  await shows(other, 'reborn-42')
  await page.goto(`${url}/agents/bc-00000000-0000-4000-8000-000000000000/terminals/x`)
  await page.getByText(/^There is no agent|not found/i).first().waitFor()
})

/** Waits until a run has ended. */
async function ended(agent, run) {
  for (;;) {
    const { status } = await request('GET', `/v1/agents/${agent}/runs/${run}`)
    if (status === 'FINISHED') return
    assert.ok(!['ERROR', 'CANCELLED', 'EXPIRED'].includes(status), status)
    await new Promise((done) => setTimeout(done, 100)) // asked anew: this is beside the page
  }
}

/** What the terminal shows. */
function screen(page) {
  return page.locator('.screen > .place .xterm-rows').evaluate((rows) => [...rows.children].map((row) => row.textContent.replaceAll('\u00a0', ' ').trimEnd()).join('\n'))
}

/** Waits until the terminal shows something, and gives what of it. */
async function shows(page, what, timeout = 30_000) {
  const found = (text) => (typeof what === 'string' ? text.includes(what) && [what] : text.match(what))
  const deadline = Date.now() + timeout
  for (;;) {
    const text = await screen(page)
    const match = found(text)
    if (match) return match
    assert.ok(Date.now() < deadline, `the terminal does not show ${what}:\n${text}\n(${await page.evaluate(() => document.body.innerText.slice(0, 600))})`)
    await page.evaluate(() => new Promise((done) => setTimeout(done, 50))) // what xterm draws is no event
  }
}

/** Types at the terminal. */
async function type(page, text) {
  await page.bringToFront()
  await page.locator('.screen > .place textarea').focus()
  await page.keyboard.type(text)
}

async function line(page, text) {
  await page.getByText(/^(Connecting…|Not connected;)/).waitFor({ state: 'detached' })
  await type(page, text)
  await page.keyboard.press('Enter')
}

/** Clicks on a text that the terminal shows, so many characters after its begin. */
async function clickText(page, text, after) {
  const at = await page.evaluate(([text, after]) => {
    const rows = document.querySelector('.screen > .place .xterm-rows')
    for (const row of rows.children) {
      const column = row.textContent.indexOf(text)
      if (column < 0) continue
      const box = row.getBoundingClientRect()
      const walk = document.createTreeWalker(row, NodeFilter.SHOW_TEXT)
      let left = column + after
      for (let node = walk.nextNode(); node; node = walk.nextNode()) {
        if (left >= node.length) {
          left -= node.length
          continue
        }
        const range = document.createRange()
        range.setStart(node, left)
        range.setEnd(node, left + 1)
        const cell = range.getBoundingClientRect()
        return { x: cell.x + cell.width / 2, y: box.y + box.height / 2 }
      }
    }
  }, [text, after])
  assert.ok(at, `${text} is not on the screen`)
  await page.mouse.move(at.x - 30, at.y + 30)
  await page.mouse.move(at.x, at.y, { steps: 3 })
  await page.evaluate(() => new Promise((done) => setTimeout(done, 200))) // links are looked for when the mouse rests
  await page.mouse.click(at.x, at.y)
}

/** How long the page's own thread did nothing else, at the longest in each second,
 * in ms: the middle one of the seconds, and the longest. */
async function stutter(page, seconds) {
  const longest = await page.evaluate(async (seconds) => {
    const all = []
    let last = performance.now()
    for (let i = 0; i < seconds; i++) {
      let most = 0
      for (const end = last + 1000; last < end; ) {
        await new Promise((done) => setTimeout(done, 20))
        const now = performance.now()
        most = Math.max(most, now - last)
        last = now
      }
      all.push(Math.round(most))
    }
    return all
  }, seconds)
  longest.sort((a, b) => a - b)
  return { middle: longest[seconds >> 1], longest: longest.at(-1) }
}
