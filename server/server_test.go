package server_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/api"
	"github.com/errand-dev/errand/auth"
	"github.com/errand-dev/errand/client"
	"github.com/errand-dev/errand/egress"
	"github.com/errand-dev/errand/git"
	"github.com/errand-dev/errand/image"
	"github.com/errand-dev/errand/journal"
	"github.com/errand-dev/errand/llm"
	"github.com/errand-dev/errand/machine"
	"github.com/errand-dev/errand/runner"
	"github.com/errand-dev/errand/secret"
	"github.com/errand-dev/errand/server"
	"github.com/errand-dev/errand/setup"
	"github.com/errand-dev/errand/store"
	"github.com/errand-dev/errand/vault"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// noMachines is a driver on a host where nothing can be made.
type noMachines struct{}

func (noMachines) Create(context.Context, machine.ID, machine.Spec) (machine.Machine, error) {
	return nil, errors.New("no machines in this test")
}
func (noMachines) Open(context.Context, machine.Handle) (machine.Machine, error) {
	return nil, machine.ErrNotFound
}
func (noMachines) List(context.Context) ([]machine.Handle, error) { return nil, nil }

// installation is a server over real HTTP with the real runner, store and
// journal, on a host without machines.
type installation struct {
	t        *testing.T
	url      string
	token    string
	database string
	client   *client.Client
	journal  *journal.Journal
	store    *store.Store
	runner   *runner.Runner
	vault    *vault.Vault
	setups   *setup.Setups
	server   *server.Server
}

// install starts one. Its runner takes up no runs until work is called.
func install(t *testing.T, change func(*server.Options)) *installation {
	t.Helper()
	ctx, dir := t.Context(), t.TempDir()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	s, err := store.Open(ctx, filepath.Join(dir, "errand.db"))
	must(err)
	t.Cleanup(func() { s.Close() })
	mirrors, err := git.New(git.Options{Dir: filepath.Join(dir, "git")})
	must(err)
	t.Cleanup(func() { mirrors.Close() })
	images, err := image.Open(image.Options{Dir: filepath.Join(dir, "images")})
	must(err)
	t.Cleanup(func() { images.Close() })
	redactor := &secret.Redactor{}
	in := &installation{t: t, database: filepath.Join(dir, "errand.db"), store: s, journal: journal.New(s, redactor), vault: vault.Open(s, filepath.Join(dir, "secret.key"), "", nil)}
	in.runner, err = runner.Open(runner.Options{
		Dir: dir, Store: s, Journal: in.journal, Redactor: redactor, Vault: in.vault, Driver: noMachines{}, Images: images, Mirrors: mirrors,
		Gate:   egress.New(egress.Options{Private: []netip.Prefix{netip.MustParsePrefix("127.0.0.9/32")}}),
		Models: &runner.Models{Catalog: llm.NewCatalog().With(llm.Entry{ID: "scripted", Provider: "test", DisplayName: "Scripted"}), Default: "scripted", Providers: map[string]runner.Provider{"test": {New: func(llm.Entry) llm.Model { return nil }}}},
		Log:    slog.New(slog.DiscardHandler),
	})
	must(err)
	keys := auth.Open(s)
	in.token, _, err = keys.Create(ctx, auth.New{Name: "test", Person: "Ada Lovelace", Email: "ada@example.com"})
	must(err)
	in.setups = setup.New(setup.Options{Store: s, Journal: in.journal, Redactor: redactor, Runner: in.runner, Mirrors: mirrors, Log: slog.New(slog.DiscardHandler)})
	o := server.Options{Runner: in.runner, Vault: in.vault, Keys: keys, Setups: in.setups, Log: slog.New(slog.DiscardHandler), URL: "http://errand.example", Version: "test"}
	if change != nil {
		change(&o)
	}
	handler, err := server.New(o)
	must(err)
	in.server = handler
	web := httptest.NewServer(handler)
	t.Cleanup(web.Close)
	t.Cleanup(web.CloseClientConnections)
	in.url = web.URL
	in.client, err = client.New(client.Options{URL: web.URL, Key: in.token, HTTP: web.Client()})
	must(err)
	return in
}

