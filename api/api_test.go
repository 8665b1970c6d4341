package api_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/api"
)

var png = []byte("\x89PNG\r\n\x1a\n and then some")

func TestRequests(t *testing.T) {
	many := map[string]string{}
	for i := range 51 {
		many["V"+strings.Repeat("x", i)] = "1"
	}
	prompt := `"prompt":{"text":"go"}`
	for name, c := range map[string]struct {
		body string
		want string // part of the error's message; "" is none
	}{
		"the least":           {`{` + prompt + `}`, ""},
		"a later field":       {`{` + prompt + `,"metadata":{"a":1},"openAsCursorGithubApp":true}`, ""},
		"no words":            {`{"prompt":{"text":"  \n"}}`, "prompt.text is empty"},
		"own id":              {`{` + prompt + `,"agentId":"BC-00000000-0000-0000-0000-00000000000A"}`, ""},
		"bad id":              {`{` + prompt + `,"agentId":"bc-1"}`, "is not an agent id"},
		"id and variables":    {`{` + prompt + `,"agentId":"bc-00000000-0000-0000-0000-00000000000a","envVars":{"A":"b"}}`, "cannot be combined with envVars"},
		"reserved variable":   {`{` + prompt + `,"envVars":{"CURSOR_A":"b"}}`, "kept for the server"},
		"empty variable":      {`{` + prompt + `,"envVars":{"A":""}}`, "1 to 4096 bytes"},
		"large variable":      {`{` + prompt + `,"envVars":{"A":"` + strings.Repeat("x", 4097) + `"}}`, "1 to 4096 bytes"},
		"broken name":         {`{` + prompt + `,"envVars":{"A=B":"c"}}`, "not a name for a variable"},
		"pull request":        {`{` + prompt + `,"repos":[{"url":"https://x/y","prUrl":"https://x/y/pull/1"}]}`, "pull requests"},
		"repository no url":   {`{` + prompt + `,"repos":[{"url":" "}]}`, "repos[0].url is empty"},
		"named env and repo":  {`{` + prompt + `,"repos":[{"url":"https://x/y"}],"env":{"type":"cloud","name":"a"}}`, "cannot be combined"},
		"limits too large":    {`{` + prompt + `,"limits":{"disk":9223372036854775807}}`, "is at most"},
		"negative limits":     {`{` + prompt + `,"limits":{"memory":-1}}`, "cannot be negative"},
		"no MCP servers":      {`{` + prompt + `,"mcpServers":[]}`, ""},
		"MCP server":          {`{` + prompt + `,"mcpServers":[{"name":"a","command":"b"}]}`, "MCP servers"},
		"image both":          {`{"prompt":{"text":"go","images":[{"data":"aa","mimeType":"image/png","url":"http://x"}]}}`, "exclude each other"},
		"image neither":       {`{"prompt":{"text":"go","images":[{}]}}`, "one of data and url"},
		"image without type":  {`{"prompt":{"text":"go","images":[{"data":"aa"}]}}`, "mimeType must be"},
		"image url and type":  {`{"prompt":{"text":"go","images":[{"url":"http://x","mimeType":"image/png"}]}}`, "must be left out"},
		"image by file":       {`{"prompt":{"text":"go","images":[{"url":"file:///etc/passwd"}]}}`, "http or https"},
		"six images":          {`{"prompt":{"text":"go","images":[` + strings.Repeat(`{"url":"http://x"},`, 5) + `{"url":"http://x"}]}}`, "at most 5"},
		"too many variables":  {`{` + prompt + `,"envVars":` + toJSON(t, many) + `}`, "at most 50"},
		"image in the second": {`{"prompt":{"text":"go","images":[{"url":"http://x"},{"data":"aa","mimeType":"text/html"}]}}`, "prompt.images[1]"},
	} {
		var req api.CreateAgent
		if err := json.Unmarshal([]byte(c.body), &req); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		err := req.Check()
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case c.want != "" && (errand.KindOf(err) != errand.Invalid || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: %v, want an Invalid error with %q", name, err, c.want)
		}
	}
}

