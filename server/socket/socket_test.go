package socket_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"go.uber.org/goleak"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/api"
	"github.com/errand-dev/errand/guest"
	"github.com/errand-dev/errand/server/socket"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// do is what a connection is for.
type do func(context.Context, *socket.Socket) (api.ExecExit, error)

// serve serves a do; a person may be connected until revoke is called, and the server
// works until stop is.
func serve(t *testing.T, d do) (url string, revoke, stop func()) {
	t.Helper()
	base, stop := context.WithCancel(t.Context())
	allowed, revoke := context.WithCancel(t.Context())
	last := func(_ context.Context, exit api.ExecExit, err error) api.Frame {
		if err == nil {
			return api.Frame{Type: api.FrameExit, Exit: &exit}
		}
		e := api.FromError(err)
		return api.Frame{Type: api.FrameError, Error: &e, Kind: string(errand.KindOf(err))}
	}
	may := func(context.Context) error {
		if allowed.Err() != nil {
			return errand.Errorf(errand.Unauthorized, "unauthorized", "No longer.")
		}
		return nil
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := socket.Serve(w, r.WithContext(base), socket.Options{Origin: "errand.example", May: may, Last: last}, d); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
		}
	}))
	t.Cleanup(s.Close)
	t.Cleanup(stop)
	return s.URL, revoke, stop
}

// person is a client of one.
type person struct {
	*testing.T
	*websocket.Conn
}

func connect(t *testing.T, url string, start api.ExecStart) person {
	t.Helper()
	conn, _, err := websocket.Dial(t.Context(), url, &websocket.DialOptions{Subprotocols: []string{api.ExecProtocol}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.CloseNow() })
	conn.SetReadLimit(api.MaxFrame)
	p := person{t, conn}
	p.say(api.Frame{Type: api.FrameStart, Start: &start})
	return p
}

func (p person) say(f api.Frame) {
	p.Helper()
	text, err := json.Marshal(f)
	if err != nil {
		p.Fatal(err)
	}
	if err := p.Write(p.Context(), websocket.MessageText, text); err != nil {
		p.Fatal(err)
	}
}

func (p person) press(keys string) {
	p.Helper()
	if err := p.Write(p.Context(), websocket.MessageBinary, api.PackData(api.ExecStdin, []byte(keys))); err != nil {
		p.Fatal(err)
	}
}

// hears gives the next message: output, or a frame.
func (p person) hears() ([]byte, api.Frame, error) {
	kind, message, err := p.Read(p.Context())
	if err != nil || kind == websocket.MessageBinary {
		return message[min(len(message), 1):], api.Frame{}, err
	}
	f, err := api.ParseFrame(message)
	return nil, f, err
}

// TestWindow sends much to a client that takes it piece by piece: never more than
// its window is under way.
func TestWindow(t *testing.T) {
	const all = 10 * api.LeastWindow
	url, _, _ := serve(t, func(ctx context.Context, s *socket.Socket) (api.ExecExit, error) {
		s.Output(ctx)(guest.Output{Data: make([]byte, all)})
		return api.ExecExit{Code: 7}, nil
	})
	p := connect(t, url, api.ExecStart{Window: api.LeastWindow})
	var taken, drawn int64
	for {
		data, f, err := p.hears()
		if err != nil {
			t.Fatal(err)
		}
		if f.Type == api.FrameExit {
			if f.Exit.Code != 7 || taken != all {
				t.Errorf("after %d bytes it ended with %+v", taken, f.Exit)
			}
			return
		}
		if taken += int64(len(data)); taken-drawn > api.LeastWindow {
			t.Fatalf("%d bytes are under way", taken-drawn)
		}
		if taken-drawn > api.LeastWindow/2 { // else the next piece has room
			p.say(api.Frame{Type: api.FrameAck, Bytes: taken - drawn})
			drawn = taken
		}
	}
}

