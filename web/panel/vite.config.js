import { readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { svelte } from '@sveltejs/vite-plugin-svelte'
import { defineConfig } from 'vite'
import { compress } from './compress.js'
import { worker } from './worker/plugin.js'

const server = process.env.ERRAND_URL ?? 'http://127.0.0.1:7070'
const out = join(import.meta.dirname, '../dist')

// Empties the folder, save for the file that keeps it in git and lets a program
// be built without the panel.
const empty = {
  name: 'empty',
  apply: 'build',
  buildStart() {
    for (const name of readdirSync(out)) {
      if (name !== 'README') rmSync(join(out, name), { recursive: true })
    }
  },
}

// What shows and edits texts, with its languages, has names of its own: it is loaded
// when a file is opened, and not kept for when there is no server.
const ofEditor = /\/node_modules\/(@codemirror|@lezer|@marijn|crelt|style-mod|w3c-keyname)\/|\/src\/files\/(editor|languages|text)\.ts$/

export default defineConfig({
  plugins: [empty, svelte(), worker, compress(out)],
  build: {
    outDir: out, emptyOutDir: false, assetsInlineLimit: 0, target: 'es2022', chunkSizeWarningLimit: 900,
    modulePreload: { polyfill: false },
    rolldownOptions: { output: { chunkFileNames: ({ moduleIds }) => (moduleIds.every((id) => ofEditor.test(id)) ? 'assets/editor-[name]-[hash].js' : 'assets/[name]-[hash].js') } },
  },
  worker: { format: 'es' },
  // For `npm run dev` beside a running server, which takes only what comes from
  // pages of its own.
  server: { proxy: { '/v1': { target: server, changeOrigin: true, headers: { origin: server } } } },
})