func toJSON(t *testing.T, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestImages(t *testing.T) {
	whole := base64.StdEncoding.EncodeToString(png)
	for name, c := range map[string]struct {
		data, mime string
		want       errand.Kind
	}{
		"whole":         {whole, "image/png", ""},
		"no padding":    {strings.TrimRight(whole, "="), "image/png", ""},
		"a data URL":    {"data:image/png;base64," + whole, "image/png", ""},
		"not base64":    {"%%%", "image/png", errand.Invalid},
		"another type":  {whole, "image/jpeg", errand.Invalid},
		"a web page":    {base64.StdEncoding.EncodeToString([]byte("<html>")), "image/gif", errand.Invalid},
		"over 15 MB":    {base64.StdEncoding.EncodeToString(make([]byte, api.MaxImageBytes+1)), "image/png", errand.TooLarge},
		"a short webp":  {base64.StdEncoding.EncodeToString([]byte("RIFF")), "image/webp", errand.Invalid},
		"a whole webp":  {base64.StdEncoding.EncodeToString([]byte("RIFF....WEBPVP8 ")), "image/webp", ""},
		"a whole gif":   {base64.StdEncoding.EncodeToString([]byte("GIF89a")), "image/gif", ""},
		"a whole jpeg":  {base64.StdEncoding.EncodeToString([]byte("\xff\xd8\xff\xe0")), "image/jpeg", ""},
		"an empty file": {"", "image/png", errand.Invalid},
	} {
		img, err := api.Image{Data: c.data, MIMEType: c.mime}.Decode()
		if errand.KindOf(err) != c.want {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
		if err == nil && (img.MIME != c.mime || len(img.Data) == 0) {
			t.Errorf("%s: got %q, %d bytes", name, img.MIME, len(img.Data))
		}
	}
}

// What a client chose comes back to it, also through the store.
func TestAgent(t *testing.T) {
	var req api.CreateAgent
	err := json.Unmarshal([]byte(`{
		"prompt": {"text": "go"},
		"model": {"id": "m", "params": [{"id": "effort", "value": "high"}]},
		"env": {"type": "pool", "name": "big"},
		"customSubagents": [{"name": "a", "description": "b", "prompt": "c", "model": "inherit"}],
		"autoCreatePR": true, "engine": "runc", "image": "host", "limits": {"memory": 1024}
	}`), &req)
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	agent := errand.Agent{
		ID: agentID, Name: "n", Status: errand.AgentIdle, Repositories: []errand.Repository{{URL: "/r", Ref: "main"}},
		Branch: "errand/n-1234", Settings: req.Settings(), LatestRun: runID, CreatedAt: at, UpdatedAt: at,
	}
	var stored errand.Agent
	if err := json.Unmarshal([]byte(toJSON(t, agent)), &stored); err != nil {
		t.Fatal(err)
	}
	want := `{"id":"bc-00000000-0000-0000-0000-000000000001","name":"n","status":"ACTIVE","env":{"type":"pool","name":"big"},` +
		`"url":"http://h/agents/bc-00000000-0000-0000-0000-000000000001","createdAt":"2026-11-22T12:00:00Z","updatedAt":"2026-11-22T12:00:00Z",` +
		`"latestRunId":"run-00000000-0000-0000-0000-000000000001","idle":true,"branch":"errand/n-1234","model":{"id":"m","params":[{"id":"effort","value":"high"}]},` +
		`"repos":[{"url":"/r","startingRef":"main"}],"autoCreatePR":true,"customSubagents":[{"name":"a","description":"b","prompt":"c","model":"inherit"}],` +
		`"engine":"runc","image":"host","limits":{"memory":1024}}`
	for name, a := range map[string]errand.Agent{"new": agent, "stored": stored} {
		if diff := cmp.Diff(want, toJSON(t, api.FromAgent(a, "http://h"))); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	agent.Status = errand.AgentArchived
	if got := api.FromAgentSummary(agent, "http://h"); got.Status != api.AgentArchived || got.Idle {
		t.Errorf("archived: %+v", got)
	}
}

func TestRun(t *testing.T) {
	at := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	agent := errand.Agent{ID: agentID, Branch: "errand/n-1234", Repositories: []errand.Repository{{URL: "git@github.com:org/app.git", Ref: "main"}}}
	run := errand.Run{ID: runID, Agent: agentID, Status: errand.RunPreparing, CreatedAt: at, UpdatedAt: at}
	got := api.FromRun(run, agent)
	if got.Status != api.RunCreating || got.State != errand.RunPreparing || got.DurationMs != nil || got.Git != nil || got.Ended() {
		t.Errorf("preparing: %+v", got)
	}
	run.Status, run.StartedAt, run.EndedAt = errand.RunFinished, at.Add(time.Second), at.Add(3*time.Second)
	agent.Pushed = "c0ffee"
	got = api.FromRun(run, agent)
	if got.Status != api.RunFinished || *got.DurationMs != 2000 || !got.Ended() {
		t.Errorf("finished: %+v", got)
	}
	if diff := cmp.Diff(&api.RunGit{Branches: []api.RunGitBranch{{RepoURL: "github.com/org/app", Branch: "errand/n-1234"}}}, got.Git); diff != "" {
		t.Error(diff)
	}
	agent.Settings.WorkOnCurrentBranch, agent.Repositories[0].Ref, agent.Branch = true, "origin/main", "main"
	if got := api.FromRun(run, agent); got.Git.Branches[0].Branch != "main" {
		t.Errorf("on the current branch: %+v", got.Git)
	}
}

func TestRepositoryURLs(t *testing.T) {
	for url, want := range map[string]string{
		"https://github.com/org/app":              "github.com/org/app",
		"https://user:secret@github.com/org/app":  "github.com/org/app",
		"ssh://git@example.com:2222/org/app.git/": "example.com:2222/org/app",
		"git@example.com:org/app.git":             "example.com/org/app",
		"/srv/git/app.git":                        "/srv/git/app.git",
		"file:///srv/git/app.git":                 "/srv/git/app.git",
	} {
		run := api.FromRun(errand.Run{}, errand.Agent{Pushed: "c", Repositories: []errand.Repository{{URL: url}}})
		if got := run.Git.Branches[0].RepoURL; got != want {
			t.Errorf("%s gives %s, want %s", url, got, want)
		}
	}
}

func TestErrors(t *testing.T) {
	e := api.FromError(errors.New("secret detail"))
	if e.Code != "internal_error" || strings.Contains(e.Message, "secret") {
		t.Errorf("a plain error is told as %+v", e)
	}
	code := 7
	e = api.FromError(&errand.Error{Kind: errand.Conflict, Code: "agent_busy", Message: "Wait.", Output: "o", ExitCode: &code})
	if diff := cmp.Diff(api.Error{Code: "agent_busy", Message: "Wait.", Output: "o", ExitCode: &code}, e); diff != "" {
		t.Error(diff)
	}
}

func TestFrames(t *testing.T) {
	stream, data, err := api.UnpackData(api.PackData(api.ExecStderr, []byte("hi")))
	if stream != api.ExecStderr || string(data) != "hi" || err != nil {
		t.Errorf("got %d %q %v", stream, data, err)
	}
	for _, bad := range [][]byte{nil, {3}, {255, 1}} {
		if _, _, err := api.UnpackData(bad); err == nil {
			t.Errorf("UnpackData(%v) is no error", bad)
		}
	}
	if _, err := api.ParseFrame([]byte("{")); err == nil {
		t.Error("a broken frame is no error")
	}
}
