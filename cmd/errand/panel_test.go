package main_test

import (
	"bufio"
	"context"
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
	browser := chromium(t)
	node, err := exec.LookPath("node")
	if err != nil {
		guesttest.Lacking(t, "this test needs node")
	}
	panel, err := filepath.Abs("../../web/panel")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(panel, "node_modules", "playwright-core")); err != nil {
		guesttest.Lacking(t, "this test needs web/panel/node_modules: run make panel")
	}
	text, err := os.ReadFile("testdata/panel.json")
	if err != nil {
		t.Fatal(err)
	}
	script, err := scripted.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	in := install(t, script)
	address := in.client.URL()
	if !strings.Contains(fetch(t, address), "/assets/") {
		guesttest.Lacking(t, "the server was built without its panel: run make panel errand")
	}
	key, err := os.ReadFile(filepath.Join(in.data, "key"))
	if err != nil {
		t.Fatal(err)
	}
	shots := filepath.Join(panel, "..", "..", "bin", "screenshots")
	if err := os.MkdirAll(shots, 0o755); err != nil {
		t.Fatal(err)
	}
	repo := remote(t, map[string]string{
		"slug.sh":      "#!/bin/sh\n# Makes a slug of its argument.\nprintf %s \"$1\" | tr A-Z a-z | tr ' ' '-'\n",
		"tests/run.sh": panelTests,
	})

	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, node, "tests/panel.mjs")
	cmd.Dir = panel
	cmd.Env = append(os.Environ(), "PANEL_URL="+address, "PANEL_KEY="+strings.TrimSpace(string(key)),
		"PANEL_REPO="+repo, "PANEL_SHOTS="+shots, "PANEL_CHROMIUM="+browser, "PANEL_DIST="+filepath.Join(panel, "..", "dist"))
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
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if lines.Text() != "restart" {
			t.Log(lines.Text())
			continue
		}
		in.kill()
		in.start("--listen", strings.TrimPrefix(address, "http://"))
		if _, err := fmt.Fprintln(answers, "ready"); err != nil {
			t.Errorf("answering the browser: %v", err)
		}
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v\n%s", err, complaints.String())
	}
}

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
