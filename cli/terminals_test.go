package cli

import (
	"testing"
	"time"

	"github.com/errand-dev/errand/api"
)

func TestTerminalState(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	soon := now.Add(8 * time.Second)
	tests := []struct {
		terminal api.Terminal
		want     string
	}{
		{api.Terminal{Running: true}, "running"},
		{api.Terminal{ExitCode: 3}, "exited with 3"},
		{api.Terminal{Running: true, Health: &api.TerminalHealth{Status: "running"}}, "running"},
		{api.Terminal{Running: true, ExitCode: 1, Health: &api.TerminalHealth{Status: "running", Restarts: 1, Since: now.Add(-3 * time.Minute)}},
			"running, started again 3m ago, before that exited with 1, 1 restart"},
		{api.Terminal{ExitCode: 137, Health: &api.TerminalHealth{Status: "waiting", Restarts: 3, Next: &soon}}, "exited with 137, again in 8.0 s, 3 restarts"},
		{api.Terminal{ExitCode: 130, Health: &api.TerminalHealth{Status: "stopped"}}, "exited with 130, stopped by Ctrl-C"},
		{api.Terminal{Health: &api.TerminalHealth{Status: "ended"}}, "exited with 0"},
	}
	for _, test := range tests {
		if got := terminalState(test.terminal, now); got != test.want {
			t.Errorf("got %q, want %q", got, test.want)
		}
	}
}
