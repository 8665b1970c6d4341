// Writes the service worker, with the names of the files that it is to keep.
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'

const beside = ['/icon.svg', '/icon-192.png', '/manifest.webmanifest']

/** A Vite plugin that adds sw.js to what is built. Its version is made from all
 * that is in it, so it changes with every change of the panel. */
export const worker = {
  name: 'worker',
  apply: 'build',
  enforce: 'post',
  generateBundle: {
    order: 'post',
    handler(_, bundle) {
      const built = Object.values(bundle).filter((f) => f.fileName.startsWith('assets/'))
      // Colours and the editor are large and of no use without a server.
      const files = ['/', ...beside, ...built.map((f) => `/${f.fileName}`).filter((f) => !/\/(colours|editor)-/.test(f)).sort()]
      const text = readFileSync(join(import.meta.dirname, 'worker.js'), 'utf8')
      const page = bundle['index.html']?.source ?? ''
      const version = createHash('sha256').update(JSON.stringify(files)).update(text).update(page).digest('hex').slice(0, 16)
      this.emitFile({ type: 'asset', fileName: 'sw.js', source: `const VERSION = '${version}'\nconst FILES = ${JSON.stringify(files)}\n${text}` })
    },
  },
}
