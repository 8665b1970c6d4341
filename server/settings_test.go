package server_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/api"
	"github.com/errand-dev/errand/llm"
	"github.com/errand-dev/errand/runner"
	"github.com/errand-dev/errand/server"
	"github.com/errand-dev/errand/store"
)

// answered gives the JSON of an answer with this status.
func answered[T any](t *testing.T, a answer, status int) (out T) {
	t.Helper()
	if a.status != status {
		t.Fatalf("got %d, want %d: %s", a.status, status, a.body)
	}
	if err := json.Unmarshal(a.body, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestKeys(t *testing.T) {
	in := install(t, nil)
	made := answered[api.CreatedKey](t, in.ask("POST", "/v1/keys", `{"name":"laptop","person":"Grace","email":"grace@example.com"}`, nil), 201)
	with := func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+made.Token) }
	if me := answered[api.Me](t, in.ask("GET", "/v1/me", "", with), 200); me.APIKeyName != "laptop" || me.UserEmail != "grace@example.com" {
		t.Errorf("the new key is %+v", me)
	}
	if a := in.ask("POST", "/v1/keys", `{"name":"laptop"}`, nil); a.status != 409 || a.code(t) != "key_name_conflict" {
		t.Errorf("a second key of the name: %d %s", a.status, a.body)
	}
	if a := in.ask("POST", "/v1/keys", `{"name":"x","person":"only"}`, nil); a.status != 400 {
		t.Errorf("half a person: %d %s", a.status, a.body)
	}
	a := in.ask("GET", "/v1/keys?limit=1", "", with)
	page := answered[api.Keys](t, a, 200)
	if len(page.Items) != 1 || page.Items[0].ID != made.ID || !page.Items[0].Own || page.Items[0].UsedAt == nil || page.NextCursor == "" {
		t.Errorf("the first page is %s", a.body)
	}
	if strings.Contains(string(a.body), made.Token[8:]) || strings.Contains(string(a.body), "hash") {
		t.Errorf("the list tells tokens: %s", a.body)
	}
	rest := answered[api.Keys](t, in.ask("GET", "/v1/keys?limit=1&cursor="+page.NextCursor, "", nil), 200)
	if len(rest.Items) != 1 || rest.Items[0].Name != "test" || !rest.Items[0].Own || rest.NextCursor != "" {
		t.Errorf("the second page is %+v", rest)
	}
	for range 2 {
		answered[api.ID](t, in.ask("DELETE", "/v1/keys/"+made.ID, "", nil), 200)
	}
	if a := in.ask("GET", "/v1/me", "", with); a.status != 401 {
		t.Errorf("a revoked key gets %d", a.status)
	}
	if a := in.ask("DELETE", "/v1/keys/none", "", nil); a.status != 404 || a.code(t) != "api_key_not_found" {
		t.Errorf("revoking no key: %d %s", a.status, a.body)
	}
	if a := in.ask("GET", "/v1/keys?cursor=x", "", nil); a.status != 400 {
		t.Errorf("a wrong cursor: %d", a.status)
	}
}

// said is a model that answers as it is told.
type saidModel func() (*llm.Response, error)

func (m saidModel) Do(context.Context, *llm.Request, func(llm.Delta)) (*llm.Response, error) {
	return m()
}

func TestTryModel(t *testing.T) {
	in := install(t, nil)
	in.runner.Redactor.Add("sk-secret-of-the-provider")
	answer := saidModel(func() (*llm.Response, error) {
		return &llm.Response{Model: "scripted-1", Blocks: []llm.Block{{Type: llm.Thinking, Text: "hm"}, {Type: llm.Text, Text: "ready sk-secret-of-the-provider"}}, Usage: errand.Usage{Input: 10, Output: 2}}, nil
	})
	refuse := saidModel(func() (*llm.Response, error) {
		return nil, &llm.Error{Provider: "test", Cause: llm.Denied, Status: 401, Message: "invalid x-api-key"}
	})
	prices := llm.Prices{Input: 2, Output: 10, CacheRead: 1, CacheWrite: 3}
	in.runner.Models.Catalog = in.runner.Models.Catalog.With(
		llm.Entry{ID: "good", Provider: "test", Prices: prices}, llm.Entry{ID: "bad", Provider: "test"}, llm.Entry{ID: "missing", Provider: "unset"})
	in.runner.Models.Providers["unset"] = runner.Provider{Missing: "UNSET_API_KEY", New: func(llm.Entry) llm.Model { return refuse }}
	in.runner.Models.Providers["test"] = runner.Provider{
		Settings: []runner.ProviderSetting{{Name: "TEST_API_KEY", Set: true}},
		New: func(e llm.Entry) llm.Model {
			if e.ID == "good" {
				return answer
			}
			return refuse
		},
	}
	got := answered[api.ModelTrial](t, in.ask("POST", "/v1/models/test", `{"model":"good"}`, nil), 200)
	got.Ms = 0
	want := api.ModelTrial{Model: "good", OK: true, Named: "scripted-1", Text: "ready [REDACTED]", Usage: api.Usage{InputTokens: 10, OutputTokens: 2, TotalTokens: 12}, CostCents: 0.004}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	bad := answered[api.ModelTrial](t, in.ask("POST", "/v1/models/test", `{"model":"bad"}`, nil), 200)
	if bad.OK || bad.Error == nil || bad.Error.Cause != "denied" || bad.Error.Status != 401 || bad.Error.Message != "invalid x-api-key" || !strings.Contains(bad.Error.Advice, "TEST_API_KEY") {
		t.Errorf("a model whose key is refused gives %+v", bad.Error)
	}
	for _, model := range []string{"missing", "unknown"} {
		if a := in.ask("POST", "/v1/models/test", `{"model":"`+model+`"}`, nil); a.status != 400 || a.code(t) != "invalid_model" {
			t.Errorf("%s: %d %s", model, a.status, a.body)
		}
	}
	// What it used is counted.
	u := answered[api.UsageOver](t, in.ask("GET", "/v1/usage?by=person", "", nil), 200)
	if len(u.Items) != 1 || u.Items[0].Name != "ada@example.com" || u.Total.Usage.TotalTokens != 12 || u.Total.CostCents != 0.004 {
		t.Errorf("usage is %+v", u)
	}
}

