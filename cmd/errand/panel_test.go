package main_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/errand-dev/errand/guest/guesttest"
	"github.com/errand-dev/errand/llm/scripted"
)

// TestPanel drives the panel in a real browser, on a wide screen and a phone's:
// sign in, start, watch, follow up, kill the server meanwhile, review, archive.
// What it sees is kept as pictures in bin/screenshots, for people to look at.
func TestPanel(t *testing.T) {
	t.Parallel()
	p := openPanel(t, "testdata/panel.json")
	repo := remote(t, map[string]string{
		"slug.sh":      "#!/bin/sh\n# Makes a slug of its argument.\nprintf %s \"$1\" | tr A-Z a-z | tr ' ' '-'\n",
		"tests/run.sh": panelTests,
	})
	p.drive("panel.mjs", repo, func(asked string) bool {
		if asked != "restart" {
			return false
		}
		p.in.kill()
		p.in.start("--listen", strings.TrimPrefix(p.address, "http://"))
		return true
	})
}

// TestPanelAgent drives what is done with agents at work: several models at once,
// follow-ups that wait, are edited and taken back, interrupt and stop.
func TestPanelAgent(t *testing.T) {
	t.Parallel()
	p := openPanel(t, "testdata/panel_agent.json")
	repo := remote(t, map[string]string{"README.md": "# App\n"})
	git(t, repo, "branch", "release/1")
	git(t, repo, "tag", "v1")
	p.drive("agent.mjs", repo, nil)
}

// TestPanelChanges drives the review of a change of 20,000 lines.
func TestPanelChanges(t *testing.T) {
	p := openPanel(t, "testdata/panel_changes.json")
	p.drive("changes.mjs", remote(t, map[string]string{"make.sh": largeChange}), nil)
}

// panel is a server with the panel, and what drives it.
type panel struct {
	t       *testing.T
	in      *installation
	address string
	node    string   // the program
	browser string   // the program
	dir     string   // web/panel
	env     []string // more for the browser's program
}

// openPanel starts a server that has the panel, with a script of the model.
func openPanel(t *testing.T, file string, flags ...string) *panel {
	t.Helper()
	p := &panel{t: t, browser: chromium(t)}
	var err error
	if p.node, err = exec.LookPath("node"); err != nil {
		guesttest.Lacking(t, "this test needs node")
	}
	if p.dir, err = filepath.Abs("../../web/panel"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(p.dir, "node_modules", "playwright-core")); err != nil {
		guesttest.Lacking(t, "this test needs web/panel/node_modules: run make panel")
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	script, err := scripted.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	p.in = install(t, script, flags...)
	p.address = p.in.client.URL()
	if !strings.Contains(fetch(t, p.address), "/assets/") {
		guesttest.Lacking(t, "the server was built without its panel: run make panel errand")
	}
	return p
}

// drive runs a program of web/panel/tests. What it prints is logged, unless answer
// takes it for something that it was asked for and has done.
func (p *panel) drive(program, repo string, answer func(asked string) bool) {
	t := p.t
	t.Helper()
	shots := filepath.Join(p.dir, "..", "..", "bin", "screenshots")
	if err := os.MkdirAll(shots, 0o755); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, p.node, filepath.Join("tests", program))
	cmd.Dir = p.dir
	cmd.Env = append(append(os.Environ(), p.env...), "PANEL_URL="+p.address, "PANEL_KEY="+p.in.key(),
		"PANEL_REPO="+repo, "PANEL_SHOTS="+shots, "PANEL_CHROMIUM="+p.browser, "PANEL_DIST="+filepath.Join(p.dir, "..", "dist"))
	var complaints strings.Builder
	cmd.Stderr = &complaints
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	answers, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if answer == nil || !answer(lines.Text()) {
			t.Log(lines.Text())
			continue
		}
		if _, err := fmt.Fprintln(answers, "ready"); err != nil {
			t.Errorf("answering the browser: %v", err)
		}
	}
	if err := errors.Join(lines.Err(), cmd.Wait()); err != nil {
		t.Errorf("%v\n%s", err, complaints.String())
	}
}

// largeChange writes what makes a diff of 20,000 lines: a file that is changed
// here and there, and one that is new.
const largeChange = `awk 'BEGIN {
	for (i = 1; i <= 20000; i++) print "export const value" i " = compute(" i ", \"text " i "\") // line " i
}' >"$1"
`

const panelTests = `n=0
for t in "Hello World|hello-world" "a  b|a-b"; do
	if [ "$(sh slug.sh "${t%%|*}")" = "${t#*|}" ]; then printf '\033[32mok\033[0m %s\n' "$t"; else printf '\033[31mnot ok\033[0m %s\n' "$t"; n=1; fi
done
exit $n
`

// chromium finds a browser.
func chromium(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	guesttest.Lacking(t, "this test needs chromium")
	return ""
}

// fetch gives what stands at an address.
func fetch(t *testing.T, url string) string {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}
