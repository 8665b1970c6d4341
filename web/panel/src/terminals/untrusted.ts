// What comes out of a machine, as far as a page may take it.

/** The address that a link leads to, or undefined where a page must not go there:
 * it comes from a machine. */
export function addressOf(link: string): string | undefined {
  try {
    const url = new URL(link)
    return url.protocol === 'http:' || url.protocol === 'https:' ? url.href : undefined
  } catch {
    return undefined
  }
}

/** Text without the escape sequences that tmux colours it with. */
export function plain(text: string): string {
  return text.replace(/\x1b(\[[0-9;:?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)|[()][A-Z0-9])/g, '').replace(/[\x0e\x0f]/g, '')
}