// work lets the runner take up runs until the test ends.
func (in *installation) work() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- in.runner.Run(ctx) }()
	in.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			in.t.Error(err)
		}
	})
}

// create makes an agent and gives its ids.
func (in *installation) create(prompt string) (errand.AgentID, errand.RunID) {
	in.t.Helper()
	made, err := in.client.CreateAgent(in.t.Context(), api.CreateAgent{Prompt: api.Prompt{Text: prompt}}, "")
	if err != nil {
		in.t.Fatal(err)
	}
	return errand.AgentID(made.Agent.ID), errand.RunID(made.Run.ID)
}

// tell writes facts into a run's journal, as the runner would.
func (in *installation) tell(agent errand.AgentID, run errand.RunID, facts ...errand.Fact) {
	in.t.Helper()
	for _, f := range facts {
		if _, err := in.journal.Append(in.t.Context(), agent, run, f); err != nil {
			in.t.Fatal(err)
		}
	}
}

// answer is what came back from a request.
type answer struct {
	status int
	header http.Header
	body   []byte
}

func (a answer) code(t *testing.T) string {
	t.Helper()
	var e api.ErrorBody
	if err := json.Unmarshal(a.body, &e); err != nil {
		t.Fatalf("%d %s: %v", a.status, a.body, err)
	}
	return e.Error.Code
}

// ask sends a request with the key, changed by change.
func (in *installation) ask(method, path, body string, change func(*http.Request)) answer {
	in.t.Helper()
	req, err := http.NewRequestWithContext(in.t.Context(), method, in.url+path, strings.NewReader(body))
	if err != nil {
		in.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+in.token)
	if change != nil {
		change(req)
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		in.t.Fatal(err)
	}
	defer resp.Body.Close()
	all, err := io.ReadAll(resp.Body)
	if err != nil {
		in.t.Fatal(err)
	}
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	return answer{resp.StatusCode, resp.Header, all}
}

func TestLifeOfAnAgent(t *testing.T) {
	in, ctx := install(t, nil), t.Context()
	first, run := in.create("one\nmore words")
	second, _ := in.create("two")

	page, err := in.client.Agents(ctx, client.AgentQuery{Limit: 1, IncludeArchived: true})
	if err != nil || len(page.Items) != 1 || page.Items[0].ID != string(second) || page.NextCursor == "" {
		t.Fatalf("first page: %+v, %v", page, err)
	}
	page, err = in.client.Agents(ctx, client.AgentQuery{Limit: 1, Cursor: page.NextCursor, IncludeArchived: true})
	if err != nil || len(page.Items) != 1 || page.Items[0].ID != string(first) || page.NextCursor != "" {
		t.Fatalf("second page: %+v, %v", page, err)
	}
	if got := page.Items[0]; got.State != errand.RunQueued || got.Status != api.AgentActive || got.Name != "one" {
		t.Errorf("listed as %+v", got)
	}

	_, err = in.client.CreateRun(ctx, first, api.CreateRun{Prompt: api.Prompt{Text: "more"}}, "")
	if e := errand.AsError(err); e == nil || e.Kind != errand.Conflict || e.Code != "agent_busy" {
		t.Errorf("a follow-up to a busy agent gives %v", err)
	}
	follow, err := in.client.CreateRun(ctx, first, api.CreateRun{Prompt: api.Prompt{Text: "more"}, WhenBusy: api.BusyQueue}, "")
	if err != nil {
		t.Fatal(err)
	}
	runs, err := in.client.Runs(ctx, first, 0, "")
	if err != nil || len(runs.Items) != 2 || runs.Items[0].ID != follow.Run.ID || runs.Items[1].ID != string(run) {
		t.Errorf("runs: %+v, %v", runs, err)
	}
	for _, id := range []errand.RunID{run, errand.RunID(follow.Run.ID)} {
		if err := in.client.Cancel(ctx, first, id); err != nil {
			t.Errorf("cancelling: %v", err)
		}
		if e := errand.AsError(in.client.Cancel(ctx, first, id)); e == nil || e.Code != "run_not_cancellable" {
			t.Errorf("cancelling again gives %v", e)
		}
	}
	if got, err := in.client.Run(ctx, first, run); err != nil || got.Status != api.RunCancelled || got.DurationMs == nil || got.Prompt != "one\nmore words" {
		t.Errorf("the cancelled run: %+v, %v", got, err)
	}

	if err := in.client.Archive(ctx, first); err != nil {
		t.Fatal(err)
	}
	_, err = in.client.CreateRun(ctx, first, api.CreateRun{Prompt: api.Prompt{Text: "more"}}, "")
	if e := errand.AsError(err); e == nil || e.Code != "agent_archived" {
		t.Errorf("a follow-up to an archived agent gives %v", err)
	}
	page, err = in.client.Agents(ctx, client.AgentQuery{})
	if err != nil || len(page.Items) != 1 {
		t.Errorf("without archived ones: %+v, %v", page, err)
	}
	if err := in.client.Unarchive(ctx, first); err != nil {
		t.Fatal(err)
	}
	if err := in.client.Delete(ctx, first); err != nil {
		t.Fatal(err)
	}
	if _, err := in.client.Agent(ctx, first); errand.AsError(err).Code != "agent_not_found" {
		t.Errorf("a deleted agent gives %v", err)
	}
}

