// Shows a file's text and lets it be edited: CodeMirror, in the panel's colours. It
// is heavy, and loaded when a file is opened.
import { defaultKeymap, history, historyKeymap, indentWithTab } from '@codemirror/commands'
import { bracketMatching, HighlightStyle, indentOnInput, indentUnit, LanguageDescription, syntaxHighlighting } from '@codemirror/language'
import { highlightSelectionMatches, openSearchPanel, search, searchKeymap } from '@codemirror/search'
import { Compartment, EditorState, type Extension, type Text } from '@codemirror/state'
import { drawSelection, EditorView, highlightActiveLine, highlightActiveLineGutter, highlightSpecialChars, keymap, lineNumbers } from '@codemirror/view'
import { tags as t } from '@lezer/highlight'
import { languages } from './languages'
import { between, endingOf, indentOf } from './text'

/** Whom an editor tells. */
export interface Told {
  /** Whether what is written differs from what stands in the file. */
  changed(dirty: boolean): void
  /** Ctrl-S was pressed, or ⌘S. */
  save(): void
}

/** A file's text, which is only read until edit is called. */
export class Editor {
  private readonly view: EditorView
  private readonly mode = new Compartment()
  private readonly language = new Compartment()
  private stands: Text // in the file
  private ended = false

  constructor(
    parent: HTMLElement,
    name: string,
    text: string,
    private readonly told: Told,
  ) {
    const extensions = [
      EditorState.lineSeparator.of(endingOf(text)),
      EditorState.tabSize.of(4),
      indentUnit.of(indentOf(name, text)),
      lineNumbers(),
      highlightSpecialChars(),
      highlightSelectionMatches(),
      bracketMatching(),
      search({ top: true }),
      keymap.of(searchKeymap),
      EditorView.lineWrapping,
      EditorView.contentAttributes.of({ 'aria-label': `Content of ${name}` }),
      EditorView.updateListener.of((u) => u.docChanged && told.changed(this.dirty)),
      this.mode.of(reading),
      this.language.of([]),
      look,
      syntaxHighlighting(colours),
    ]
    this.view = new EditorView({ parent, state: EditorState.create({ doc: text, extensions }) })
    this.stands = this.view.state.doc
    void this.colour(name)
  }

  /** What is written, with the file's own line endings. */
  get text(): string {
    return this.view.state.sliceDoc()
  }

  /** Shows what stands in the file now, at the place that was looked at. */
  show(text: string) {
    const { state } = this.view
    const next = state.toText(text)
    const { from, to, until } = between(state.doc.toString(), next.toString())
    this.stands = next
    if (from < to || from < until) this.view.dispatch({ changes: { from, to, insert: next.slice(from, until) } })
    this.told.changed(this.dirty)
  }

  /** Notes that a text which was written stands in the file now. */
  saved(text: string) {
    this.stands = this.view.state.toText(text)
    this.told.changed(this.dirty)
  }

  /** Lets the text be edited, or only read again. */
  edit(on: boolean) {
    const save = keymap.of([{ key: 'Mod-s', run: () => (this.told.save(), true), preventDefault: true }])
    this.view.dispatch({ effects: this.mode.reconfigure(on ? [save, writing] : reading) })
    if (on) this.view.focus()
  }

  /** Opens the search, or gives it the focus. */
  find() {
    openSearchPanel(this.view)
  }

  close() {
    this.ended = true
    this.view.destroy()
  }

  private get dirty(): boolean {
    return !this.view.state.doc.eq(this.stands)
  }

  private async colour(name: string) {
    const language = LanguageDescription.matchFilename(languages, name)
    if (!language) return
    try {
      const support = await language.load()
      if (!this.ended) this.view.dispatch({ effects: this.language.reconfigure(support) })
    } catch {
      return // the server is away, or was upgraded; without colours it is as good a text
    }
  }
}

const reading: Extension = [
  EditorState.readOnly.of(true),
  EditorView.editable.of(false),
  EditorView.contentAttributes.of({ tabindex: '0', 'aria-readonly': 'true' }),
]

