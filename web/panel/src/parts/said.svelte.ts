// One sentence about what was just done, at the page's foot.
class Said {
  text = $state('')
  bad = $state(false)
  private timer: ReturnType<typeof setTimeout> | undefined

  done(text: string) {
    this.show(text, false)
  }

  problem(text: string) {
    this.show(text, true)
  }

  clear() {
    this.text = ''
  }

  private show(text: string, bad: boolean) {
    clearTimeout(this.timer)
    this.text = text
    this.bad = bad
    this.timer = setTimeout(() => this.clear(), bad ? 12_000 : 4000)
  }
}

export const said = new Said()
