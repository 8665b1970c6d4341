package environment_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/environment"
	"github.com/errand-dev/errand/environment/file"
	"github.com/errand-dev/errand/machine"
	"github.com/errand-dev/errand/machine/oci"
)

type hibernator = machine.Hibernator

func machineHandle(a *agent) machine.Handle { return machine.Handle{Driver: oci.Name, ID: a.id} }

// wantCode holds that err is one for people, and gives it.
func wantCode(t *testing.T, err error, code string) *errand.Error {
	t.Helper()
	e := new(errand.Error)
	if !errors.As(err, &e) || e.Code != code {
		t.Fatalf("got %v, want an error %s", err, code)
	}
	return e
}

// TestPrepareFaults goes through what a repository, an image and a host can do
// wrong.
func TestPrepareFaults(t *testing.T) {
	h := newHost(t, oci.Runc, nil)
	tests := []struct {
		name   string
		file   string
		change func(*environment.Preparation)
		code   string
		phase  errand.Phase
		says   []string
		output string // that of the error ends with it
		exit   int    // -1 for none
	}{
		{name: "install fails", file: `{"install": "exec 2>&1; echo reading; echo broken >&2; exit 7"}`,
			code: "install_failed", phase: errand.PhaseInstall, says: []string{"exit code 7", "exec 2>&1; echo reading"}, output: "reading\nbroken\n", exit: 7},
		{name: "install is killed", file: `{"install": "kill -9 $$"}`,
			code: "install_failed", phase: errand.PhaseInstall, says: []string{"KILL", "memory"}, exit: 137},
		{name: "install hangs", file: `{"install": "echo waiting; sleep 600"}`,
			change: func(p *environment.Preparation) { p.InstallLimit = 300 * time.Millisecond },
			code:   "install_timeout", phase: errand.PhaseInstall, says: []string{"300ms"}, output: "waiting\n", exit: 143},
		{name: "no such command", file: `{"install": "pnpn install"}`,
			code: "install_failed", phase: errand.PhaseInstall, says: []string{"exit code 127"}, output: "not found\n", exit: 127},
		{name: "no such user", file: `{"user": "astronaut", "install": "true"}`,
			code: "user_not_found", phase: errand.PhaseMachine, says: []string{"astronaut", "root"}, exit: -1},
		{name: "no such image", file: `{"image": "example.invalid/none:1", "install": "true"}`,
			change: func(p *environment.Preparation) {
				p.Resolve = func(context.Context, string) (string, error) { return "", errors.New("no such host") }
			},
			code: "image_failed", phase: errand.PhaseImage, says: []string{"example.invalid/none:1", "no such host"}, exit: -1},
		{name: "no such commit", file: `{"start": "true"}`,
			change: func(p *environment.Preparation) { p.Checkout.Commit = strings.Repeat("0", 40) },
			code:   "checkout_failed", phase: errand.PhaseCheckout, exit: 1},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			h.t = t
			h.push(map[string]string{file.Path: test.file})
			a := h.agent("m-" + strings.ReplaceAll(test.name, " ", "-"))
			a.change = test.change
			_, err := a.prepare(t.Context())
			e := wantCode(t, err, test.code)
			for _, want := range test.says {
				if !strings.Contains(e.Message, want) {
					t.Errorf("message %q does not name %q", e.Message, want)
				}
			}
			if !strings.HasSuffix(e.Output, test.output) {
				t.Errorf("output %q does not end with %q", e.Output, test.output)
			}
			if got := exitOf(e); test.exit >= 0 && got != test.exit && test.code != "checkout_failed" || test.exit < 0 && got >= 0 {
				t.Errorf("exit code %d, want %d", got, test.exit)
			}
			if story := a.story(); story[len(story)-1] != string(test.phase)+" "+test.code {
				t.Errorf("the story %q does not end with the phase %s", story, test.phase)
			}
		})
	}
}

func exitOf(e *errand.Error) int {
	if e.ExitCode == nil {
		return -1
	}
	return *e.ExitCode
}

// TestPrepareAfterFailedInstall holds that a failure is told once in its run
// however often that is entered, and that a later run tries again.
func TestPrepareAfterFailedInstall(t *testing.T) {
	h := newHost(t, oci.Runc, map[string]string{
		file.Path: `{"install": "echo ran >>/opt/trace; echo try; [ -e /opt/mended ]"}`,
	})
	a := h.agent("a")
	_, first := a.prepare(t.Context())
	wantCode(t, first, "install_failed")
	told := len(a.events)
	a.restart()
	_, err := a.prepare(t.Context())
	wantCode(t, err, "install_failed")
	if diff := cmp.Diff(errand.AsError(first), err, cmp.Transformer("error", func(e error) *errand.Error { return errand.AsError(e) })); diff != "" || len(a.events) != told {
		t.Errorf("entered again, it recorded %d more events and differs (-first +second):\n%s", len(a.events)-told, diff)
	}
	a.nextRun()
	_, err = a.prepare(t.Context())
	wantCode(t, err, "install_failed")
	if got := strings.Count(a.output(), "try"); got != 1 {
		t.Errorf("the second run has %d tries in its journal, want 1", got)
	}

	m, err := h.driver.Open(t.Context(), machineHandle(a))
	if err != nil {
		t.Fatalf("the machine is not there to look into: %v", err)
	}
	line, err := a.open(t.Context(), m)
	if err != nil {
		t.Fatal(err)
	}
	if got := in(t, &environment.Ready{Line: line}, "touch /opt/mended; cat /opt/trace"); got != "ran\nran" {
		t.Errorf("traces %q, want two", got)
	}
	a.nextRun()
	ready, err := a.prepare(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got := in(t, ready, "cat /opt/trace"); got != "ran\nran\nran" {
		t.Errorf("traces %q, want three", got)
	}
}
