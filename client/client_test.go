package client_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
	"github.com/google/go-cmp/cmp"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/api"
	"github.com/errand-dev/errand/client"
)

// What a server that works answers is tested beside it, in package server. Here
// are the ones that do not.

const agent = errand.AgentID("bc-00000000-0000-0000-0000-000000000001")

func dial(t *testing.T, handler http.HandlerFunc) *client.Client {
	t.Helper()
	web := httptest.NewServer(handler)
	t.Cleanup(web.Close)
	c, err := client.New(client.Options{URL: web.URL + "/", Key: "k", UserAgent: "test/1"})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestURLs(t *testing.T) {
	for _, bad := range []string{"", "nonsense", "127.0.0.1:7070", "ftp://host", "http://"} {
		if _, err := client.New(client.Options{URL: bad}); errand.KindOf(err) != errand.Invalid {
			t.Errorf("New(%q) gave %v", bad, err)
		}
	}
}

func TestRequest(t *testing.T) {
	var got string
	c := dial(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got = fmt.Sprintf("%s %s %s %s %s %s", r.Method, r.URL, r.Header.Get("Authorization"), r.Header.Get("Idempotency-Key"), r.Header.Get("User-Agent"), body)
		w.WriteHeader(http.StatusCreated)
		io.WriteString(w, `{"run":{"id":"r"}}`)
	})
	made, err := c.CreateRun(t.Context(), agent, api.CreateRun{Prompt: api.Prompt{Text: "go"}}, "once")
	if err != nil || made.Run.ID != "r" {
		t.Fatalf("%+v, %v", made, err)
	}
	want := "POST /v1/agents/" + string(agent) + `/runs Bearer k once test/1 {"prompt":{"text":"go"}}`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestPathSegments asks for things whose names must be escaped, once.
func TestPathSegments(t *testing.T) {
	var got []string
	mux := http.NewServeMux()
	mux.HandleFunc("/below/v1/agents/{id}/terminals/{name}", func(_ http.ResponseWriter, r *http.Request) { got = append(got, r.PathValue("name")) })
	mux.HandleFunc("/below/v1/snapshots/{ref}", func(_ http.ResponseWriter, r *http.Request) { got = append(got, r.PathValue("ref")) })
	web := httptest.NewServer(mux)
	t.Cleanup(web.Close)
	c, err := client.New(client.Options{URL: web.URL + "/below/"})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"Dev server", "web/api", "50%", "ä?#"}
	for _, name := range want {
		_, _ = c.Attach(t.Context(), agent, name, api.ExecStart{}, client.ExecIO{}) // the server is none
	}
	if _, err := c.Snapshot(t.Context(), "a b/c"); err == nil {
		t.Error("a server that is none answered")
	}
	if diff := cmp.Diff(append(want, "a b/c"), got); diff != "" {
		t.Error(diff)
	}
}

func TestRefusals(t *testing.T) {
	for _, c := range []struct {
		status int
		body   string
		kind   errand.Kind
		code   string
	}{
		{400, `{"error":{"code":"validation_error","message":"m"}}`, errand.Invalid, "validation_error"},
		{401, `{"error":{"code":"unauthorized","message":"m"}}`, errand.Unauthorized, "unauthorized"},
		{403, `{"error":{"code":"role_forbidden","message":"m"}}`, errand.Forbidden, "role_forbidden"},
		{404, `{"error":{"code":"agent_not_found","message":"m"}}`, errand.NotFound, "agent_not_found"},
		{409, `{"error":{"code":"agent_busy","message":"m","output":"o","exitCode":3}}`, errand.Conflict, "agent_busy"},
		{429, `{"error":{"code":"rate_limit_exceeded","message":"m"}}`, errand.Limited, "rate_limit_exceeded"},
		{500, `{"error":{"code":"internal_error","message":"m"}}`, errand.Internal, "internal_error"},
		{502, `<html>Bad gateway</html>`, errand.Unavailable, "upstream_error"},
		{404, `404 page not found`, errand.NotFound, "upstream_error"},
		{200, `<html>`, errand.Unavailable, "upstream_error"},
	} {
		cl := dial(t, func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(c.status)
			io.WriteString(w, c.body)
		})
		_, err := cl.Agent(t.Context(), agent)
		if e := errand.AsError(err); e == nil || e.Kind != c.kind || e.Code != c.code {
			t.Errorf("%d %s gives %v", c.status, c.body, err)
		} else if c.status == 409 && (e.Output != "o" || *e.ExitCode != 3) {
			t.Errorf("what the command printed is lost: %+v", e)
		}
	}
}