// What a host cannot do fails the run, in words, and not the request.
func TestFailedRun(t *testing.T) {
	in := install(t, nil)
	in.work()
	made, err := in.client.CreateAgent(t.Context(), api.CreateAgent{Prompt: api.Prompt{Text: "go"}, Image: "127.0.0.1:1/app:1"}, "")
	if err != nil {
		t.Fatal(err)
	}
	agent, run := errand.AgentID(made.Agent.ID), errand.RunID(made.Run.ID)
	for e, err := range in.client.Follow(t.Context(), agent, 0) {
		if err != nil {
			t.Fatal(err)
		}
		var d errand.RunStatusData
		if e.Kind == errand.EventRunStatus && json.Unmarshal(e.Data, &d) == nil && d.Status.Ended() {
			break
		}
	}
	got, err := in.client.Run(t.Context(), agent, run)
	if err != nil {
		t.Fatal(err)
	}
	if got.Status != api.RunError || got.Error == nil || !strings.Contains(got.Error.Message, "127.0.0.1:1/app:1") {
		t.Errorf("the run: %+v, error %+v", got, got.Error)
	}
}

func TestIdempotency(t *testing.T) {
	in, ctx := install(t, nil), t.Context()
	req := api.CreateAgent{Prompt: api.Prompt{Text: "go"}}
	one, err := in.client.CreateAgent(ctx, req, "k1")
	if err != nil {
		t.Fatal(err)
	}
	again, err := in.client.CreateAgent(ctx, req, "k1")
	if err != nil || again.Agent.ID != one.Agent.ID || again.Run.ID != one.Run.ID {
		t.Errorf("the same key gave %s and %s, %v", one.Agent.ID, again.Agent.ID, err)
	}
	other, err := in.client.CreateAgent(ctx, req, "k2")
	if err != nil || other.Agent.ID == one.Agent.ID {
		t.Errorf("another key gave the same agent, %v", err)
	}
	follow := api.CreateRun{Prompt: api.Prompt{Text: "more"}, WhenBusy: "queue"}
	run, err := in.client.CreateRun(ctx, errand.AgentID(one.Agent.ID), follow, "k3")
	if err != nil {
		t.Fatal(err)
	}
	if again, err := in.client.CreateRun(ctx, errand.AgentID(one.Agent.ID), follow, "k3"); err != nil || again.Run.ID != run.Run.ID {
		t.Errorf("the same key gave run %s and %s, %v", run.Run.ID, again.Run.ID, err)
	}
	// A key that is sent with something else swallows nothing.
	refused := func(what string, err error) {
		t.Helper()
		if e := errand.AsError(err); e == nil || e.Code != "idempotency_key_reused" {
			t.Errorf("%s: %v, want idempotency_key_reused", what, err)
		}
	}
	_, err = in.client.CreateRun(ctx, errand.AgentID(other.Agent.ID), follow, "k3")
	refused("a follow-up of another agent", err)
	_, err = in.client.CreateRun(ctx, errand.AgentID(one.Agent.ID), follow, "k1")
	refused("a follow-up with the key of the create", err)
	_, err = in.client.CreateAgent(ctx, req, "k3")
	refused("a create with the key of a follow-up", err)
}

