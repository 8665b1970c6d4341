package main_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/api"
	"github.com/errand-dev/errand/client"
)

// idle starts an agent that has nothing to do, on the faster engine.
func idle(t *testing.T) (*installation, errand.AgentID) {
	t.Helper()
	in := install(t, here())
	made := in.agent("Be there", "", "runc")
	in.finished(made.Agent.ID, made.Run.ID)
	return in, errand.AgentID(made.Agent.ID)
}

// viewer is one person at a terminal.
type viewer struct {
	t     *testing.T
	press func(string)
	stop  context.CancelFunc
	ended chan error

	mu   sync.Mutex
	text strings.Builder
	news chan struct{}
}

// look lets a person look at a terminal, until the test's end or stop.
func look(t *testing.T, c *client.Client, id errand.AgentID, name string, start api.ExecStart) *viewer {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	keys := make(chan string, 16)
	v := &viewer{t: t, stop: stop, ended: make(chan error, 1), news: make(chan struct{}, 1), press: func(text string) { keys <- text }}
	go func() {
		_, err := c.Attach(ctx, id, name, start, client.ExecIO{Stdin: reading(ctx, keys), Stdout: v})
		v.ended <- err
	}()
	t.Cleanup(stop)
	return v
}

// reading gives what comes through a channel as what is typed.
type readFunc func([]byte) (int, error)

func (f readFunc) Read(p []byte) (int, error) { return f(p) }

