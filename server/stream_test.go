package server_test

import (
	"bufio"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/api"
	"github.com/errand-dev/errand/server"
)

// sent is one message as it came.
type sent struct{ ID, Event, Data string }

// read gives a stream's messages until it ends or stop says so.
func (in *installation) read(ctx context.Context, agent errand.AgentID, run errand.RunID, last string, stop func(sent) bool) []sent {
	in.t.Helper()
	req, err := http.NewRequestWithContext(ctx, "GET", fmt.Sprintf("%s/v1/agents/%s/runs/%s/stream", in.url, agent, run), nil)
	if err != nil {
		in.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+in.token)
	if last != "" {
		req.Header.Set("Last-Event-ID", last)
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		in.t.Fatal(err)
	}
	defer http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	defer resp.Body.Close()
	if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "text/event-stream" || resp.Header.Get("X-Cursor-Stream-Retention-Seconds") == "" {
		in.t.Fatalf("the stream begins with %d %v", resp.StatusCode, resp.Header)
	}
	var all []sent
	var m sent
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), ": ")
		switch name {
		case "id":
			m.ID = value
		case "event":
			m.Event = value
		case "data":
			m.Data = value
		case "":
			all = append(all, m)
			if stop != nil && stop(m) {
				return all
			}
			m = sent{}
		}
	}
	return all
}

// script writes a run's whole work into the journal.
func (in *installation) script(agent errand.AgentID, run errand.RunID) {
	fact := func(kind errand.EventKind, data any) errand.Fact { return errand.Fact{Kind: kind, Data: data} }
	in.tell(agent, run,
		fact(errand.EventRunStatus, errand.RunStatusData{Status: errand.RunRunning}),
		fact(errand.EventTurnStarted, errand.TurnStarted{Turn: 1, Attempt: 1}),
		fact(errand.EventThinking, errand.TextData{Text: "hm"}),
		fact(errand.EventText, errand.TextData{Text: "one "}),
		fact(errand.EventNotice, errand.Notice{Text: "not in the stream"}),
		fact(errand.EventText, errand.TextData{Text: "two"}),
		fact(errand.EventTurnEnded, errand.TurnEnded{Turn: 1, Message: json.RawMessage(`{}`)}),
		fact(errand.EventToolCalled, errand.ToolCalled{Op: "o1", Name: "search", Args: json.RawMessage(`{"pattern":"x"}`)}),
		fact(errand.EventToolEnded, errand.ToolEnded{Op: "o1", Name: "search", Output: "found"}),
		fact(errand.EventRunStatus, errand.RunStatusData{Status: errand.RunFinished, Result: "Done.", DurationMs: 7}),
	)
}

// A reader that is cut anywhere and comes back with the last id it saw gets what
// is missing and nothing twice.
func TestResumeIsExact(t *testing.T) {
	in, ctx := install(t, nil), t.Context()
	agent, run := in.create("go")
	in.script(agent, run)
	whole := in.read(ctx, agent, run, "", nil)
	if whole[0].Event != api.StreamStatus || whole[len(whole)-1].Event != api.StreamDone {
		t.Fatalf("the stream goes from %v to %v", whole[0], whole[len(whole)-1])
	}
	for cut := range whole {
		if cut+1 < len(whole) && whole[cut+1].ID != "" && whole[cut+1].ID == whole[cut].ID {
			continue // a message and its update come in one piece
		}
		last := ""
		for _, m := range whole[:cut+1] {
			if m.ID != "" {
				last = m.ID
			}
		}
		rest := in.read(ctx, agent, run, last, nil)
		if len(rest) == 0 || rest[0].Event != api.StreamStatus {
			t.Fatalf("after %q the stream does not begin with a status: %v", last, rest)
		}
		if diff := cmp.Diff(positioned(whole), append(positioned(whole[:cut+1]), positioned(rest)...)); diff != "" {
			t.Errorf("cut after message %d (%q): %s", cut, last, diff)
		}
		if rest[len(rest)-1].Event != api.StreamDone {
			t.Errorf("after %q the stream does not end with done", last)
		}
	}
}

// positioned leaves out what has no position.
func positioned(all []sent) []sent {
	var out []sent
	for _, m := range all {
		if m.ID != "" {
			out = append(out, m)
		}
	}
	return out
}

func TestForeignEventIDs(t *testing.T) {
	in := install(t, nil)
	agent, run := in.create("go")
	in.script(agent, run)
	other, otherRun := in.create("other")
	in.script(other, otherRun)
	in.tell(agent, otherRun, errand.Fact{Kind: errand.EventText, Data: errand.TextData{Text: "x"}}) // 13: another run's
	for _, id := range []string{"13-0", "1-0", "2-0", "7-0", "8-1", "999-0", "x", "6"} {
		a := in.ask("GET", fmt.Sprintf("/v1/agents/%s/runs/%s/stream", agent, run), "", func(r *http.Request) { r.Header.Set("Last-Event-ID", id) })
		if a.status != 400 || a.code(t) != "invalid_last_event_id" {
			t.Errorf("%s: %d %.200s", id, a.status, a.body)
		}
	}
}