// TestBadWindow refuses windows that are none, and what was never sent.
func TestBadWindow(t *testing.T) {
	url, _, _ := serve(t, func(ctx context.Context, s *socket.Socket) (api.ExecExit, error) {
		<-ctx.Done()
		return api.ExecExit{}, ctx.Err()
	})
	for _, window := range []int64{-1, 1, api.MostWindow + 1} {
		if _, f, err := connect(t, url, api.ExecStart{Window: window}).hears(); err != nil || f.Kind != string(errand.Invalid) {
			t.Errorf("%d: %+v, %v", window, f, err)
		}
	}
	p := connect(t, url, api.ExecStart{Window: api.LeastWindow})
	p.say(api.Frame{Type: api.FrameAck, Bytes: 1})
	if _, _, err := p.hears(); websocket.CloseStatus(err) != websocket.StatusPolicyViolation {
		t.Errorf("after an ack of nothing: %v", err)
	}
}

// TestReadOnly holds that who only watches is not heard.
func TestReadOnly(t *testing.T) {
	url, _, _ := serve(t, func(ctx context.Context, s *socket.Socket) (api.ExecExit, error) {
		heard, err := io.ReadAll(s.In)
		s.Output(ctx)(guest.Output{Data: append(heard, '.')})
		return api.ExecExit{}, err
	})
	for readOnly, want := range map[bool]string{true: ".", false: "typed."} {
		p := connect(t, url, api.ExecStart{ReadOnly: readOnly})
		p.press("typed")
		p.say(api.Frame{Type: api.FrameEOF})
		if data, _, err := p.hears(); err != nil || string(data) != want {
			t.Errorf("read-only %t: %q, %v", readOnly, data, err)
		}
	}
}

// TestRevoked ends a connection when it may not be there any more, and says so,
// also to one that takes nothing.
func TestRevoked(t *testing.T) {
	url, revoke, _ := serve(t, func(ctx context.Context, s *socket.Socket) (api.ExecExit, error) {
		s.Output(ctx)(guest.Output{Data: make([]byte, 10*api.LeastWindow)})
		<-ctx.Done()
		return api.ExecExit{}, ctx.Err()
	})
	for _, window := range []int64{0, api.LeastWindow} {
		p := connect(t, url, api.ExecStart{Window: window})
		if _, _, err := p.hears(); err != nil {
			t.Fatal(err)
		}
		revoke()
		for {
			_, f, err := p.hears()
			if err != nil {
				t.Fatalf("window %d: %v", window, err)
			}
			if f.Type != "" {
				if f.Kind != string(errand.Unauthorized) {
					t.Errorf("window %d: %+v", window, f)
				}
				break
			}
		}
	}
}

// TestStopped: a server that stops says that it goes, and nothing of a command.
func TestStopped(t *testing.T) {
	url, _, stop := serve(t, func(ctx context.Context, s *socket.Socket) (api.ExecExit, error) {
		s.Output(ctx)(guest.Output{Data: []byte("x")})
		<-ctx.Done()
		return api.ExecExit{}, ctx.Err()
	})
	p := connect(t, url, api.ExecStart{})
	if _, _, err := p.hears(); err != nil {
		t.Fatal(err)
	}
	stop()
	if _, f, err := p.hears(); websocket.CloseStatus(err) != websocket.StatusGoingAway {
		t.Errorf("got %+v, %v", f, err)
	}
}

// TestGone ends the command when the person is gone.
func TestGone(t *testing.T) {
	ended := make(chan error, 1)
	url, _, _ := serve(t, func(ctx context.Context, s *socket.Socket) (api.ExecExit, error) {
		_, err := io.ReadAll(s.In)
		<-ctx.Done()
		ended <- err
		return api.ExecExit{}, ctx.Err()
	})
	connect(t, url, api.ExecStart{}).CloseNow()
	select {
	case err := <-ended:
		if !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("its stdin ended with %v", err)
		}
	case <-time.After(30 * time.Second):
		t.Error("the command goes on")
	}
}

// TestNotASocket answers plain requests in words, and refuses other pages.
func TestNotASocket(t *testing.T) {
	url, _, _ := serve(t, nil)
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if text, err := io.ReadAll(resp.Body); err != nil || !strings.Contains(string(text), "errand exec") {
		t.Errorf("got %s, %v", text, err)
	}
	_, refused, err := websocket.Dial(t.Context(), url, &websocket.DialOptions{HTTPHeader: http.Header{"Origin": {"https://evil.example"}}})
	if err == nil || refused == nil || refused.StatusCode != http.StatusForbidden {
		t.Errorf("a page from elsewhere: %v", err)
	}
}
