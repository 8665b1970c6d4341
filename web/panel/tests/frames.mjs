// How smoothly a page moves.

/** Scrolls a page from its top, a step in each frame, to its end or for so many
 * frames, and gives how long
 * the frames took in milliseconds (the middle one, the 95th percentile, the
 * longest), the longest task, and in how many frames nothing of what selector
 * names was in the middle of the screen. */
export async function scrollThrough(page, selector, step, most = Infinity) {
  await page.evaluate(() => scrollTo(0, 0))
  const cdp = await page.context().newCDPSession(page)
  await cdp.send('Performance.enable')
  if (process.env.PROFILE) { await cdp.send('Profiler.enable'); await cdp.send('Profiler.start') }
  const metrics = async () => Object.fromEntries((await cdp.send('Performance.getMetrics')).metrics.map((m) => [m.name, m.value]))
  const before = await metrics()
  const result = await page.evaluate(async ([selector, step, frameCount]) => {
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
    while (frames.length < frameCount) {
      const before = scrollY
      scrollBy(0, step)
      const now = await frame()
      frames.push(now - last)
      last = now
      if (scrollY === before) break
      if (!middleHas()) blank++
    }
    watch.disconnect()
    frames.sort((a, b) => a - b)
    const at = (part) => Math.round(frames[Math.floor((frames.length - 1) * part)])
    return { frames: frames.length, middle: at(0.5), most: at(0.95), longest: at(1), task: Math.round(Math.max(0, ...tasks)), blank, rows: document.querySelectorAll(selector).length }
  }, [selector, step, most === Infinity ? 1e6 : most])
  const after = await metrics()
  if (process.env.PROFILE) {
    const { profile } = await cdp.send('Profiler.stop')
    const self = new Map()
    const byId = new Map(profile.nodes.map((n) => [n.id, n]))
    profile.samples.forEach((id, i) => { const f = byId.get(id).callFrame; const k = `${f.functionName}@${f.url.split('/').pop()}:${f.lineNumber}:${f.columnNumber}`; self.set(k, (self.get(k) ?? 0) + profile.timeDeltas[i]) })
    for (const [k, v] of [...self].sort((a, b) => b[1] - a[1]).slice(0, 25)) console.log(Math.round(v / 1000), k)
  }
  for (const k of ['ScriptDuration', 'LayoutDuration', 'RecalcStyleDuration', 'TaskDuration', 'LayoutCount']) console.log(k, (after[k] - before[k]).toFixed(2))
  return result
}
