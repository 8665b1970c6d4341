package server_test

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/journal"
	"github.com/errand-dev/errand/server"
)

// counted counts what is written to all of a listener's connections.
type counted struct {
	net.Listener
	writes, bytes atomic.Int64
}

func (c *counted) Accept() (net.Conn, error) {
	conn, err := c.Listener.Accept()
	return countedConn{conn, c}, err
}

type countedConn struct {
	net.Conn
	all *counted
}

func (c countedConn) Write(p []byte) (int, error) {
	c.all.writes.Add(1)
	c.all.bytes.Add(int64(len(p)))
	return c.Conn.Write(p)
}

// TestManyPanels: two hundred open panels on one agent cost one write each for an
// event, which is written out once for all of them. (That it is not read from the
// store for each is package journal's TestManyFollow.) That they see who else is
// there makes no difference. The figures are logged.
func TestManyPanels(t *testing.T) {
	t.Run("journal", func(t *testing.T) { manyPanels(t, "") })
	t.Run("with presence", func(t *testing.T) { manyPanels(t, "?presence=true") })
}

func manyPanels(t *testing.T, query string) {
	const panels, events = 200, 50
	in := install(t, func(o *server.Options) { o.Heartbeat = time.Hour })
	agent, run := in.create("go")
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	wire := &counted{Listener: listener}
	web := &httptest.Server{Listener: wire, Config: &http.Server{Handler: in.server}}
	web.Start()
	t.Cleanup(web.Close)
	t.Cleanup(web.CloseClientConnections)

	var start errand.Seq // of the last event that is there when they come
	for e, err := range in.client.AllEvents(t.Context(), agent, 0) {
		if err != nil {
			t.Fatal(err)
		}
		start = e.Seq
	}
	var came, gone sync.WaitGroup
	arrived, measured := make(chan errand.Seq, panels), make(chan struct{})
	end := sync.OnceFunc(func() { close(measured) })
	defer end()
	for range panels {
		came.Add(1)
		gone.Go(func() {
			open := sync.OnceFunc(came.Done)
			defer open()
			req, err := http.NewRequestWithContext(t.Context(), "GET", web.URL+"/v1/agents/"+string(agent)+"/journal"+query, nil)
			if err != nil {
				t.Error(err)
				return
			}
			req.Header.Set("Authorization", "Bearer "+in.token)
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Error(err)
				return
			}
			defer resp.Body.Close()
			next, seen := errand.Seq(1), query == "" // whether it was told who is there
			for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
				id, ok := strings.CutPrefix(lines.Text(), "id: ")
				if !ok {
					if seen = seen || lines.Text() == "event: presence"; seen && next > start {
						open()
					}
					continue
				}
				if id != fmt.Sprint(next) {
					t.Errorf("event %s came, want %d", id, next)
					return
				}
				if next == start && seen {
					open()
				}
				if next > start {
					arrived <- next
				}
				if next++; next > start+events {
					<-measured // an answer's end is a write too
					return
				}
			}
		})
	}
	came.Wait()
	if t.Failed() {
		return
	}
	// The readers stand; what comes from here on is what events cost.
	writes, bytes, made := wire.writes.Load(), wire.bytes.Load(), server.FramesMade(in.server)
	before, began := processor(t), time.Now()
	var slowest time.Duration
	for n := range events {
		wrote := time.Now()
		if _, err := in.journal.Decide(t.Context(), func(tx *journal.Tx) error {
			return tx.Tell(agent, run, errand.Fact{Kind: errand.EventText, Data: errand.TextData{Text: "a line of what an agent says"}})
		}); err != nil {
			t.Fatal(err)
		}
		for range panels {
			select {
			case seq := <-arrived:
				if seq != start+errand.Seq(n)+1 {
					t.Fatalf("event %d came, want %d", seq, start+errand.Seq(n)+1)
				}
			case <-time.After(20 * time.Second):
				t.Fatalf("event %d did not come to everybody", n)
			}
		}
		slowest = max(slowest, time.Since(wrote))
	}
	took, spent := time.Since(began), processor(t)-before
	writes, bytes, made = wire.writes.Load()-writes, wire.bytes.Load()-bytes, server.FramesMade(in.server)-made
	end()
	t.Logf("%d events to %d panels: %d writes, %d bytes, written out %d times; %s from an event to the last of them (slowest %s), %s of processor for each and reader, the readers' own included",
		events, panels, writes, bytes, made, took/events, slowest, spent/(panels*events))
	if writes != panels*events {
		t.Errorf("%d writes, want %d", writes, panels*events)
	}
	if made != events {
		t.Errorf("events were written out %d times, want %d", made, events)
	}
	gone.Wait()
	http.DefaultClient.CloseIdleConnections()
}

// processor gives what this process has used of processors.
func processor(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