// A follow-up chooses the model from then on, and is told what it cannot choose.
func TestFollowUpChooses(t *testing.T) {
	in, ctx := install(t, nil), t.Context()
	agent, _ := in.create("go")
	follow := api.CreateRun{Prompt: api.Prompt{Text: "more"}, WhenBusy: "queue", Model: &api.ModelRef{ID: "scripted", Params: []api.ModelParam{{ID: "effort", Value: "low"}}}}
	run, err := in.client.CreateRun(ctx, agent, follow, "")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := in.client.Agent(ctx, agent); err != nil || !cmp.Equal(got.Model, follow.Model) {
		t.Errorf("the agent's model is %+v, %v", got.Model, err)
	}
	events, err := in.journal.All(ctx, agent)
	if err != nil {
		t.Fatal(err)
	}
	var queued errand.RunQueuedData
	if last := events[len(events)-1]; string(last.Run) != run.Run.ID || json.Unmarshal(last.Data, &queued) != nil || queued.Model == nil || queued.Model.Params["effort"] != "low" {
		t.Errorf("the last event is %s %s", last.Kind, last.Data)
	}
	for body, code := range map[string]string{
		`{"prompt":{"text":"x"},"whenBusy":"queue","model":{"id":"nope"}}`:    "invalid_model",
		`{"prompt":{"text":"x"},"whenBusy":"queue","envVars":{"NAME":"val"}}`: "not_implemented",
	} {
		a := in.ask("POST", "/v1/agents/"+string(agent)+"/runs", body, func(r *http.Request) { r.Header.Set("Content-Type", "application/json") })
		if a.status != 400 || a.code(t) != code {
			t.Errorf("%s: %d %s", body, a.status, a.body)
		}
	}
}