func reading(ctx context.Context, keys <-chan string) readFunc {
	return func(p []byte) (int, error) {
		select {
		case text := <-keys:
			return copy(p, text), nil
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
}

func (v *viewer) Write(p []byte) (int, error) {
	v.mu.Lock()
	v.text.Write(p)
	v.mu.Unlock()
	select {
	case v.news <- struct{}{}:
	default:
	}
	return len(p), nil
}

func (v *viewer) shown() string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.text.String()
}

func (v *viewer) sees(text string) {
	v.t.Helper()
	late := time.After(60 * time.Second)
	for !strings.Contains(v.shown(), text) {
		select {
		case <-v.news:
		case err := <-v.ended:
			v.t.Fatalf("it ended before %q was seen: %v\n%q", text, err, v.shown())
		case <-late:
			v.t.Fatalf("%q was not seen in\n%q", text, v.shown())
		}
	}
}

// TestManyViewers lets 50 people look at one terminal, every other one without
// typing: all see a line that one of them has made, and when they have left nobody
// is there.
func TestManyViewers(t *testing.T) {
	t.Parallel()
	in, id := idle(t)
	made, err := in.client.OpenTerminal(t.Context(), id, "")
	if err != nil || made.Name != "shell-1" {
		t.Fatalf("%+v, %v", made, err)
	}
	var all []*viewer
	for i := range 50 {
		all = append(all, look(t, in.client, id, "shell-1", api.ExecStart{
			TTY: &api.Size{Cols: uint16(80 + i), Rows: 24}, Window: api.LeastWindow, ReadOnly: i%2 == 1, Bare: true, Existing: true,
		}))
	}
	for _, v := range all {
		v.sees("#") // the prompt
	}
	all[0].press("echo line-$((6*7))\r")
	began := time.Now()
	for _, v := range all {
		v.sees("line-42")
	}
	t.Logf("50 viewers saw it within %s", time.Since(began).Round(time.Millisecond))
	for _, v := range all {
		v.stop()
	}
	for _, v := range all {
		<-v.ended
	}
	last := look(t, in.client, id, "shell-1", api.ExecStart{Bare: true, Existing: true})
	last.press("until [ $(tmux list-clients | wc -l) = 1 ]; do sleep 0.1; done; echo alone-$((6*7))\r")
	last.sees("alone-42")
}

// TestTerminalsRefused: what has no good key, agent or name is refused, who only
// watches is not heard, and a key that is revoked ends what it has opened.
func TestTerminalsRefused(t *testing.T) {
	t.Parallel()
	in, id := idle(t)
	ctx := t.Context()
	if _, err := in.client.OpenTerminal(ctx, id, "desk"); err != nil {
		t.Fatal(err)
	}
	if _, err := in.client.OpenTerminal(ctx, id, "desk"); errand.KindOf(err) != errand.Conflict {
		t.Errorf("a second one of the name: %v", err)
	}
	if _, err := in.client.OpenTerminal(ctx, id, "a\nb"); errand.KindOf(err) != errand.Invalid {
		t.Errorf("a name of two lines: %v", err)
	}
	nobody := errand.AgentID("bc-00000000-0000-4000-8000-000000000000")
	for what, kind := range map[string]errand.Kind{"agent": errand.NotFound, "terminal": errand.NotFound, "key": errand.Unauthorized, "window": errand.Invalid} {
		c, agent, name, start := in.client, id, "desk", api.ExecStart{Existing: true}
		switch what {
		case "agent":
			agent = nobody
		case "terminal":
			name = "gone"
		case "window":
			start.Window = 1
		case "key":
			var err error
			if c, err = client.New(client.Options{URL: in.client.URL(), Key: "errand_" + strings.Repeat("x", 40)}); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := c.Attach(ctx, agent, name, start, client.ExecIO{}); errand.KindOf(err) != kind {
			t.Errorf("a wrong %s: %v", what, err)
		}
		if what == "window" || what == "key" {
			continue
		}
		if _, err := c.TerminalHistory(ctx, agent, name, 10); errand.KindOf(err) != kind {
			t.Errorf("the history at a wrong %s: %v", what, err)
		}
	}
	if err := in.client.CloseTerminal(ctx, id, "gone"); err != nil {
		t.Errorf("ending what is not there: %v", err)
	}

	var key api.CreatedKey
	if status, _, body := ask(t, http.DefaultClient, "POST", in.client.URL()+"/v1/keys", strings.NewReader(`{"name": "guest"}`), in.bearer()...); status != 201 || json.Unmarshal([]byte(body), &key) != nil {
		t.Fatalf("making a key: %d %s", status, body)
	}
	theirs, err := client.New(client.Options{URL: in.client.URL(), Key: key.Token})
	if err != nil {
		t.Fatal(err)
	}
	mine := look(t, in.client, id, "desk", api.ExecStart{Bare: true, Existing: true})
	watching := look(t, theirs, id, "desk", api.ExecStart{Bare: true, Existing: true, ReadOnly: true})
	guest := look(t, theirs, id, "desk", api.ExecStart{Bare: true, Existing: true})
	watching.sees("#")
	watching.press("echo watched-$((6*7))\r")
	guest.press("echo theirs-$((6*7))\r")
	mine.sees("theirs-42")
	watching.sees("theirs-42")
	if status, _, body := ask(t, http.DefaultClient, "DELETE", in.client.URL()+"/v1/keys/"+key.ID, nil, in.bearer()...); status != 200 {
		t.Fatalf("revoking it: %d %s", status, body)
	}
	for what, v := range map[string]*viewer{"who types": guest, "who watches": watching} {
		select {
		case err := <-v.ended:
			if errand.KindOf(err) != errand.Unauthorized {
				t.Errorf("%s with a revoked key: %v", what, err)
			}
		case <-time.After(10 * time.Second):
			t.Errorf("%s with a revoked key is still there", what)
		}
	}
	mine.press("echo mine-$((6*7))\r")
	mine.sees("mine-42")
	if err := in.client.CloseTerminal(ctx, id, "desk"); err != nil {
		t.Fatal(err)
	}
	if err := <-mine.ended; err != nil {
		t.Errorf("at the terminal's end: %v", err)
	}
	// By now it would have been: who watched was let go in between.
	if strings.Contains(mine.shown(), "watched-") {
		t.Errorf("who only watches was heard: %q", mine.shown())
	}
}

// TestTerminalCommands opens, lists, prints and ends terminals from the command
// line.
func TestTerminalCommands(t *testing.T) {
	t.Parallel()
	in, id := idle(t)
	run := func(code int, args ...string) string {
		t.Helper()
		cmd := in.command(args...)
		out, err := cmd.CombinedOutput()
		if cmd.ProcessState.ExitCode() != code {
			t.Fatalf("errand %q ended with %v: %s", args, err, out)
		}
		return string(out)
	}
	agent := string(id)
	if out := run(0, "terminal", "new", agent); out != "shell-1\n" {
		t.Errorf("the first is %q", out)
	}
	if out := run(0, "terminal", "new", agent, "desk"); out != "desk\n" {
		t.Errorf("one with a name is %q", out)
	}
	run(6, "terminal", "new", agent, "desk") // there is one
	desk := look(t, in.client, id, "desk", api.ExecStart{Existing: true})
	desk.press("printf '\\033[31mred-%d\\033[m\\n' $((6*7))\r")
	desk.sees("red-42")
	if out := run(0, "terminal", "show", agent, "desk"); !strings.Contains(out, "\nred-42\n") || strings.Contains(out, "\x1b") {
		t.Errorf("it shows %q", out)
	}
	var all []api.Terminal
	if err := json.Unmarshal([]byte(run(0, "terminal", "ls", "--json", agent)), &all); err != nil || len(all) != 2 || all[0].Name != "desk" || !all[0].Running {
		t.Errorf("there are %+v, %v", all, err)
	}
	if out := run(0, "terminal", "rm", agent, "desk"); out != "desk ended\n" {
		t.Errorf("ending gives %q", out)
	}
	<-desk.ended
	run(3, "terminal", "show", agent, "desk")
	if out := run(0, "attach", agent); strings.Contains(out, "desk") || !strings.Contains(out, "shell-1") {
		t.Errorf("afterwards there are\n%s", out)
	}
}

// TestWindow holds that no more is on its way to a client than its window, that it
// goes on when it says what it has drawn, and that one who says too much is let go.
func TestWindow(t *testing.T) {
	t.Parallel()
	in, id := idle(t)
	if _, err := in.client.OpenTerminal(t.Context(), id, "flood"); err != nil {
		t.Fatal(err)
	}
	flood := look(t, in.client, id, "flood", api.ExecStart{Existing: true, TTY: &api.Size{Cols: 100, Rows: 30}})
	flood.press("yes\r")
	conn, _, err := websocket.Dial(t.Context(), fmt.Sprintf("%s/v1/agents/%s/terminals/flood", in.client.URL(), id), &websocket.DialOptions{
		Subprotocols: []string{api.ExecProtocol}, HTTPHeader: http.Header{"Authorization": {"Bearer " + in.key()}},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.CloseNow()
	conn.SetReadLimit(api.MaxFrame)
	say := func(f api.Frame) {
		t.Helper()
		text, err := json.Marshal(f)
		if err != nil {
			t.Fatal(err)
		}
		if err := conn.Write(t.Context(), websocket.MessageText, text); err != nil {
			t.Fatal(err)
		}
	}
	messages := make(chan int, 100)
	go func() {
		defer close(messages)
		for {
			kind, data, err := conn.Read(t.Context())
			if err != nil || kind != websocket.MessageBinary {
				return
			}
			messages <- len(data) - 1
		}
	}()
	// taken reads until at least so much has come, and until somebody without a window
	// has been shown far more than one meanwhile.
	taken := func(least int64) (n int64) {
		t.Helper()
		shown := len(flood.shown()) + 8*api.LeastWindow
		for late := time.After(60 * time.Second); n < least || len(flood.shown()) < shown; {
			select {
			case more, open := <-messages:
				if !open {
					t.Fatalf("it ended after %d bytes", n)
				}
				n += int64(more)
			case <-flood.news:
			case <-late:
				t.Fatalf("%d bytes came, want %d", n, least)
			}
		}
		return n
	}
	say(api.Frame{Type: api.FrameStart, Start: &api.ExecStart{Bare: true, Existing: true, Window: api.LeastWindow, TTY: &api.Size{Cols: 100, Rows: 30}}})
	first := taken(1)
	if first > api.LeastWindow {
		t.Fatalf("%d bytes came", first)
	}
	say(api.Frame{Type: api.FrameAck, Bytes: first})
	second := taken(api.LeastWindow / 2)
	if second > api.LeastWindow {
		t.Errorf("after %d were drawn %d bytes came", first, second)
	}
	say(api.Frame{Type: api.FrameAck, Bytes: second + api.LeastWindow + 1}) // with all that may be on its way
	late := time.After(10 * time.Second)
	for {
		select {
		case _, open := <-messages:
			if !open {
				return
			}
		case <-late:
			t.Fatal("who says that more was drawn than was sent is still there")
		}
	}
}