const writing: Extension = [
  history(),
  drawSelection(),
  indentOnInput(),
  highlightActiveLine(),
  highlightActiveLineGutter(),
  keymap.of([...defaultKeymap, ...historyKeymap, indentWithTab]),
  EditorView.contentAttributes.of({ 'aria-description': 'Tab indents. Escape and then Tab leaves the text.' }),
]

// The same as in diffs. The variables are those of the page, dark or light.
const colours = HighlightStyle.define([
  { tag: [t.keyword, t.bool, t.null, t.atom, t.self, t.tagName, t.standard(t.name), t.processingInstruction], color: 'var(--accent)' },
  { tag: [t.string, t.special(t.string), t.regexp, t.number, t.attributeValue, t.escape, t.propertyName, t.url], color: 'var(--warn)' },
  { tag: t.comment, color: 'var(--muted)', fontStyle: 'italic' },
  { tag: [t.definition(t.variableName), t.function(t.definition(t.variableName)), t.className, t.heading, t.strong], fontWeight: '600' },
  { tag: t.emphasis, fontStyle: 'italic' },
  { tag: t.invalid, color: 'var(--bad)' },
])

const look = EditorView.theme({
  '&': { color: 'var(--text)', backgroundColor: 'var(--raised)', maxHeight: 'max(16rem, calc(100dvh - 12rem))', fontSize: '0.84rem' },
  '&.cm-focused': { outline: 'none' },
  '&.cm-focused .cm-content': { boxShadow: 'inset 2px 0 var(--accent)' },
  '.cm-scroller': { fontFamily: 'var(--mono)', lineHeight: '1.45rem' },
  '.cm-content': { padding: '0.3rem 0', caretColor: 'var(--text)', minHeight: '8rem', minWidth: '0' },
  '.cm-line': { padding: '0 0.75rem', overflowWrap: 'anywhere' },
  '.cm-gutters': { color: 'var(--muted)', backgroundColor: 'var(--raised)', border: '0' },
  '.cm-lineNumbers .cm-gutterElement': { minWidth: '2.8rem', padding: '0 0.6rem 0 0.3rem' },
  '.cm-activeLine': { backgroundColor: 'transparent', boxShadow: 'inset 0 0 0 1px var(--line)' },
  '.cm-activeLineGutter': { backgroundColor: 'transparent', color: 'var(--text)' },
  '.cm-cursor': { borderLeftColor: 'var(--text)' },
  '&.cm-focused > .cm-scroller > .cm-selectionLayer .cm-selectionBackground, .cm-selectionBackground': { backgroundColor: 'var(--tint)' },
  '.cm-selectionMatch': { backgroundColor: 'var(--sunk)' },
  '.cm-searchMatch': { backgroundColor: 'var(--warn-tint)', outline: '1px solid var(--warn)' },
  '.cm-searchMatch-selected': { backgroundColor: 'var(--tint)', outline: '2px solid var(--accent)' },
  '&.cm-focused .cm-matchingBracket': { backgroundColor: 'var(--tint)' },
  '&.cm-focused .cm-nonmatchingBracket': { backgroundColor: 'var(--bad-tint)' },
  '.cm-specialChar': { color: 'var(--bad)' },
  '.cm-panels': { color: 'var(--text)', backgroundColor: 'var(--sunk)', zIndex: '3' },
  '.cm-panels-top': { borderBottom: '1px solid var(--line)' },
  '.cm-panel.cm-search': { padding: '0.4rem 2.4rem 0.4rem 0.75rem', fontSize: '0.87rem', fontFamily: 'var(--sans)' },
  '.cm-panel.cm-search [name=close]': { top: '0.3rem', right: '0.5rem', minHeight: '1.8rem', padding: '0 0.5rem' },
  '.cm-panel.cm-search label': { display: 'inline-flex', alignItems: 'center', gap: '0.3rem', minHeight: '1.9rem', verticalAlign: 'top', fontSize: 'inherit' },
  '.cm-textfield': { width: 'auto', minHeight: '1.9rem', padding: '0 0.5rem', fontSize: 'inherit', backgroundColor: 'var(--raised)', border: '1px solid var(--line)' },
  '.cm-button': { backgroundImage: 'none', borderRadius: 'var(--radius)', backgroundColor: 'var(--raised)', minHeight: '1.9rem', padding: '0 0.6rem', fontSize: 'inherit', border: '1px solid var(--line)' },
})