func TestBadRequests(t *testing.T) {
	in := install(t, nil)
	agent, run := in.create("go")
	id, unknown := string(agent), "bc-00000000-0000-0000-0000-000000000001"
	long := strings.Repeat("x", 2<<20)
	for name, c := range map[string]struct {
		method, path, body string
		status             int
		code               string
	}{
		"no body":            {"POST", "/v1/agents", "", 400, "missing_body"},
		"not JSON":           {"POST", "/v1/agents", "{", 400, "validation_error"},
		"no prompt":          {"POST", "/v1/agents", `{}`, 400, "validation_error"},
		"empty prompt":       {"POST", "/v1/agents", `{"prompt":{"text":""}}`, 400, "validation_error"},
		"wrong type":         {"POST", "/v1/agents", `{"prompt":"go"}`, 400, "validation_error"},
		"unknown mode":       {"POST", "/v1/agents", `{"prompt":{"text":"go"},"mode":"yolo"}`, 400, "validation_error"},
		"unknown model":      {"POST", "/v1/agents", `{"prompt":{"text":"go"},"model":{"id":"nope"}}`, 400, "invalid_model"},
		"long name":          {"POST", "/v1/agents", `{"prompt":{"text":"go"},"name":"` + strings.Repeat("x", 101) + `"}`, 400, "validation_error"},
		"taken id":           {"POST", "/v1/agents", `{"prompt":{"text":"go"},"agentId":"` + id + `"}`, 409, "agent_id_conflict"},
		"path as id":         {"GET", "/v1/agents/..%2f..%2fetc", "", 400, "validation_error"},
		"id of other form":   {"GET", "/v1/agents/42", "", 400, "validation_error"},
		"unknown agent":      {"GET", "/v1/agents/" + unknown, "", 404, "agent_not_found"},
		"unknown run":        {"GET", "/v1/agents/" + id + "/runs/run-00000000-0000-0000-0000-000000000001", "", 404, "run_not_found"},
		"run of another":     {"GET", "/v1/agents/" + unknown + "/runs/" + string(run), "", 404, "agent_not_found"},
		"limit of zero":      {"GET", "/v1/agents?limit=0", "", 400, "validation_error"},
		"limit over 100":     {"GET", "/v1/agents?limit=101", "", 400, "validation_error"},
		"bad cursor":         {"GET", "/v1/agents?cursor=x", "", 400, "validation_error"},
		"large follow-up":    {"POST", "/v1/agents/" + id + "/archive", long, 200, ""},
		"usage of no run":    {"GET", "/v1/agents/" + id + "/usage?runId=run-00000000-0000-0000-0000-000000000001", "", 404, "run_not_found"},
		"unknown path":       {"GET", "/v1/nothing", "", 404, "not_found"},
		"root":               {"GET", "/", "", 404, "not_found"},
		"stream of no run":   {"GET", "/v1/agents/" + id + "/runs/run-00000000-0000-0000-0000-000000000001/stream", "", 404, "run_not_found"},
		"journal of nobody":  {"GET", "/v1/agents/" + unknown + "/journal", "", 404, "agent_not_found"},
		"events of nobody":   {"GET", "/v1/agents/" + unknown + "/events", "", 404, "agent_not_found"},
		"diff of no work":    {"GET", "/v1/agents/" + id + "/diff", "", 404, "no_diff"},
		"exec by hand":       {"GET", "/v1/agents/" + id + "/exec", "", 400, "validation_error"},
		"no such engine":     {"POST", "/v1/agents", `{"prompt":{"text":"go"},"engine":"docker"}`, 400, "validation_error"},
		"later fields":       {"POST", "/v1/agents", `{"prompt":{"text":"go","x":1},"y":{"z":[]}}`, 201, ""},
		"a picture of words": {"POST", "/v1/agents", `{"prompt":{"text":"go","images":[{"data":"aGVsbG8=","mimeType":"image/png"}]}}`, 400, "validation_error"},
	} {
		a := in.ask(c.method, c.path, c.body, nil)
		if a.status != c.status {
			t.Errorf("%s: %d %s, want %d", name, a.status, a.body, c.status)
			continue
		}
		if c.code != "" {
			if got := a.code(t); got != c.code {
				t.Errorf("%s: code %s, want %s (%s)", name, got, c.code, a.body)
			}
			if ct := a.header.Get("Content-Type"); ct != "application/json" {
				t.Errorf("%s: the error's type is %q", name, ct)
			}
		}
	}
	if a := in.ask("POST", "/v1/agents", `{"prompt":{"text":"go"},"model":{"id":"nope"}}`, nil); !bytes.Contains(a.body, []byte("Model 'nope' is not available")) {
		t.Errorf("clients look for other words than %s", a.body)
	}
}

func TestLargeBodies(t *testing.T) {
	in := install(t, nil)
	agent, _ := in.create("go")
	limit := api.MaxImages*(api.MaxImageBytes/3+1)*4 + 1<<20
	if a := in.ask("POST", "/v1/agents/"+string(agent)+"/runs", strings.Repeat(" ", limit+1), nil); a.status != 413 || a.code(t) != "validation_error" {
		t.Errorf("an endless body gives %d %.200s", a.status, a.body)
	}
	long := `{"prompt":{"text":"` + strings.Repeat("x", api.MaxPromptBytes+1) + `"}}`
	if a := in.ask("POST", "/v1/agents", long, nil); a.status != 413 || a.code(t) != "validation_error" || !bytes.Contains(a.body, []byte("prompt.text has 1048577 bytes")) {
		t.Errorf("an endless prompt gives %d %.200s", a.status, a.body)
	}
}

