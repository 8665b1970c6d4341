// Writes a brotli and a gzip form beside every file that gains by it, so that
// the server compresses nothing while it serves.
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { brotliCompressSync, constants, gzipSync } from 'node:zlib'

const gains = /\.(html|js|css|svg|json|webmanifest|wasm)$/

/** A Vite plugin that compresses what was written into dir. */
export function compress(dir) {
  return {
    name: 'compress',
    apply: 'build',
    closeBundle() {
      for (const entry of readdirSync(dir, { recursive: true, withFileTypes: true })) {
        if (!entry.isFile() || !gains.test(entry.name)) continue
        const path = join(entry.parentPath, entry.name)
        const whole = readFileSync(path)
        const forms = {
          '.br': brotliCompressSync(whole, { params: { [constants.BROTLI_PARAM_SIZE_HINT]: whole.length } }),
          '.gz': gzipSync(whole, { level: 9 }),
        }
        for (const [suffix, small] of Object.entries(forms)) {
          if (small.length < whole.length) writeFileSync(path + suffix, small)
        }
      }
    },
  }
}
