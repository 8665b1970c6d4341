package environment_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// project is a repository whose install leaves a trace of each time it ran.
var project = map[string]string{
	".errand/environment.json": `{ "install": "sh install.sh" }`,
	"install.sh":               "echo begins; echo ran >>/opt/trace; mkdir -p node_modules; date +%N >node_modules/x; echo ends",
	".gitignore":               "node_modules/\n",
	"package.json":             "{}",
}

func TestPrepare(t *testing.T) {
	for _, engine := range engines {
		t.Run(engine, func(t *testing.T) {
			h := newHost(t, engine, project)
			first := h.agent("first")
			ready, err := first.prepare(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(whole, first.story()); diff != "" {
				t.Errorf("first agent (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff("begins\nends\n", first.output()); diff != "" {
				t.Errorf("output of install (-want +got):\n%s", diff)
			}
			if got := in(t, ready, "cat /opt/trace; git branch --show-current; git status --porcelain; cat node_modules/x >/dev/null"); got != "ran\nerrand/first" {
				t.Errorf("the machine has %q", got)
			}
			second := h.agent("second")
			again, err := second.prepare(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(replaced(whole, "install done", "install cached", "snapshot done", "snapshot cached"), second.story()); diff != "" {
				t.Errorf("second agent (-want +got):\n%s", diff)
			}
			if !again.Cached || ready.Cached || again.Key != ready.Key {
				t.Errorf("got %+v after %+v", again, ready)
			}
			if got := in(t, again, "cat /opt/trace; git branch --show-current"); got != "ran\nerrand/second" {
				t.Errorf("the second machine has %q", got)
			}
		})
	}
}