func TestKeysAreWanted(t *testing.T) {
	in := install(t, nil)
	for name, change := range map[string]func(*http.Request){
		"none":         func(r *http.Request) { r.Header.Del("Authorization") },
		"another":      func(r *http.Request) { r.Header.Set("Authorization", "Bearer errand_"+strings.Repeat("a", 40)) },
		"in the URL":   func(r *http.Request) { r.Header.Del("Authorization"); r.URL.RawQuery = "key=" + in.token },
		"as a cookie":  func(r *http.Request) { r.Header.Del("Authorization"); r.Header.Set("Cookie", "key="+in.token) },
		"another type": func(r *http.Request) { r.Header.Set("Authorization", "Digest "+in.token) },
	} {
		for _, path := range []string{"/v1/agents", "/v1/me", "/v1/health", "/v1/agents/x/journal", "/v1/agents/x/exec", "/nothing"} {
			if a := in.ask("GET", path, "", change); a.status != 401 || a.code(t) != "unauthorized" {
				t.Errorf("key %s: GET %s gives %d %s", name, path, a.status, a.body)
			}
		}
	}
	a := in.ask("GET", "/v1/me", "", func(r *http.Request) { r.SetBasicAuth(in.token, "") })
	var me api.Me
	if err := json.Unmarshal(a.body, &me); err != nil || me.APIKeyName != "test" || me.UserFirstName != "Ada" || me.UserLastName != "Lovelace" || me.UserEmail != "ada@example.com" {
		t.Errorf("by Basic: %d %s", a.status, a.body)
	}
	for _, path := range []string{"/healthz", "/openapi.json", "/schemas/environment.schema.json"} {
		if a := in.ask("GET", path, "", func(r *http.Request) { r.Header.Del("Authorization") }); a.status != 200 {
			t.Errorf("%s without a key gives %d", path, a.status)
		}
	}
}

func TestBrowsers(t *testing.T) {
	in := install(t, nil)
	header := func(name, value string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set(name, value) }
	}
	for name, c := range map[string]struct {
		change func(*http.Request)
		status int
	}{
		"a foreign page":        {header("Origin", "https://evil.example"), 403},
		"a page without origin": {header("Origin", "null"), 403},
		"cross-site":            {header("Sec-Fetch-Site", "cross-site"), 403},
		"same site":             {header("Sec-Fetch-Site", "same-site"), 403},
		"our page":              {header("Origin", in.url), 200},
		"our public page":       {header("Origin", "http://errand.example"), 200},
		"same origin":           {header("Sec-Fetch-Site", "same-origin"), 200},
		"a bent name":           {func(r *http.Request) { r.Host = "evil.example" }, 403},
		"our public name":       {func(r *http.Request) { r.Host = "errand.example" }, 200},
		"localhost":             {func(r *http.Request) { r.Host = "localhost:1" }, 200},
		"an address":            {func(r *http.Request) { r.Host = "[::1]:7070" }, 200},
	} {
		a := in.ask("GET", "/v1/me", "", c.change)
		if a.status != c.status {
			t.Errorf("%s: %d %s, want %d", name, a.status, a.body, c.status)
		}
		if got := a.header.Get("Access-Control-Allow-Origin"); got != "" {
			t.Errorf("%s: CORS allows %s", name, got)
		}
		if a.header.Get("X-Content-Type-Options") != "nosniff" || a.header.Get("Content-Security-Policy") == "" {
			t.Errorf("%s: security headers are missing: %v", name, a.header)
		}
	}
}

