// What the editor makes of a file's text.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { runnerImport } from 'vite'

const { between, endingOf, indentOf } = (await runnerImport(new URL('../src/files/text.ts', import.meta.url).pathname)).module

test('the line ending of a text', () => {
  assert.equal(endingOf('a\nb\n'), '\n')
  assert.equal(endingOf('a\r\nb\r\n'), '\r\n')
  assert.equal(endingOf('\r\n'), '\r\n')
  assert.equal(endingOf('\na\r\n'), '\n', 'both: nothing is changed by writing it')
  assert.equal(endingOf('a\r\nb\n'), '\n')
  assert.equal(endingOf(''), '\n')
  assert.equal(endingOf('a\rb'), '\n')
})

test('a step of indentation', () => {
  assert.equal(indentOf('x.txt', 'func x() {\n\treturn\n}\n'), '\t')
  assert.equal(indentOf('x.txt', 'x:\n    y: 1\n'), '    ')
  assert.equal(indentOf('x.txt', '/*\n * x\n */\na\n  b\n'), '  ')
  assert.equal(indentOf('x.txt', 'a\n                    b\n'), '  ', 'that is something aligned')
  assert.equal(indentOf('x.txt', ''), '  ')
  assert.equal(indentOf('main.go', 'package main\n'), '\t')
  assert.equal(indentOf('Makefile', ''), '\t')
  assert.equal(indentOf('main.go', 'a\n    b\n'), '    ')
})

test('where texts differ', () => {
  const whole = (before, after) => {
    const { from, to, until } = between(before, after)
    assert.equal(before.slice(0, from) + after.slice(from, until) + before.slice(to), after)
    return before.slice(from, to) + '>' + after.slice(from, until)
  }
  assert.equal(whole('abcd', 'abXd'), 'c>X')
  assert.equal(whole('aa', 'aaa'), '>a')
  assert.equal(whole('aaa', 'aa'), 'a>')
  assert.equal(whole('', 'x'), '>x')
  assert.equal(whole('same', 'same'), '>')
})
