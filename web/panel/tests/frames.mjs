// How smoothly a page moves.
import assert from 'node:assert/strict'
import { availableParallelism, loadavg } from 'node:os'
import { inTime, stalled } from './browser.mjs'

/** Holds that a page can be scrolled through without a stutter: what a frame takes
 * of the processor, the middle frame and the longest task stay within bounds, in
 * milliseconds. The last two are by the clock, and other programs make a page
 * stutter too, but not each time: it has three tries. */
export async function smooth(page, what, selector, step, most, bounds) {
  const cdp = await page.context().newCDPSession(page)
  await cdp.send('Performance.enable', { timeDomain: 'threadTicks' })
  /** How long the page's own thread has had a processor. */
  const processor = async () => (await cdp.send('Performance.getMetrics')).metrics.find((m) => m.name === 'ThreadTime').value * 1000
  let moved
  for (let i = 0; i < 3; i++) {
    const before = await processor()
    moved = await inTime(scrollThrough(page, selector, step, most))
    if (!moved) {
      await stalled(page, what)
      continue
    }
    moved.processor = Math.round((await processor() - before) / moved.frames)
    console.log(`${what}: ${JSON.stringify(moved)}`)
    assert.ok(moved.frames > 60, `${what}: it did not scroll`)
    assert.ok(moved.rows < bounds.rows, `${what}: ${moved.rows} rows are drawn`)
    if (moved.processor <= bounds.processor && moved.middle <= bounds.middle && moved.task <= bounds.task && moved.blank <= 2) return
  }
  assert.fail(`${what} stutters: ${JSON.stringify(moved)}`)
}

/** Holds that a page, opened by a browser that has nothing of it yet, shows what
 * selector names in under a second: from the navigation until it is painted. It has
 * five tries. Where other programs want the processors too, it is what the page's
 * own thread has had of one that counts, and the clock three times as long. */
export async function quick(page, what, address, selector) {
  const storageState = await page.context().storageState()
  const took = []
  const fits = ({ ms, processor }) => processor < 600 && ms < (loadavg()[0] > availableParallelism() ? 3000 : 1000)
  for (let i = 0; i < 5 && !took.some(fits); i++) {
    const context = await page.context().browser().newContext({ storageState, viewport: page.viewportSize() })
    const fresh = await context.newPage()
    const cdp = await context.newCDPSession(fresh)
    await cdp.send('Performance.enable', { timeDomain: 'threadTicks' })
    await fresh.addInitScript((selector) => {
      window.painted = new Promise((done) => {
        const look = () => (document.querySelector(selector) ? requestAnimationFrame(() => setTimeout(() => done(Math.round(performance.now())))) : requestAnimationFrame(look))
        look()
      })
    }, selector)
    await fresh.goto(address)
    const ms = await inTime(fresh.evaluate(() => window.painted)) ?? Infinity
    const { metrics } = await cdp.send('Performance.getMetrics')
    took.push({ ms, processor: Math.round(metrics.find((m) => m.name === 'ThreadTime').value * 1000) })
    await context.close()
  }
  const said = `${what}: opened in ${took.map((t) => `${t.ms} ms (${t.processor} of a processor)`).join(', ')}`
  console.log(said)
  assert.ok(fits(took.at(-1)), said)
}

/** Scrolls a page from its top, a step in each frame, to its end or for so many
 * frames. It gives how long the frames took in milliseconds (the middle one, the
 * 95th percentile, the longest), the longest task, how often nothing of what
 * selector names was in the middle of the screen (looked at in every fifth frame),
 * and how many of those are drawn. */
async function scrollThrough(page, selector, step, most) {
  await page.evaluate(() => scrollTo(0, 0))
  return page.evaluate(async ([selector, step, most]) => {
    const tasks = []
    const watch = new PerformanceObserver((list) => tasks.push(...list.getEntries().map((e) => e.duration)))
    watch.observe({ type: 'longtask' })
    const frame = () => new Promise(requestAnimationFrame)
    const frames = []
    let blank = 0
    let last = await frame()
    const middleHas = () => {
      const y = innerHeight / 2
      return [...document.querySelectorAll(selector)].some((e) => {
        const r = e.getBoundingClientRect()
        return r.top <= y && r.bottom > y
      })
    }
    while (frames.length < most) {
      const before = scrollY
      scrollBy(0, step)
      const now = await frame()
      frames.push(now - last)
      last = now
      if (scrollY === before) break
      if (frames.length % 5 === 0 && !middleHas()) blank++
    }
    watch.disconnect()
    frames.sort((a, b) => a - b)
    const at = (part) => Math.round(frames[Math.floor((frames.length - 1) * part)])
    return { frames: frames.length, middle: at(0.5), most: at(0.95), longest: at(1), task: Math.round(Math.max(0, ...tasks)), blank, rows: document.querySelectorAll(selector).length }
  }, [selector, step, most])
}
