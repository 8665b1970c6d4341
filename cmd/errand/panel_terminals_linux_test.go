package main_test

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
)

// mostGrown is how much more memory the server's process may take at its most,
// while some hundred MB pass through it to two pages, than before: what Go lets
// gather between two collections.
const mostGrown = 20 << 20

// TestPanelTerminals drives the terminals of agents' machines in a real browser,
// on each engine: two people and the agent at one terminal, floods of output, and
// a server that is killed meanwhile.
func TestPanelTerminals(t *testing.T) {
	p := openPanel(t, "testdata/panel_terminals.json")
	repo := remote(t, map[string]string{"README.md": "# App\n", ".errand/environment.json": `{"terminals": [{"name": "web", "command": "echo web is up; exec cat"}]}`})
	before := int64(0)
	p.drive("terminals.mjs", repo, func(asked string) bool {
		switch asked {
		case "restart":
			p.in.kill()
			p.in.start("--listen", strings.TrimPrefix(p.address, "http://"))
		case "memory":
			if before == 0 {
				before = p.in.memory("VmRSS:")
				p.in.forgetPeak()
				break
			}
			grown := p.in.memory("VmHWM:") - before
			t.Logf("the server grew by %.1f MB at most", float64(grown)/1e6)
			if grown > mostGrown {
				t.Errorf("the server grew by %d bytes, from %d", grown, before)
			}
			before = 0
		default:
			return false
		}
		return true
	})
}

// memory reads a line of the server's /proc/PID/status, in bytes.
func (in *installation) memory(name string) int64 {
	in.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", in.process.Process.Pid))
	if err != nil {
		in.t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == name {
			kb, err := strconv.ParseInt(f[1], 10, 64)
			if err != nil {
				in.t.Fatal(err)
			}
			return kb << 10
		}
	}
	in.t.Fatalf("no %s in\n%s", name, text)
	return 0
}

// forgetPeak lets VmHWM begin anew.
func (in *installation) forgetPeak() {
	in.t.Helper()
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", in.process.Process.Pid), []byte("5"), 0); err != nil {
		in.t.Fatal(err)
	}
}
