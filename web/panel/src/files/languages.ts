// The languages that the editor knows. Each is loaded when a file of it is opened.
import { LanguageDescription, LanguageSupport, StreamLanguage, type StreamParser } from '@codemirror/language'

const simple = async (mode: Promise<StreamParser<unknown>>) => new LanguageSupport(StreamLanguage.define(await mode))
const clike = () => import('@codemirror/legacy-modes/mode/clike')
const script = () => import('@codemirror/lang-javascript')

export const languages = [
  LanguageDescription.of({ name: 'JavaScript', extensions: ['js', 'mjs', 'cjs', 'jsx'], load: async () => (await script()).javascript({ jsx: true }) }),
  LanguageDescription.of({ name: 'TypeScript', extensions: ['ts', 'mts', 'cts'], load: async () => (await script()).javascript({ typescript: true }) }),
  LanguageDescription.of({ name: 'TSX', extensions: ['tsx'], load: async () => (await script()).javascript({ jsx: true, typescript: true }) }),
  LanguageDescription.of({ name: 'HTML', extensions: ['html', 'htm', 'svelte', 'vue'], load: async () => (await import('@codemirror/lang-html')).html() }),
  LanguageDescription.of({ name: 'CSS', extensions: ['css', 'scss', 'less'], load: async () => (await import('@codemirror/lang-css')).css() }),
  LanguageDescription.of({ name: 'Markdown', extensions: ['md', 'markdown', 'mdx'], load: async () => (await import('@codemirror/lang-markdown')).markdown() }),
  LanguageDescription.of({ name: 'JSON', extensions: ['json', 'jsonc', 'map'], load: async () => (await import('@codemirror/lang-json')).json() }),
  LanguageDescription.of({ name: 'Python', extensions: ['py', 'pyi'], load: async () => (await import('@codemirror/lang-python')).python() }),
  LanguageDescription.of({ name: 'YAML', extensions: ['yaml', 'yml'], load: async () => (await import('@codemirror/lang-yaml')).yaml() }),
  LanguageDescription.of({ name: 'Go', extensions: ['go'], load: async () => (await import('@codemirror/lang-go')).go() }),
  LanguageDescription.of({ name: 'PHP', extensions: ['php'], load: async () => (await import('@codemirror/lang-php')).php() }),
  LanguageDescription.of({ name: 'C', extensions: ['c', 'h'], load: () => simple(clike().then((m) => m.c)) }),
  LanguageDescription.of({ name: 'C++', extensions: ['cc', 'cpp', 'cxx', 'hpp', 'hh'], load: () => simple(clike().then((m) => m.cpp)) }),
  LanguageDescription.of({ name: 'C#', extensions: ['cs'], load: () => simple(clike().then((m) => m.csharp)) }),
  LanguageDescription.of({ name: 'Java', extensions: ['java'], load: () => simple(clike().then((m) => m.java)) }),
  LanguageDescription.of({ name: 'Kotlin', extensions: ['kt', 'kts'], load: () => simple(clike().then((m) => m.kotlin)) }),
  LanguageDescription.of({ name: 'Rust', extensions: ['rs'], load: () => simple(import('@codemirror/legacy-modes/mode/rust').then((m) => m.rust)) }),
  LanguageDescription.of({ name: 'Ruby', extensions: ['rb'], filename: /^(Gemfile|Rakefile)$/, load: () => simple(import('@codemirror/legacy-modes/mode/ruby').then((m) => m.ruby)) }),
  LanguageDescription.of({ name: 'Swift', extensions: ['swift'], load: () => simple(import('@codemirror/legacy-modes/mode/swift').then((m) => m.swift)) }),
  LanguageDescription.of({ name: 'Shell', extensions: ['sh', 'bash', 'zsh', 'env'], load: () => simple(import('@codemirror/legacy-modes/mode/shell').then((m) => m.shell)) }),
  LanguageDescription.of({ name: 'Dockerfile', filename: /^(.*\.)?Dockerfile(\..*)?$/, load: () => simple(import('@codemirror/legacy-modes/mode/dockerfile').then((m) => m.dockerFile)) }),
  LanguageDescription.of({ name: 'TOML', extensions: ['toml'], load: () => simple(import('@codemirror/legacy-modes/mode/toml').then((m) => m.toml)) }),
  LanguageDescription.of({ name: 'INI', extensions: ['ini', 'properties', 'conf'], load: () => simple(import('@codemirror/legacy-modes/mode/properties').then((m) => m.properties)) }),
  LanguageDescription.of({ name: 'SQL', extensions: ['sql'], load: () => simple(import('@codemirror/legacy-modes/mode/sql').then((m) => m.standardSQL)) }),
  LanguageDescription.of({ name: 'XML', extensions: ['xml', 'svg', 'xsd'], load: () => simple(import('@codemirror/legacy-modes/mode/xml').then((m) => m.xml)) }),
]
