package environment_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/errand-dev/errand/environment"
	"github.com/errand-dev/errand/environment/file"
	"github.com/errand-dev/errand/guest"
	"github.com/errand-dev/errand/guest/wire"
	"github.com/errand-dev/errand/machine/oci"
	"github.com/errand-dev/errand/secret"
)

// unprepared is the story of a machine of an environment without install, up to
// start.
var unprepared = []string{
	"image", "image done", "machine", "machine done", "install", "install cached", "snapshot", "snapshot cached", "checkout", "checkout done",
}

// TestPrepareStart runs start and terminals and looks at what an agent would
// see of them.
func TestPrepareStart(t *testing.T) {
	for _, engine := range engines {
		t.Run(engine, func(t *testing.T) {
			h := newHost(t, engine, map[string]string{file.Path: `{
				"start": "echo started >>/opt/trace; echo up",
				"terminals": [
					{ "name": "dev server", "command": "echo listening; echo $FLAVOUR; exec sleep 1000" },
					[{ "name": "dev server", "command": "cat" }, { "name": "worker", "command": "echo working; exec cat" }],
					{ "name": "done", "command": "echo bye; exit 0" },
					{ "name": "crashes", "command": "echo x >>/opt/crashes; echo start $(wc -l </opt/crashes); [ $(wc -l </opt/crashes) != 1 ] || exit 3; exec cat" }
				]
			}`})
			a := h.agent("a")
			a.env = []string{"FLAVOUR=vanilla"}
			ready, err := a.prepare(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			want := append(slices.Clone(unprepared), "start", "start done", "terminals", "terminals done")
			if diff := cmp.Diff(want, a.story()); diff != "" {
				t.Errorf("phases (-want +got):\n%s", diff)
			}
			checkTerminals(t, ready)
			checkCrashed(t, ready)
			checkInterrupted(t, ready)

			a.nextRun()
			if ready, err = a.prepare(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got := in(t, ready, "cat /opt/trace"); got != "started" {
				t.Errorf("prepared again while it runs, start has run %q, want once", got)
			}
			if err := ready.Machine.(hibernator).Hibernate(t.Context()); err != nil {
				t.Fatal(err)
			}
			a.nextRun()
			if ready, err = a.prepare(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got := in(t, ready, "cat /opt/trace"); got != "started\nstarted" {
				t.Errorf("after it slept, start has run %q, want twice", got)
			}
			checkTerminals(t, ready)
		})
	}
}

func checkTerminals(t *testing.T, ready *environment.Ready) {
	t.Helper()
	until(t, ready, "dev server", "listening\nvanilla")
	until(t, ready, "done", "bye")
	until(t, ready, "start", "up")
	until(t, ready, "worker", "working")
	got := map[string]bool{}
	for _, s := range terminalStates(t, ready, "done", guest.TendedEnded) {
		if s.Name != "crashes" {
			got[s.Name] = s.Running
		}
	}
	want := map[string]bool{"start": false, "dev server": true, "dev server-2": true, "worker": true, "done": false}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("terminals and whether they run (-want +got):\n%s", diff)
	}
}

// checkCrashed looks at the terminal whose command crashed once, and was started
// again by nobody of ours.
func checkCrashed(t *testing.T, ready *environment.Ready) {
	t.Helper()
	until(t, ready, "crashes", "start 2")
	states := terminalStates(t, ready, "crashes", guest.TendedRunning)
	for _, s := range states {
		if s.Name != "crashes" {
			continue
		}
		if h := s.Tended; h == nil || h.Status != guest.TendedRunning || h.Restarts != 1 || s.ExitCode != 3 || h.Last != "start 1" {
			t.Errorf("the terminal that crashed: %+v, %+v", s, s.Tended)
		}
		return
	}
	t.Errorf("no terminal that crashed among %+v", states)
}

// checkInterrupted stops a command as a person would, and starts it again.
func checkInterrupted(t *testing.T, ready *environment.Ready) {
	t.Helper()
	if err := ready.Line.Type(t.Context(), "stop-it", "worker", "\x03", false); err != nil {
		t.Fatal(err)
	}
	terminalStates(t, ready, "worker", guest.TendedStopped)
	if err := ready.Line.Type(t.Context(), "start-it", "worker", "", true); err != nil {
		t.Fatal(err)
	}
	terminalStates(t, ready, "worker", guest.TendedRunning)
}

// terminalStates waits until a tended terminal has a status and gives the states
// of all.
func terminalStates(t *testing.T, ready *environment.Ready, name string, status wire.TendedStatus) []guest.TerminalState {
	t.Helper()
	var states []guest.TerminalState
	await(t, func() bool {
		var err error
		if states, err = ready.Line.Terminals(t.Context()); err != nil {
			t.Fatal(err)
		}
		return slices.ContainsFunc(states, func(s guest.TerminalState) bool {
			return s.Name == name && s.Tended != nil && s.Tended.Status == status
		})
	}, func() string { return fmt.Sprintf("terminal %q to be %s: %+v", name, status, states) })
	return states
}

// until waits until a terminal shows text.
func until(t *testing.T, ready *environment.Ready, name, text string) {
	t.Helper()
	var shown string
	await(t, func() bool {
		var err error
		if shown, err = ready.Line.Capture(t.Context(), name, 100); err != nil {
			t.Fatal(err)
		}
		return strings.Contains(shown, text)
	}, func() string { return fmt.Sprintf("%q in terminal %q, which shows %q", text, name, shown) })
}

// await waits for what tmux does, which tells nobody of it.
func await(t *testing.T, done func() bool, what func() string) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !done(); time.Sleep(25 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what())
		}
	}
}

