// What the pages say, from what the API says.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { runnerImport } from 'vite'

const { module } = await runnerImport(new URL('../src/words.ts', import.meta.url).pathname)

test('where a pull request is opened', () => {
  const page = (repository) => module.pullRequestPage(repository, 'errand/a-b?c')
  const github = 'https://github.com/acme/app/pull/new/errand%2Fa-b%3Fc'
  for (const url of ['https://github.com/acme/app', 'https://github.com/acme/app.git', 'https://joe@github.com/acme/app/', 'git@github.com:acme/app.git', 'ssh://git@github.com/acme/app.git']) {
    assert.equal(page(url), github, url)
  }
  assert.equal(page('https://gitlab.com/acme/group/app.git'), 'https://gitlab.com/acme/group/app/-/merge_requests/new?merge_request%5Bsource_branch%5D=errand%2Fa-b%3Fc')
  assert.equal(page('https://bitbucket.org/acme/app'), 'https://bitbucket.org/acme/app/pull-requests/new?source=errand%2Fa-b%3Fc')
  for (const url of ['/srv/app.git', 'https://git.example/acme/app', 'https://evil.example/x@github.com/acme/app', 'javascript:alert(1)//github.com/a/b', 'https://github.com/acme', '']) {
    assert.equal(page(url), undefined, url)
  }
})