func TestSettings(t *testing.T) {
	in := install(t, func(o *server.Options) {
		o.Flags = []api.Flag{{Name: "runs", Usage: "runs at once", Value: "8", Set: true}, {Name: "idle", Usage: "stop"}}
	})
	in.runner.Models.Providers["test"] = runner.Provider{Settings: []runner.ProviderSetting{{Name: "A_KEY", Set: true}, {Name: "A_BASE_URL", Set: true, Value: "http://127.0.0.1:9"}}}
	got := answered[api.Settings](t, in.ask("GET", "/v1/settings", "", nil), 200)
	want := api.Settings{
		Flags: []api.Flag{{Name: "runs", Usage: "runs at once", Value: "8", Set: true}, {Name: "idle", Usage: "stop"}},
		Providers: []api.Provider{{Name: "test", Usable: true, Settings: []api.Variable{
			{Name: "A_KEY", Set: true}, {Name: "A_BASE_URL", Set: true, Value: "http://127.0.0.1:9"}}}},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestUsageOverTime(t *testing.T) {
	in := install(t, nil)
	var today time.Time
	if err := in.store.Write(t.Context(), func(tx *store.Tx) error {
		today = tx.Now()
		of := errand.UsageOf{Model: "m", Repository: "r", Person: "p"}
		return tx.AddUsage(of, errand.Spent{Usage: errand.Usage{Input: 3, CacheRead: 4}, Cost: 25_000_000, Machine: time.Millisecond})
	}); err != nil {
		t.Fatal(err)
	}
	for _, by := range []string{"model", "repository", "person"} {
		for _, unit := range []string{"day", "week"} {
			u := answered[api.UsageOver](t, in.ask("GET", "/v1/usage?by="+by+"&unit="+unit, "", nil), 200)
			start := today
			if unit == "week" {
				start = today.AddDate(0, 0, -(int(today.Weekday())+6)%7)
			}
			if len(u.Items) != 1 || u.Items[0].Name != by[:1] || u.Items[0].Start != start.Format(time.DateOnly) || u.Items[0].Usage.TotalTokens != 7 ||
				u.Total.CostCents != 2.5 || u.Total.MachineMs != 1 {
				t.Errorf("by %s, %s: %+v", by, unit, u)
			}
		}
	}
	for _, q := range []string{"by=color", "unit=year", "from=yesterday", "from=2020-01-01&to=2026-01-01", "from=2026-01-02&to=2026-01-01", "most=51", "unit=week&from=2020-01-01&to=2026-01-01"} {
		if a := in.ask("GET", "/v1/usage?"+q, "", nil); a.status != 400 {
			t.Errorf("%s: %d %s", q, a.status, a.body)
		}
	}
}

// TestUsageOfTheDeleted: what an agent used stays when it is deleted, and its
// machine's time up to then is counted.
func TestUsageOfTheDeleted(t *testing.T) {
	in := install(t, nil)
	id, _ := in.create("go")
	if err := in.store.Write(t.Context(), func(tx *store.Tx) error {
		if err := tx.PutMachine(store.Machine{ID: "m-" + strings.ReplaceAll(string(id[3:]), "-", ""), Agent: id, State: store.MachineWanted, Boot: "b"}); err != nil {
			return err
		}
		return tx.StartMeter(id, true)
	}); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", in.database)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.ExecContext(t.Context(), "PRAGMA busy_timeout = 5000; UPDATE machines SET metered_at = metered_at - 3600000"); err != nil {
		t.Fatal(err)
	}
	answered[api.ID](t, in.ask("DELETE", "/v1/agents/"+string(id), "", nil), 200)
	u := answered[api.UsageOver](t, in.ask("GET", "/v1/usage?by=model", "", nil), 200)
	if hour := time.Hour.Milliseconds(); u.Total.MachineMs < hour || u.Total.MachineMs > hour+60_000 || u.Items[0].Name != "scripted" {
		t.Errorf("usage is %+v", u)
	}
}
