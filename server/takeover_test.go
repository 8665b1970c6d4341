package server_test

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/api"
	"github.com/errand-dev/errand/auth"
)

// watch opens an agent's page, as the panel does, and gives who is told to be there
// at each change.
func (in *installation) watch(ctx context.Context, token string, agent errand.AgentID, query string) <-chan string {
	in.t.Helper()
	req, err := http.NewRequestWithContext(ctx, "GET", in.url+"/v1/agents/"+string(agent)+"/journal"+query, nil)
	if err != nil {
		in.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		in.t.Fatal(err)
	}
	told := make(chan string, 16)
	go func() {
		defer close(told)
		defer resp.Body.Close()
		of := ""
		for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
			if event, ok := strings.CutPrefix(lines.Text(), "event: "); ok {
				of = event
			}
			if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok && of == api.StreamPresence {
				told <- data
			}
		}
	}()
	return told
}

// TestPresence: two people who have the page open see each other come and go, and
// who only reads the journal is not seen.
func TestPresence(t *testing.T) {
	in := install(t, nil)
	agent, _ := in.create("go")
	grace, _, err := auth.Open(in.store).Create(t.Context(), auth.New{Name: "grace", Person: "Grace Hopper", Email: "grace@example.com"})
	if err != nil {
		t.Fatal(err)
	}
	wants := func(told <-chan string, want string) {
		t.Helper()
		last := ""
		for limit := time.After(20 * time.Second); last != want; {
			select {
			case data, ok := <-told:
				if !ok {
					t.Fatalf("the stream ended; last it told %q", last)
				}
				var p api.Presence
				if err := json.Unmarshal([]byte(data), &p); err != nil {
					t.Fatal(err)
				}
				var names []string
				for _, one := range p.People {
					names = append(names, one.Name+" "+one.Doing)
				}
				last = strings.Join(names, ", ")
			case <-limit:
				t.Fatalf("told %q last, want %q", last, want)
			}
		}
	}
	silent := in.watch(t.Context(), grace, agent, "")
	first := in.watch(t.Context(), in.token, agent, "?presence=true")
	wants(first, "Ada Lovelace watching")
	ctx, leave := context.WithCancel(t.Context())
	second := in.watch(ctx, grace, agent, "?presence=true")
	wants(second, "Ada Lovelace watching, Grace Hopper watching")
	wants(first, "Ada Lovelace watching, Grace Hopper watching")
	if p, err := in.client.Presence(t.Context(), agent); err != nil || len(p.People) != 2 {
		t.Errorf("presence is %+v, %v", p, err)
	}
	leave()
	wants(first, "Ada Lovelace watching")
	select {
	case data := <-silent:
		t.Errorf("who did not ask was told %s", data)
	default:
	}
}

// TestTakeoverRefusals: what cannot be taken over or handed back says why.
func TestTakeoverRefusals(t *testing.T) {
	in := install(t, nil)
	agent, _ := in.create("go")
	for path, code := range map[string]string{"/takeover": "machine_not_ready", "/handback": "agent_not_taken_over"} {
		got := in.ask("POST", "/v1/agents/"+string(agent)+path, "{}", nil)
		if got.status != http.StatusConflict || !strings.Contains(string(got.body), code) {
			t.Errorf("%s gave %d %s, want 409 %s", path, got.status, got.body, code)
		}
	}
	if got := in.ask("POST", "/v1/agents/"+string(agent)+"/handback", `{"note": "`+strings.Repeat("x", 70_000)+`"}`, nil); got.status != http.StatusBadRequest {
		t.Errorf("a note of 70,000 letters gave %d", got.status)
	}
}
