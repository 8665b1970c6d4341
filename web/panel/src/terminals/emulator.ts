// What is the same for every terminal emulator of the page: its look, and that
// what a machine prints does nothing but show.
import { Terminal, type IDisposable, type ITerminalOptions } from '@xterm/xterm'
import { Unicode11Addon } from '@xterm/addon-unicode11'
import { WebLinksAddon } from '@xterm/addon-web-links'
import '@xterm/xterm/css/xterm.css'
import { addressOf } from './untrusted'

/** Dark in both of the panel's looks: programs choose their colours for that. */
export const theme = {
  background: '#0d0e0f', foreground: '#e7e7e4', cursor: '#e7e7e4', cursorAccent: '#0d0e0f', selectionBackground: '#3d5a99',
  black: '#33363b', red: '#ff9d94', green: '#7fd893', yellow: '#f2c063', blue: '#8fb3ff', magenta: '#dda6ff', cyan: '#7bd8e0', white: '#d0d0cc',
  brightBlack: '#9a9fa6', brightRed: '#ffbab3', brightGreen: '#a6e9b4', brightYellow: '#f8d998', brightBlue: '#b5ccff', brightMagenta: '#ebc8ff', brightCyan: '#a8eaf0', brightWhite: '#ffffff',
}

export interface Emulator {
  terminal: Terminal
  dispose(): void
}

/** Makes an emulator. hover is told of the link that is pointed at, "" for none. */
export function emulator(options: ITerminalOptions, hover: (address: string) => void): Emulator {
  const follow = (e: MouseEvent, link: string) => {
    const address = addressOf(link)
    if (address) window.open(address, '_blank', 'noopener,noreferrer')
  }
  const links = { hover: (_: MouseEvent, link: string) => hover(addressOf(link) ?? ''), leave: () => hover('') }
  const terminal = new Terminal({
    allowProposedApi: true, // for wide characters and what finds marks
    fontFamily: getComputedStyle(document.documentElement).getPropertyValue('--mono'),
    fontSize: matchMedia('(max-width: 700px)').matches ? 12 : 13,
    theme, linkHandler: { activate: follow, ...links }, logLevel: 'off', macOptionIsMeta: true, rightClickSelectsWord: false,
    ...options,
  })
  terminal.loadAddon(new Unicode11Addon())
  terminal.unicode.activeVersion = '11'
  terminal.loadAddon(new WebLinksAddon(follow, links))
  // A program may neither write nor read the clipboard.
  const deaf: IDisposable[] = [terminal.parser.registerOscHandler(52, () => true)]
  return {
    terminal,
    dispose() {
      for (const d of deaf) d.dispose()
      terminal.dispose()
    },
  }
}

/** Copies what is selected; false where nothing is. */
export async function copySelection(terminal: Terminal): Promise<boolean> {
  const text = terminal.getSelection()
  if (!text) return false
  await navigator.clipboard.writeText(text)
  return true
}
