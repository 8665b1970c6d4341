package runner_test

import (
	"strings"
	"testing"
	"time"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/guest"
	"github.com/errand-dev/errand/runner"
)

// exec runs a shell command in an agent's machine, as a person would.
func (h *house) exec(agent errand.AgentID, command string) (string, guest.Exit) {
	h.t.Helper()
	var b strings.Builder
	exit, err := h.runner.Exec(h.t.Context(), caller, agent, runner.ExecRequest{Args: []string{"bash", "-c", command}, Limit: 5 * time.Minute},
		func(o guest.Output) { b.Write(o.Data) })
	if err != nil {
		h.t.Fatalf("%s: %v", command, err)
	}
	return b.String(), exit
}

// TestPackagesInstall installs one real package with each of the field's tools,
// in a machine of each engine, without a proxy setting anywhere, and wants each
// connection in the journal.
func TestPackagesInstall(t *testing.T) {
	h := build(t, script(talk(".", says("ready"))), runner.Defaults{})
	for _, engine := range []string{"gvisor", "runc"} {
		t.Run(engine, func(t *testing.T) {
			request := ask("be there", "")
			request.Settings.Engine = engine
			agent, run := h.start(request)
			h.ends(agent, run, errand.RunFinished)
			for _, c := range []struct{ name, command string }{
				{"apt", `apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends hello && hello`},
				{"npm", `mkdir -p /tmp/n && cd /tmp/n && npm init -y >/dev/null && npm install --no-audit --no-fund is-number && node -e 'console.log(require("is-number")(7))'`},
				{"go", `mkdir -p /tmp/g && cd /tmp/g && export GOFLAGS=-mod=mod HOME=/tmp && go mod init example.com/x && go mod download github.com/google/uuid@v1.6.0 && ls "$(go env GOMODCACHE)/github.com/google"`},
				{"curl", `curl -fsS https://registry.npmjs.org/is-number/latest | grep -q is-number`},
			} {
				t.Run(c.name, func(t *testing.T) {
					if out, exit := h.exec(agent, c.command); exit.Code != 0 {
						t.Errorf("exit code %d:\n%s", exit.Code, out)
					}
				})
			}
			// What must not be reached: the server's own loopback, its network, and
			// the address of cloud metadata.
			for _, address := range []string{"http://169.254.169.254/latest/meta-data/", "http://10.0.0.1/", "http://192.168.0.1/", "http://localhost.localdomain:80/"} {
				if out, exit := h.exec(agent, "curl -sS -m 5 "+address); exit.Code == 0 {
					t.Errorf("%s could be reached: %s", address, out)
				}
			}
			h.checkConnections(t, agent)
		})
	}
}

func (h *house) checkConnections(t *testing.T, agent errand.AgentID) {
	t.Helper()
	reached, refused := map[string]bool{}, 0
	// Connections are written in the order in which they ended, a moment later.
	h.until(agent, "the record of a refused connection", func(e errand.Event) bool {
		return e.Kind == errand.EventConnection && read[errand.Connection](t, e).Refused != ""
	})
	for _, e := range h.events(agent) {
		if e.Kind != errand.EventConnection {
			continue
		}
		c := read[errand.Connection](t, e)
		if c.Refused != "" {
			refused++
			continue
		}
		if c.Received > 0 {
			reached[c.Name] = true
		}
	}
	for _, name := range []string{"deb.debian.org", "registry.npmjs.org", "proxy.golang.org"} {
		if !reached[name] {
			t.Errorf("no connection to %s is on record: %v", name, reached)
		}
	}
	if refused == 0 {
		t.Error("no refused connection is on record")
	}
}

// TestEnvironmentNarrowsTheWayOut lets a repository's file name the only host
// that may be reached.
func TestEnvironmentNarrowsTheWayOut(t *testing.T) {
	h := build(t, script(talk(".", says("ready"))), runner.Defaults{})
	repo := repository(t, map[string]string{".errand/environment.json": `{"egressAllowlist": ["registry.npmjs.org"], "egressMode": "network_settings_only"}`})
	agent, run := h.start(ask("be there", repo))
	h.ends(agent, run, errand.RunFinished)
	if out, exit := h.exec(agent, "curl -fsS -m 20 https://registry.npmjs.org/is-number/latest"); exit.Code != 0 {
		t.Errorf("the host on the list could not be reached: %s", out)
	}
	if out, exit := h.exec(agent, "curl -sS -m 20 https://proxy.golang.org/"); exit.Code == 0 {
		t.Errorf("a host that is not on the list was reached: %s", out)
	}
	// The same address under another name: what the client asks for decides.
	if out, exit := h.exec(agent, `curl -sS -m 20 --connect-to proxy.golang.org:443:registry.npmjs.org:443 https://proxy.golang.org/`); exit.Code == 0 {
		t.Errorf("a name that is not on the list was reached at the address of one that is: %s", out)
	}
}
