// What a machine prints leads a page nowhere.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { runnerImport } from 'vite'

const { module } = await runnerImport(new URL('../src/terminals/untrusted.ts', import.meta.url).pathname)
const { addressOf, plain } = module

test('links lead to web pages alone', () => {
  assert.equal(addressOf('https://example.com/a?b#c'), 'https://example.com/a?b#c')
  assert.equal(addressOf('HTTP://example.com'), 'http://example.com/')
  for (const link of ['javascript:alert(1)', ' JavaScript:alert(1)', 'data:text/html,x', 'file:///etc/passwd', 'vscode://file/x', 'blob:https://x/y', '/agents', '', 'https://']) {
    assert.equal(addressOf(link), undefined, link)
  }
})

test('text is copied without its colours', () => {
  assert.equal(plain('\x1b[31mred\x1b[39m \x1b]8;;https://x.example\x1b\\link\x1b]8;;\x1b\\ \x1b(0q\x1b(B\x0fend'), 'red link qend')
})