func TestRate(t *testing.T) {
	in := install(t, func(o *server.Options) { o.Rate = 3 })
	for i := range 3 {
		if a := in.ask("GET", "/v1/me", "", nil); a.status != 200 || a.header.Get("X-RateLimit-Limit") != "3" || a.header.Get("X-RateLimit-Remaining") != []string{"2", "1", "0"}[i] {
			t.Errorf("request %d: %d %v", i, a.status, a.header)
		}
	}
	a := in.ask("GET", "/v1/me", "", nil)
	if a.status != 429 || a.code(t) != "rate_limit_exceeded" || a.header.Get("Retry-After") == "" || a.header.Get("X-RateLimit-Reset") == "" {
		t.Errorf("the fourth: %d %v %s", a.status, a.header, a.body)
	}
}

func TestPicturesFromTheWeb(t *testing.T) {
	in := install(t, nil)
	png := "\x89PNG\r\n\x1a\n and then some"
	web := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/a.png":
			io.WriteString(w, png)
		case "/page":
			io.WriteString(w, "<html>")
		case "/endless":
			io.WriteString(w, png)
			for range 17 {
				w.Write(make([]byte, 1<<20))
			}
		case "/away":
			http.Redirect(w, r, strings.Replace("http://"+r.Host, "127.0.0.9", "127.0.0.1", 1)+"/a.png", http.StatusFound)
		default:
			http.NotFound(w, r)
		}
	}))
	l, err := new(netListen).on(t.Context(), "127.0.0.9:0")
	if err != nil {
		t.Fatal(err)
	}
	web.Listener.Close()
	web.Listener = l
	web.Start()
	defer web.Close()
	port := web.URL[strings.LastIndex(web.URL, ":"):]
	create := func(url string) error {
		_, err := in.client.CreateAgent(t.Context(), api.CreateAgent{Prompt: api.Prompt{Text: "go", Images: []api.Image{{URL: url}}}}, "")
		return err
	}
	if err := create("http://127.0.0.9" + port + "/a.png"); err != nil {
		t.Errorf("a picture: %v", err)
	}
	for url, want := range map[string]string{
		"http://127.0.0.9" + port + "/page":       "not a PNG",
		"http://127.0.0.9" + port + "/missing":    "404",
		"http://127.0.0.9" + port + "/endless":    "15 MB",
		"http://127.0.0.9" + port + "/away":       "loopback",
		"http://127.0.0.1" + port + "/a.png":      "loopback",
		"http://localhost" + port + "/a.png":      "cannot be fetched",
		"http://169.254.169.254/latest/meta-data": "metadata",
		"http://[::ffff:127.0.0.1]/a.png":         "loopback",
		"http://10.0.0.1/a.png":                   "private",
	} {
		err := create(url)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", url, err, want)
		}
	}
}

func TestEvents(t *testing.T) {
	in, ctx := install(t, nil), t.Context()
	agent, run := in.create("go")
	for range 30 {
		in.tell(agent, run, errand.Fact{Kind: errand.EventNotice, Data: errand.Notice{Level: "info", Text: "hi"}})
	}
	page, err := in.client.Events(ctx, agent, 0, 10)
	if err != nil || len(page.Items) != 10 || page.Next != 10 {
		t.Fatalf("a page: %d items, next %d, %v", len(page.Items), page.Next, err)
	}
	var all []errand.Seq
	for e, err := range in.client.AllEvents(ctx, agent, 5) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, e.Seq)
	}
	if len(all) != 27 || all[0] != 6 || all[26] != 32 {
		t.Errorf("all after 5: %v", all)
	}
	a := in.ask("GET", "/v1/agents/"+string(agent)+"/journal?follow=false", "", func(r *http.Request) { r.Header.Set("Last-Event-ID", "30") })
	if got := strings.Count(string(a.body), "\nevent: notice\n"); got != 2 || !strings.Contains(string(a.body), "event: done") {
		t.Errorf("the end of the journal: %s", a.body)
	}
	if a := in.ask("GET", "/v1/agents/"+string(agent)+"/journal", "", func(r *http.Request) { r.Header.Set("Last-Event-ID", "x") }); a.status != 400 || a.code(t) != "invalid_last_event_id" {
		t.Errorf("a bad id: %d %s", a.status, a.body)
	}
}

