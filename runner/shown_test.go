package runner_test

import (
	"context"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/guest"
	"github.com/errand-dev/errand/llm/scripted"
	"github.com/errand-dev/errand/runner"
	"github.com/errand-dev/errand/terminal"
	"github.com/errand-dev/errand/vault"
)

// screen is what a person at a terminal sees.
type screen struct {
	t    *testing.T
	mu   sync.Mutex
	text strings.Builder
	more chan struct{}
}

func newScreen(t *testing.T) *screen { return &screen{t: t, more: make(chan struct{}, 1)} }

func (s *screen) show(o guest.Output) {
	s.mu.Lock()
	s.text.Write(o.Data)
	s.mu.Unlock()
	select {
	case s.more <- struct{}{}:
	default:
	}
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// until waits for text to be seen.
func (s *screen) until(text string) {
	s.t.Helper()
	late := time.After(time.Minute)
	for !strings.Contains(s.String(), text) {
		select {
		case <-s.more:
		case <-late:
			s.t.Fatalf("waited in vain for %q in %q", text, s.String())
		}
	}
}

// TestPeopleSeeNoSecrets runs commands and looks at terminals in the machine of
// an agent that has a secret: none of it is shown, however it comes, and what is
// typed is.
func TestPeopleSeeNoSecrets(t *testing.T) {
	const value = "npm_s3cr3t-0123456789abcdef"
	h := build(t, script(talk(".", &scripted.Turn{Text: "done"})), runner.Defaults{})
	h.put(vault.Team, "NPM_TOKEN", value, errand.SecretRuntime)
	agent, run := h.start(ask("be there", ""))
	h.ends(agent, run, errand.RunFinished)

	for _, test := range []struct{ command, want string }{
		{`echo "<$NPM_TOKEN>"`, "<[REDACTED]>\n"},
		{`printf %s "$NPM_TOKEN" | base64`, "[REDACTED]\n"},
		{`printf "<n"; sleep 0.3; printf "${NPM_TOKEN#n}" | head -c 9; sleep 0.3; printf %s "${NPM_TOKEN:10}>"`, "<[REDACTED]>"},
		{`printf "plain %s" "$NPM_TOKEN" >&2`, "plain [REDACTED]"},
		{`printf "it ends with n"; exit 3`, "it ends with n"},
	} {
		if got, _ := h.exec(agent, test.command); got != test.want {
			t.Errorf("%s printed %q, want %q", test.command, got, test.want)
		}
	}

	for name, do := range map[string]func(context.Context, terminal.Streams) error{
		"a shell": func(ctx context.Context, s terminal.Streams) error {
			_, err := h.runner.Exec(ctx, caller, agent, runner.ExecRequest{
				Args: []string{"bash", "--norc"}, Env: []string{"PS1=> "}, TTY: &guest.Size{Cols: 100, Rows: 20}, Stdin: s.In}, s.Out)
			return err
		},
		"a terminal": func(ctx context.Context, s terminal.Streams) error {
			return h.runner.Attach(ctx, caller, agent, terminal.View{Name: "mine", Size: guest.Size{Cols: 100, Rows: 20}}, s)
		},
	} {
		t.Run(name, func(t *testing.T) { typeSecrets(t, value, do) })
	}
}

// typeSecrets has a person type at a shell that do shows.
func typeSecrets(t *testing.T, value string, do func(context.Context, terminal.Streams) error) {
	s, ended := newScreen(t), make(chan error, 1)
	typed, keys := io.Pipe()
	ctx, cancel := context.WithCancel(t.Context())
	go func() { ended <- do(ctx, terminal.Streams{In: typed, Out: s.show}) }()
	defer func() {
		cancel()
		typed.Close()
		<-ended
	}()
	press := func(text string) {
		t.Helper()
		if _, err := keys.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	press("echo rea''dy\r")
	s.until("ready")
	// Each key is seen before the next one is typed.
	for i := range "npm" {
		press("npm"[i : i+1])
		s.until("npm"[:i+1])
	}
	press("\recho \"<$NPM_TOKEN>\"; echo fi''rst\r")
	s.until("first")
	s.until("<[REDACTED]*****************>")
	press(value + "; echo la''st\r")
	s.until("last")
	if got := s.String(); strings.Contains(got, value[3:]) || strings.Contains(got, "s3cr3t") {
		t.Errorf("the screen showed %q", got)
	}
}
