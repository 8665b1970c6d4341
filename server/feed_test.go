package server_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/api"
	"github.com/errand-dev/errand/journal"
)

// changes follows the list of agents from since on, until the test ends.
func (in *installation) changes(since string) <-chan api.AgentChange {
	in.t.Helper()
	ctx, cancel := context.WithCancel(in.t.Context())
	req, err := http.NewRequestWithContext(ctx, "GET", in.url+"/v1/agents/changes", nil)
	if err != nil {
		in.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+in.token)
	if since != "" {
		req.Header.Set("Last-Event-ID", since)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		in.t.Fatal(err)
	}
	if resp.StatusCode != 200 {
		in.t.Fatalf("following agents gave %d", resp.StatusCode)
	}
	c, done := make(chan api.AgentChange, 100), make(chan struct{})
	go func() {
		defer close(done)
		for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
			data, ok := strings.CutPrefix(lines.Text(), "data: ")
			var m api.AgentChange
			if ok && json.Unmarshal([]byte(data), &m) == nil && m != (api.AgentChange{}) {
				select {
				case c <- m:
				case <-ctx.Done():
				}
			}
		}
	}()
	in.t.Cleanup(func() { cancel(); resp.Body.Close(); <-done })
	return c
}

// until waits for a change that is what ok wants.
func until(t *testing.T, changes <-chan api.AgentChange, ok func(api.AgentChange) bool) {
	t.Helper()
	for deadline := time.After(20 * time.Second); ; {
		select {
		case m := <-changes:
			if ok(m) {
				return
			}
		case <-deadline:
			t.Fatal("no such change came")
		}
	}
}

func TestChanges(t *testing.T) {
	in := install(t, nil)
	early, _ := in.create("early")
	before := fmt.Sprint(time.Now().Add(-time.Minute).UnixMilli())
	first, second := in.changes(before), in.changes("")
	isLine := func(id errand.AgentID, line string) func(api.AgentChange) bool {
		return func(m api.AgentChange) bool {
			return m.Agent != nil && m.Agent.ID == string(id) && m.Agent.Glance.Line == line
		}
	}
	until(t, first, func(m api.AgentChange) bool { return m.Agent != nil && m.Agent.ID == string(early) })
	id, run := in.create("count")
	until(t, second, func(m api.AgentChange) bool {
		return m.Agent != nil && m.Agent.ID == string(id) && m.Agent.State == errand.RunQueued
	})
	tell := func(facts ...errand.Fact) {
		t.Helper()
		if _, err := in.journal.Decide(t.Context(), func(tx *journal.Tx) error { return tx.Tell(id, run, facts...) }); err != nil {
			t.Fatal(err)
		}
	}
	tell(errand.Fact{Kind: errand.EventText, Data: errand.TextData{Text: "I will look.\nThen mend."}})
	until(t, first, isLine(id, "Then mend."))
	tell(errand.Fact{Kind: errand.EventToolCalled, Data: errand.ToolCalled{Name: "run_terminal_cmd", Args: []byte(`{"command":"go  test\n./..."}`)}})
	until(t, second, isLine(id, "run_terminal_cmd go test ./..."))
	if a := in.ask("DELETE", "/v1/agents/"+string(early), "", nil); a.status != 200 {
		t.Fatalf("deleting gave %d", a.status)
	}
	for _, c := range []<-chan api.AgentChange{first, second} {
		until(t, c, func(m api.AgentChange) bool { return m.Removed == string(early) })
	}
	var page api.Agents
	a := in.ask("GET", "/v1/agents?glance=true", "", nil)
	if err := json.Unmarshal(a.body, &page); err != nil || len(page.Items) != 1 || page.Items[0].Glance.Line != "run_terminal_cmd go test ./..." {
		t.Errorf("the list is %s, %v", a.body, err)
	}
	var one api.Agent
	a = in.ask("GET", "/v1/agents/"+string(id)+"?glance=true", "", nil)
	if err := json.Unmarshal(a.body, &one); err != nil || one.Glance == nil || one.Glance.Line != "run_terminal_cmd go test ./..." {
		t.Errorf("the agent is %s, %v", a.body, err)
	}
	if a := in.ask("GET", "/v1/agents/"+string(id), "", nil); strings.Contains(string(a.body), "glance") {
		t.Errorf("an agent that was not asked for a glance has one: %s", a.body)
	}
	if a := in.ask("GET", "/v1/agents", "", nil); strings.Contains(string(a.body), "glance") {
		t.Errorf("a list that did not ask for glances has them: %s", a.body)
	}
	if a := in.ask("GET", "/v1/agents/changes?since=yesterday", "", nil); a.status != 400 {
		t.Errorf("a wrong time gave %d", a.status)
	}
}