// A follower sees each event once, whatever happens to its connections.
func TestFollowReconnects(t *testing.T) {
	in := install(t, nil)
	agent, run := in.create("go")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	proxy := cutter(t, in.url)
	c, err := client.New(client.Options{URL: proxy, Key: in.token})
	if err != nil {
		t.Fatal(err)
	}
	const last = 60
	go func() {
		for range last - 2 {
			in.journal.Append(ctx, agent, run, errand.Fact{Kind: errand.EventNotice, Data: errand.Notice{Text: strings.Repeat("x", 200)}})
		}
	}()
	var got, want []errand.Seq
	for e, err := range c.Follow(ctx, agent, 0) {
		if err != nil {
			t.Fatal(err)
		}
		if got = append(got, e.Seq); e.Seq == last {
			break
		}
	}
	for n := range errand.Seq(last) {
		want = append(want, n+1)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestDeletedAgentEndsFollowers(t *testing.T) {
	in := install(t, nil)
	agent, _ := in.create("go")
	seen := make(chan struct{})
	done := make(chan error, 1)
	go func() {
		for _, err := range in.client.Follow(t.Context(), agent, 0) {
			if err != nil {
				done <- err
				return
			}
			select {
			case <-seen:
			default:
				close(seen)
			}
		}
		done <- nil
	}()
	<-seen
	if err := in.client.Delete(t.Context(), agent); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Errorf("following a deleted agent ends with %v", err)
	}
}

func TestExecWithoutMachine(t *testing.T) {
	in := install(t, nil)
	agent, _ := in.create("go")
	for name, start := range map[string]api.ExecStart{"a command": {Args: []string{"true"}}, "none": {}} {
		_, err := in.client.Exec(t.Context(), agent, start, client.ExecIO{Stdin: strings.NewReader("x"), Stdout: io.Discard, Stderr: io.Discard})
		if e := errand.AsError(err); e == nil || (e.Kind != errand.NotFound && e.Kind != errand.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := in.client.Exec(t.Context(), errand.NewAgentID(), api.ExecStart{Args: []string{"true"}}, client.ExecIO{}); errand.KindOf(err) != errand.NotFound {
		t.Errorf("an unknown agent: %v", err)
	}
	if all, err := in.client.Terminals(t.Context(), agent); err != nil || len(all.Items) != 0 {
		t.Errorf("terminals: %v, %v", all, err)
	}
}

func TestHealth(t *testing.T) {
	in := install(t, nil)
	in.create("go")
	h, err := in.client.Health(t.Context())
	if err != nil || h.Runs[errand.RunQueued] != 1 || h.RunsMost == 0 || h.Models == 0 || h.Version != "test" {
		t.Errorf("%+v, %v", h, err)
	}
}

// TestExecBehindProxy connects as our page does where a proxy in front calls the
// server by another name, and as a page from elsewhere.
func TestExecBehindProxy(t *testing.T) {
	for _, public := range []string{"https://errand.example", "https://[2001:db8::1]:8443"} {
		in := install(t, func(o *server.Options) { o.URL = public })
		agent, _ := in.create("go")
		for origin, status := range map[string]int{public: http.StatusSwitchingProtocols, "https://evil.example": http.StatusForbidden} {
			conn, resp, err := websocket.Dial(t.Context(), in.url+"/v1/agents/"+string(agent)+"/terminals/shell", &websocket.DialOptions{
				Subprotocols: []string{api.ExecProtocol}, HTTPHeader: http.Header{"Authorization": {"Bearer " + in.token}, "Origin": {origin}},
			})
			if conn != nil {
				conn.CloseNow()
			}
			if resp == nil || resp.StatusCode != status {
				t.Errorf("from %s to %s: %v, want %d", origin, public, err, status)
			}
		}
	}
}