// The stream of a run that was just made works at once, and tells what comes.
func TestLiveStream(t *testing.T) {
	in := install(t, func(o *server.Options) { o.Heartbeat = 20 * time.Millisecond })
	agent, run := in.create("go")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	beats := 0
	all := in.read(ctx, agent, run, "", func(m sent) bool {
		if m.Event == api.StreamHeartbeat {
			if beats++; beats == 2 {
				in.script(agent, run)
			}
		}
		return false
	})
	if beats < 2 {
		t.Errorf("%d heartbeats", beats)
	}
	var text, statuses string
	for _, m := range all {
		switch m.Event {
		case api.StreamAssistant:
			var d api.StreamText
			json.Unmarshal([]byte(m.Data), &d)
			text += d.Text
		case api.StreamStatus:
			var d api.StreamRunStatus
			json.Unmarshal([]byte(m.Data), &d)
			statuses += d.Status + " "
		}
	}
	if text != "one two" || statuses != "CREATING RUNNING FINISHED " || all[len(all)-1].Event != api.StreamDone {
		t.Errorf("text %q, statuses %q, %d messages", text, statuses, len(all))
	}
}

// Events that say nothing to a reader leave it its heartbeats.
func TestHeartbeatsAmongEvents(t *testing.T) {
	in := install(t, func(o *server.Options) { o.Heartbeat = 100 * time.Millisecond })
	agent, run := in.create("go")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var telling sync.WaitGroup
	defer telling.Wait()
	defer cancel()
	telling.Go(func() { // as an install that prints now and then
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
			if _, err := in.journal.Append(ctx, agent, run, errand.Fact{Kind: errand.EventNotice, Data: errand.Notice{Text: "not in the stream"}}); err != nil && ctx.Err() == nil {
				t.Error(err)
			}
		}
	})
	beats := 0
	in.read(ctx, agent, run, "", func(m sent) bool {
		if m.Event == api.StreamHeartbeat {
			beats++
		}
		return beats == 3
	})
	if beats != 3 {
		t.Errorf("%d heartbeats", beats)
	}
}

// A journal that cannot be read further has not ended: the stream breaks off
// without "done", so that the reader comes again.
func TestUnreadableJournal(t *testing.T) {
	in := install(t, func(o *server.Options) { o.Heartbeat = 20 * time.Millisecond })
	agent, run := in.create("go")
	for _, path := range []string{"/runs/" + string(run) + "/stream", "/journal"} {
		for _, table := range []string{"events", "agents"} {
			var restore func()
			got, err := in.lines("/v1/agents/"+string(agent)+path, func(line string) {
				if restore == nil && line == "event: "+api.StreamHeartbeat { // it has seen all there is
					restore = in.hideTable(table)
					in.journal.Deleted(agent) // wakes it
				}
			})
			if restore == nil || err != nil {
				t.Fatalf("%s: the stream ended with %v:\n%s", path, err, strings.Join(got, "\n"))
			}
			restore()
			if slices.Contains(got, "event: "+api.StreamDone) || slices.Contains(got, "event: "+api.StreamError) {
				t.Errorf("%s, %s unreadable: the end is told though it was not reached:\n%s", path, table, strings.Join(got, "\n"))
			}
		}
	}
}

// A server that stops ends its streams, and goes on with what ends by itself.
func TestStopEndsStreams(t *testing.T) {
	in := install(t, func(o *server.Options) { o.Heartbeat = 20 * time.Millisecond })
	agent, run := in.create("go")
	for _, path := range []string{"/runs/" + string(run) + "/stream", "/journal", "/journal"} {
		got, err := in.lines("/v1/agents/"+string(agent)+path, func(line string) {
			if line == "event: "+api.StreamHeartbeat {
				in.server.Stop()
			}
		})
		if err != nil || slices.Contains(got, "event: "+api.StreamDone) {
			t.Errorf("%s ended with %v:\n%s", path, err, strings.Join(got, "\n"))
		}
	}
	in.create("more")
}

// lines gives an answer's lines until it ends.
func (in *installation) lines(path string, each func(string)) (all []string, err error) {
	in.t.Helper()
	req, err := http.NewRequestWithContext(in.t.Context(), "GET", in.url+path, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+in.token)
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	defer http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		all = append(all, lines.Text())
		each(lines.Text())
	}
	return all, lines.Err()
}

// hideTable makes a table of the database unreadable until restore.
func (in *installation) hideTable(name string) (restore func()) {
	in.t.Helper()
	db, err := sql.Open("sqlite", in.database)
	if err != nil {
		in.t.Fatal(err)
	}
	rename := func(from, to string) {
		in.t.Helper()
		if _, err := db.ExecContext(in.t.Context(), "PRAGMA busy_timeout = 5000; ALTER TABLE "+from+" RENAME TO "+to); err != nil {
			in.t.Error(err)
		}
	}
	rename(name, "hidden")
	return func() {
		rename("hidden", name)
		db.Close()
	}
}

// A reader that does not read does not hold up the journal.
func TestSlowReader(t *testing.T) {
	in := install(t, nil)
	agent, run := in.create("go")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, "GET", in.url+"/v1/agents/"+string(agent)+"/journal", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+in.token)
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close() // never read from
	began := time.Now()
	for range 100 {
		in.tell(agent, run, errand.Fact{Kind: errand.EventNotice, Data: errand.Notice{Text: strings.Repeat("x", 200<<10)}})
	}
	if took := time.Since(began); took > 15*time.Second {
		t.Errorf("writing took %s", took)
	}
}
