// Markdown of people and models, as HTML that does nothing but show: what a model
// or a tool wrote is never trusted.
import DOMPurify from 'dompurify'
import { Marked } from 'marked'

// HTML in Markdown is shown as it was written: it is what somebody wrote about,
// not what this page is made of. DOMPurify then holds what marked lets through.
const marked = new Marked({ gfm: true, breaks: true, renderer: { html: ({ text }) => escaped(text) } })

function escaped(text: string): string {
  return text.replace(/[&<>"]/g, (c) => `&#${c.charCodeAt(0)};`)
}

const allowed = {
  ALLOWED_TAGS: ['p', 'br', 'hr', 'h1', 'h2', 'h3', 'h4', 'h5', 'h6', 'strong', 'em', 'del', 'code', 'pre', 'blockquote', 'ul', 'ol', 'li', 'a', 'table', 'thead', 'tbody', 'tr', 'th', 'td', 'input'],
  ALLOWED_ATTR: ['href', 'title', 'align', 'start', 'type', 'checked', 'disabled'],
  ALLOWED_URI_REGEXP: /^(?:https?:|mailto:)/i,
}

const purify = DOMPurify(window)
purify.addHook('afterSanitizeAttributes', (node) => {
  if (node.tagName === 'A') {
    node.setAttribute('target', '_blank')
    node.setAttribute('rel', 'noopener noreferrer')
  }
  if (node.tagName === 'PRE') node.setAttribute('tabindex', '0')
  if (node.tagName === 'INPUT') {
    // Lists of things to do have boxes; nothing else of a form does.
    if (node.getAttribute('type') !== 'checkbox') node.remove()
    else {
      node.setAttribute('disabled', '')
      node.setAttribute('aria-label', node.hasAttribute('checked') ? 'done' : 'to do')
    }
  }
})

/** Gives text as HTML that may stand in a page. */
export function markdown(text: string): string {
  return purify.sanitize(marked.parse(text, { async: false }), allowed)
}