// TestPrepareStartKinds goes through the ways in which a start can end.
func TestPrepareStartKinds(t *testing.T) {
	h := newHost(t, oci.Runc, nil)
	tests := []struct {
		name, start string
		limit       time.Duration
		want        []string
		notes       string
		trace       string
		env         []string
	}{
		{name: "ends well", start: "echo hello", want: []string{"start", "start done"}},
		{name: "fails", start: "echo no docker; exit 4", want: []string{"start", "warning", "start done"}, notes: "exit code 4"},
		{name: "stays", start: "echo waiting for the database; sleep 1000", limit: 300 * time.Millisecond, want: []string{"start", "warning", "start done"},
			notes: "has not ended after 300ms: echo waiting for the database; sleep 1000. It goes on in the terminal start. Its output ends with:\nwaiting for the database"},
		{name: "leaves a daemon", start: "(sleep 1000; true) & echo leaving", want: []string{"start", "start done"}},
		{name: "too long for a terminal", start: "echo hello # " + strings.Repeat("x", 9000), want: []string{"start", "start done"}},
		{name: "fails without a terminal", start: "exit 5 # " + strings.Repeat("x", 9000), want: []string{"start", "warning", "start done"}, notes: "exit code 5"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			h.t = t
			h.push(map[string]string{file.Path: `{"start": "` + test.start + `"}`})
			a := h.agent("s-" + strings.ReplaceAll(test.name, " ", "-"))
			a.change = func(p *environment.Preparation) { p.StartLimit = test.limit }
			ready, err := a.prepare(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			want := append(append(slices.Clone(unprepared), test.want...), "terminals", "terminals cached")
			if diff := cmp.Diff(want, a.story()); diff != "" {
				t.Errorf("phases (-want +got):\n%s", diff)
			}
			if notes := strings.Join(ready.Notes, "\n"); !strings.Contains(notes, test.notes) || (test.notes == "") != (notes == "") {
				t.Errorf("notes %q, want one with %q", notes, test.notes)
			}
			a.restart()
			a.nextRun()
			if again, err := a.prepare(t.Context()); err != nil {
				t.Error(err)
			} else if diff := cmp.Diff(ready.Notes, again.Notes); diff != "" {
				t.Errorf("notes for the next run (-first +next):\n%s", diff)
			}
		})
	}
}