func TestUnreachable(t *testing.T) {
	web := httptest.NewServer(http.NotFoundHandler())
	web.Close()
	c, err := client.New(client.Options{URL: web.URL})
	if err != nil {
		t.Fatal(err)
	}
	var unreachable *client.UnreachableError
	if _, err := c.Me(t.Context()); !errors.As(err, &unreachable) || !strings.Contains(err.Error(), web.URL) {
		t.Errorf("nobody there: %v", err)
	}
	if _, err := c.Exec(t.Context(), agent, api.ExecStart{}, client.ExecIO{}); !errors.As(err, &unreachable) {
		t.Errorf("nobody there: %v", err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	mine := errors.New("mine")
	cancel(mine)
	if _, err := c.Me(ctx); !errors.Is(err, mine) {
		t.Errorf("an ended context gives %v", err)
	}
	for _, err := range c.Follow(ctx, agent, 0) {
		if !errors.Is(err, mine) {
			t.Errorf("following under an ended context gives %v", err)
		}
	}
}

// An event that was cut is not given, and asked for again; one refusal ends it.
func TestFollow(t *testing.T) {
	asked := []string{}
	c := dial(t, func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.Header.Get("Last-Event-ID"))
		switch len(asked) {
		case 1:
			io.WriteString(w, "id: 1\nevent: text\ndata: {\"seq\":1}\n\nid: 2\nevent: text\ndata: {\"seq\"")
		case 2:
			w.WriteHeader(http.StatusServiceUnavailable)
		case 3:
			io.WriteString(w, "event: heartbeat\ndata: {}\n\n: comment\n\nid: 2\nevent: text\ndata: {\"seq\":\ndata: 2}\n\n")
		default:
			w.WriteHeader(http.StatusNotFound)
			io.WriteString(w, `{"error":{"code":"agent_not_found","message":"m"}}`)
		}
	})
	var seqs []errand.Seq
	var last error
	for e, err := range c.Follow(t.Context(), agent, 0) {
		if last = err; err == nil {
			seqs = append(seqs, e.Seq)
		}
	}
	if diff := cmp.Diff([]errand.Seq{1, 2}, seqs); diff != "" || errand.KindOf(last) != errand.NotFound {
		t.Errorf("%s, %v", diff, last)
	}
	if diff := cmp.Diff([]string{"0", "1", "1", "2"}, asked); diff != "" {
		t.Error(diff)
	}
}

// roundTrip is a way to a server.
type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// TestFollowQuietJournal loses a server twice for less than Follow's patience,
// which answers between with no event: Follow goes on.
func TestFollowQuietJournal(t *testing.T) {
	for name, between := range map[string]string{"a heartbeat": "event: heartbeat\ndata: {}\n\n", "nothing": ""} {
		synctest.Test(t, func(t *testing.T) {
			began, answered := time.Now(), false
			c, err := client.New(client.Options{URL: "http://errand.example", HTTP: &http.Client{Transport: roundTrip(func(*http.Request) (*http.Response, error) {
				status, body := http.StatusOK, between
				switch at := time.Since(began); {
				case at > 3*time.Minute:
					status, body = http.StatusNotFound, `{"error":{"code":"agent_not_found","message":"m"}}`
				case at < 90*time.Second || answered:
					return nil, io.ErrUnexpectedEOF
				}
				answered = true
				return &http.Response{StatusCode: status, Body: io.NopCloser(strings.NewReader(body))}, nil
			})}})
			if err != nil {
				t.Fatal(err)
			}
			for _, err := range c.Follow(t.Context(), agent, 0) {
				if errand.KindOf(err) != errand.NotFound {
					t.Errorf("%s between: following ends after %s with %v", name, time.Since(began), err)
				}
			}
		})
	}
}

func TestExec(t *testing.T) {
	talk := func(t *testing.T, say func(context.Context, *websocket.Conn)) *client.Client {
		return dial(t, func(w http.ResponseWriter, r *http.Request) {
			conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{api.ExecProtocol}})
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.CloseNow()
			say(r.Context(), conn)
		})
	}
	text := func(ctx context.Context, c *websocket.Conn, s string) { c.Write(ctx, websocket.MessageText, []byte(s)) }

	var out, errs strings.Builder
	c := talk(t, func(ctx context.Context, conn *websocket.Conn) {
		_, start, _ := conn.Read(ctx)
		text(ctx, conn, `{"type":"of-tomorrow"}`)
		conn.Write(ctx, websocket.MessageBinary, api.PackData(api.ExecStdout, start))
		for {
			kind, message, err := conn.Read(ctx)
			if err != nil {
				return
			}
			if kind == websocket.MessageText {
				break // the end of stdin
			}
			conn.Write(ctx, websocket.MessageBinary, api.PackData(api.ExecStderr, message[1:]))
		}
		text(ctx, conn, `{"type":"exit","exit":{"code":9}}`)
		conn.Read(ctx)
	})
	exit, err := c.Exec(t.Context(), agent, api.ExecStart{Args: []string{"cat"}}, client.ExecIO{Stdin: strings.NewReader("in"), Stdout: &out, Stderr: &errs})
	if err != nil || exit.Code != 9 || out.String() != `{"type":"start","start":{"args":["cat"],"stdin":true}}` || errs.String() != "in" {
		t.Errorf("exit %+v, %v, stdout %q, stderr %q", exit, err, out.String(), errs.String())
	}

	for name, say := range map[string]func(context.Context, *websocket.Conn){
		"refused": func(ctx context.Context, c *websocket.Conn) {
			text(ctx, c, `{"type":"error","kind":"conflict","error":{"code":"x","message":"no"}}`)
			c.Read(ctx)
		},
		"garbage":   func(ctx context.Context, c *websocket.Conn) { text(ctx, c, `{`) },
		"no stream": func(ctx context.Context, c *websocket.Conn) { c.Write(ctx, websocket.MessageBinary, []byte{77}) },
		"cut":       func(ctx context.Context, c *websocket.Conn) {},
	} {
		_, err := talk(t, say).Exec(t.Context(), agent, api.ExecStart{Args: []string{"true"}}, client.ExecIO{})
		if err == nil || (name == "refused") != (errand.KindOf(err) == errand.Conflict) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
