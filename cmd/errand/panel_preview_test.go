package main_test

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/errand-dev/errand/guest/guesttest"
)

// viteRepository is a project of Vite's, as npm create makes one.
var viteRepository = map[string]string{
	"package.json": `{"private": true, "type": "module", "scripts": {"dev": "vite"}, "devDependencies": {"vite": "8.3.8"}}`,
	"index.html":   `<!doctype html><title>Vite</title><div id="app"></div><script type="module" src="/main.js"></script>`,
	"main.js": `import './style.css'
import { text } from './text.js'
const show = (text) => (document.getElementById('app').innerHTML = '<h1>' + text + '</h1>')
show(text)
import.meta.hot.accept('./text.js', (now) => show(now.text))
`,
	"text.js":   "export const text = 'Text one'\n",
	"style.css": "h1 { color: black }\n",
}

// TestPanelPreview looks at machines' ports in a real browser, on each engine: a
// Vite dev server installed by npm in the machine, with hot reload, also after the
// server was killed; and a page that tries to act as the person who looks.
func TestPanelPreview(t *testing.T) {
	t.Parallel()
	p := openPanel(t, "testdata/panel_preview.json")
	repo := remote(t, viteRepository)
	agents := map[string]map[string]string{}
	for width, engine := range map[string]string{"1440": "runc", "390": "gvisor"} {
		made := p.in.agent("Be there", repo, engine)
		p.in.finished(made.Agent.ID, made.Run.ID)
		agents[width] = map[string]string{"id": made.Agent.ID, "engine": engine}
		if out, err := p.in.command("exec", "-n", made.Agent.ID, "--", "npm", "install", "--no-audit", "--no-fund").CombinedOutput(); err != nil {
			guesttest.Lacking(t, "this test installs Vite from npm's registry: %v\n%s", err, out)
		}
	}
	text, err := json.Marshal(agents)
	if err != nil {
		t.Fatal(err)
	}
	p.env = append(p.env, "PREVIEW_AGENTS="+string(text))
	p.drive("preview.mjs", repo, p.doInMachine)
}

// doInMachine does what the browser's program asks for.
func (p *panel) doInMachine(asked string) bool {
	p.t.Helper()
	words := strings.SplitN(asked, " ", 4)
	switch words[0] {
	case "restart":
		p.in.kill()
		p.in.start("--listen", strings.TrimPrefix(p.address, "http://"))
	case "edit":
		// At once, as editors and the agents' own tools do it: Vite may read a file
		// that is only begun, and then look no further.
		text := strings.ReplaceAll(words[3], `\n`, "\n") + "\n"
		p.in.exec(words[1], text, "sh", "-c", "cd /workspace && cat >/tmp/edited && chmod 755 /tmp/edited && mv /tmp/edited "+words[2])
	case "refuse": // what would be downloaded
		p.in.exec(words[1], "", "sh", "-c", "printf '#!/bin/sh\nexit 6\n' >/usr/local/bin/curl && chmod +x /usr/local/bin/curl")
	case "start":
		switch id := words[1]; words[2] {
		case "vite":
			p.in.exec(id, "", "tmux", "new-session", "-d", "-s", "vite", "-c", "/workspace", "exec npm run dev")
			p.in.listening(id, 5173)
		case "hostile":
			program, err := os.ReadFile("testdata/hostile.mjs")
			if err != nil {
				p.t.Fatal(err)
			}
			p.in.exec(id, string(program), "sh", "-c", "cat >/tmp/hostile.mjs")
			p.in.exec(id, "", "tmux", "new-session", "-d", "-s", "hostile", "exec node /tmp/hostile.mjs")
			p.in.listening(id, 4000)
		case "late":
			p.in.program(id, 4001, "127.0.0.1")
		}
	default:
		return false
	}
	return true
}