// TestStartHidesSecrets has a start print a secret where its output is cut: no
// part of it reaches the agent's notes or the machine's disk.
func TestStartHidesSecrets(t *testing.T) {
	const value = "hunter2-is-a-long-value"
	h := newHost(t, oci.Runc, map[string]string{file.Path: `{"start": "for i in $(seq 300); do echo $TOKEN; done; exit 4"}`})
	a := h.agent("a")
	a.env = []string{"TOKEN=" + value}
	a.change = func(p *environment.Preparation) {
		p.Redactor = &secret.Redactor{}
		p.Redactor.Add(value)
	}
	ready, err := a.prepare(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for where, text := range map[string]string{"the notes": strings.Join(ready.Notes, "\n"), "the disk": in(t, ready, "cat /var/lib/errand/environment.json")} {
		if strings.Contains(text, "value") || !strings.Contains(text, secret.Redacted) {
			t.Errorf("of start, %s tell %.200q", where, text)
		}
	}
}

// TestPrepareWithoutTmux prepares a machine in which there is none.
func TestPrepareWithoutTmux(t *testing.T) {
	h := newHost(t, oci.Runc, map[string]string{file.Path: `{
		"install": "rm $(command -v tmux)",
		"start": "echo started >>/opt/trace",
		"terminals": [{ "command": "true" }, { "command": "true" }]
	}`})
	a := h.agent("a")
	ready, err := a.prepare(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got := in(t, ready, "cat /opt/trace"); got != "started" {
		t.Errorf("start has run %q, want once", got)
	}
	if len(ready.Notes) != 1 || !strings.Contains(ready.Notes[0], "tmux") {
		t.Errorf("notes %q, want one that names tmux", ready.Notes)
	}
}

// TestPrepareUser runs everything as somebody else than root, in an
// environment with variables of its own.
func TestPrepareUser(t *testing.T) {
	h := newHost(t, oci.Runc, map[string]string{
		file.Path: `{
			"user": "nobody", "env": { "COLOUR": "green" },
			"install": "id -un >trace; echo $COLOUR $SECRET >>trace"
		}`,
	})
	a := h.agent("a")
	a.env = []string{"SECRET=one"}
	ready, err := a.prepare(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got := in(t, ready, "cat trace; stat -c %U . trace .errand/environment.json; echo $COLOUR$SECRET"); got != "nobody\ngreen one\nnobody\nnobody\nnobody\ngreen" {
		t.Errorf("the machine has %q", got)
	}
	b := h.agent("b")
	b.env = []string{"SECRET=two"}
	other, err := b.prepare(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if other.Key == ready.Key || other.Cached {
		t.Error("an agent with another secret got the disk of the first one")
	}
}

// TestPrepareWithoutRepository prepares an empty project.
func TestPrepareWithoutRepository(t *testing.T) {
	h := newHost(t, oci.Runc, nil)
	a := h.agent("a")
	a.change = func(p *environment.Preparation) {
		p.Mirror, p.Environment = nil, &environment.Environment{Install: "echo ran >trace"}
	}
	ready, err := a.prepare(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got := in(t, ready, "pwd; cat trace"); got != "/workspace\nran" {
		t.Errorf("the machine has %q", got)
	}
}

// TestPrepareDockerfile says what it does not do, and does without the user who
// would be in that image.
func TestPrepareDockerfile(t *testing.T) {
	h := newHost(t, oci.Runc, map[string]string{file.CursorPath: `{
		"build": { "dockerfile": "Dockerfile" }, "user": "agentuser", "install": "id -un >trace"
	}`})
	a := h.agent("a")
	ready, err := a.prepare(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got := in(t, ready, "cat trace"); got != "root" || ready.Environment.User != "" {
		t.Errorf("install ran as %q, the environment's user is %q", got, ready.Environment.User)
	}
	if len(ready.Notes) != 2 || !strings.Contains(ready.Notes[0], "Dockerfile") || !strings.Contains(ready.Notes[1], "agentuser") {
		t.Errorf("notes %q, want one on the Dockerfile and one on the user", ready.Notes)
	}
	if !slices.Contains(a.story(), "warning") {
		t.Errorf("the story %q has no warning", a.story())
	}
}
