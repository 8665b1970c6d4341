package server_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/api"
	"github.com/errand-dev/errand/auth"
	"github.com/errand-dev/errand/client"
)

// TestLifeOfAnEnvironment makes, changes, compares, deletes and restores one.
func TestLifeOfAnEnvironment(t *testing.T) {
	in := install(t, nil)
	ctx := t.Context()
	made, err := in.client.CreateEnvironment(ctx, api.CreateEnvironment{
		Name: "web", Repos: []api.RepoURL{{URL: "https://git.example/org/app.git"}}, EnvironmentJSON: "{\n  \"install\": \"npm ci\"\n}\n",
	})
	if err != nil {
		t.Fatal(err)
	}
	id := errand.EnvironmentID(made.ID)
	if made.Owner != errand.OwnerTeam || made.VersionID == "" || len(made.Repos) != 1 {
		t.Errorf("created %+v", made)
	}
	if _, err := in.client.CreateEnvironment(ctx, api.CreateEnvironment{Name: "web"}); code(err) != "environment_name_conflict" {
		t.Errorf("the same name again gave %v", err)
	}
	if _, err := in.client.CreateEnvironment(ctx, api.CreateEnvironment{Name: "web", Owner: errand.OwnerPersonal}); err != nil {
		t.Errorf("the same name for oneself gave %v", err)
	}
	next := "{\n  \"install\": \"npm ci --omit=dev\"\n}\n"
	if err := in.client.EditEnvironment(ctx, id, api.EditEnvironment{EnvironmentJSON: &next, Title: "No dev packages"}); err != nil {
		t.Fatal(err)
	}
	history, err := in.client.EnvironmentHistory(ctx, id, 10, "")
	if err != nil || len(history.Items) != 2 {
		t.Fatalf("history %+v, %v", history, err)
	}
	latest, first := history.Items[0], history.Items[1]
	if !latest.Current || latest.Kind != errand.VersionUpdated || latest.Title != "No dev packages" || latest.Source != errand.SourceAPI || first.Current || first.Kind != errand.VersionCreated {
		t.Errorf("history %+v", history.Items)
	}
	diff, err := in.client.EnvironmentDiff(ctx, id, errand.VersionID(latest.ID), "")
	if err != nil || !strings.Contains(diff.Patch, "-  \"install\": \"npm ci\"\n+  \"install\": \"npm ci --omit=dev\"\n") {
		t.Errorf("diff %q, %v", diff.Patch, err)
	}
	builds, err := in.client.Builds(ctx, id, 10, "")
	if err != nil || len(builds.Items) != 1 || builds.Items[0].Trigger != errand.TriggerConfigChange || builds.Items[0].Status != api.BuildInProgress {
		t.Fatalf("two changes while nothing builds gave the builds %+v, %v", builds.Items, err)
	}
	if err := in.client.DeleteEnvironment(ctx, id); err != nil {
		t.Fatal(err)
	}
	if _, err := in.client.Environment(ctx, id); errand.KindOf(err) != errand.NotFound {
		t.Errorf("a deleted environment gave %v", err)
	}
	build := errand.BuildID(builds.Items[0].ID)
	if b, err := in.client.Build(ctx, id, build); err != nil || b.Status != api.BuildCancelled {
		t.Errorf("the build of a deleted environment is %+v, %v", b, err)
	}
	restored, err := in.client.RestoreEnvironment(ctx, id, errand.VersionID(first.ID))
	if err != nil || restored.EnvironmentJSON != made.EnvironmentJSON {
		t.Errorf("restored %+v, %v", restored, err)
	}
	history, err = in.client.EnvironmentHistory(ctx, id, 1, "")
	if err != nil || history.Items[0].Source != errand.SourceRestore || history.NextCursor == "" {
		t.Errorf("after restoring the history begins with %+v, %v", history, err)
	}
}

// TestCheckEnvironment says what is odd about a text, and how it is corrected.
func TestCheckEnvironment(t *testing.T) {
	in := install(t, nil)
	check := func(text string) api.EnvironmentCheck {
		t.Helper()
		got, err := in.client.CheckEnvironment(t.Context(), api.CheckEnvironment{EnvironmentJSON: text})
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	odd := check("{\n  // kept\n  \"ports\": [3000],\n  \"snapshot\": \"nowhere\"\n}\n")
	if odd.Failed || len(odd.Findings) != 2 {
		t.Fatalf("found %+v", odd)
	}
	port, snapshot := odd.Findings[0], odd.Findings[1]
	if port.Line != 3 || port.Column != 13 || port.Severity != "warning" || len(port.Edits) == 0 || port.Corrected != `  "ports": [{ "port": 3000 }],` {
		t.Errorf("of the port it says %+v", port)
	}
	if snapshot.Line != 4 || !strings.Contains(snapshot.Text, `no snapshot "nowhere"`) {
		t.Errorf("of the snapshot it says %+v", snapshot)
	}
	if again := check(odd.Corrected); len(again.Findings) != 0 || !strings.Contains(odd.Corrected, "// kept") {
		t.Errorf("the corrected text is %s: %+v", odd.Corrected, again.Findings)
	}
	if bad := check(`{"install": 7 8}`); !bad.Failed || len(bad.Findings) == 0 {
		t.Errorf("of what cannot be read it says %+v", bad)
	}
	if none := check("  \n"); none.Failed || len(none.Findings) != 0 {
		t.Errorf("of nothing it says %+v", none)
	}
	if all, err := in.client.Environments(t.Context(), 10, ""); err != nil || len(all.Items) != 0 {
		t.Errorf("checking has stored %+v, %v", all, err)
	}
}

// TestEnvironmentsOfOthers keeps personal environments to their person.
func TestEnvironmentsOfOthers(t *testing.T) {
	in := install(t, nil)
	other := in.other("Grace Hopper", "grace@example.com")
	mine, err := in.client.CreateEnvironment(t.Context(), api.CreateEnvironment{Name: "mine", Owner: errand.OwnerPersonal})
	if err != nil {
		t.Fatal(err)
	}
	id := errand.EnvironmentID(mine.ID)
	if _, err := other.Environment(t.Context(), id); errand.KindOf(err) != errand.NotFound {
		t.Errorf("another person's environment gave %v", err)
	}
	if err := other.DeleteEnvironment(t.Context(), id); errand.KindOf(err) != errand.NotFound {
		t.Errorf("deleting another person's environment gave %v", err)
	}
	if _, err := other.Builds(t.Context(), id, 10, ""); errand.KindOf(err) != errand.NotFound {
		t.Errorf("the builds of another person's environment gave %v", err)
	}
	if _, err := other.CreateBuild(t.Context(), id, api.CreateBuild{}); errand.KindOf(err) != errand.NotFound {
		t.Errorf("building another person's environment gave %v", err)
	}
	page, err := other.Environments(t.Context(), 10, "")
	if err != nil || len(page.Items) != 0 {
		t.Errorf("another person sees %+v, %v", page.Items, err)
	}
}

// TestEnvironmentsArePaged walks through all pages, of environments and of
// builds.
func TestEnvironmentsArePaged(t *testing.T) {
	in := install(t, nil)
	var last errand.EnvironmentID
	for i := range 7 {
		e, err := in.client.CreateEnvironment(t.Context(), api.CreateEnvironment{Name: fmt.Sprint("e", i)})
		if err != nil {
			t.Fatal(err)
		}
		last = errand.EnvironmentID(e.ID)
	}
	var names []string
	for cursor := ""; ; {
		page, err := in.client.Environments(t.Context(), 3, cursor)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range page.Items {
			names = append(names, e.Name)
		}
		if cursor = page.NextCursor; cursor == "" {
			break
		}
	}
	if got := strings.Join(names, " "); got != "e6 e5 e4 e3 e2 e1 e0" {
		t.Errorf("paged through %s", got)
	}
	for range 4 {
		if _, err := in.client.CreateBuild(t.Context(), last, api.CreateBuild{Draft: true}); err != nil {
			t.Fatal(err)
		}
	}
	seen := map[string]bool{}
	for b, err := range in.client.AllBuilds(t.Context(), last) {
		if err != nil {
			t.Fatal(err)
		}
		seen[b.ID] = true
	}
	if len(seen) != 5 { // and the one of its creation
		t.Errorf("%d builds, want 5", len(seen))
	}
}

func TestBadEnvironmentRequests(t *testing.T) {
	in := install(t, nil)
	e, err := in.client.CreateEnvironment(t.Context(), api.CreateEnvironment{Name: "e"})
	if err != nil {
		t.Fatal(err)
	}
	base := "/v1/environments/" + e.ID
	unknown := "/v1/environments/" + string(errand.NewEnvironmentID())
	for _, c := range []struct {
		method, path, body string
		status             int
		says               string
	}{
		{"POST", "/v1/environments", `{}`, 400, "name"},
		{"POST", "/v1/environments", `{"name":"x","owner":"everybody"}`, 400, "owner"},
		{"POST", "/v1/environments", `{"name":"x","environmentJson":"{\"install\": [}"}`, 400, "environment.json:1:"},
		{"POST", "/v1/environments", `{"name":"x","repos":[{"url":"https://u:secret@git.example/a/b"}]}`, 400, "credential"},
		{"POST", "/v1/environments", `{"name":"x","environmentJson":"` + strings.Repeat(" ", 300<<10) + `{}"}`, 413, "bytes"},
		{"POST", "/v1/environments", `{"name":"fine","later":{"field":1}}`, 201, ""},
		{"GET", "/v1/environments/nonsense", "", 400, "env-"},
		{"GET", unknown, "", 404, "errand env ls"},
		{"GET", "/v1/environments?cursor=nonsense", "", 400, "cursor"},
		{"GET", base + "/builds?cursor=nonsense", "", 400, "cursor"},
		{"GET", base + "/history?cursor=nonsense", "", 400, "cursor"},
		{"PATCH", base, `{"name":""}`, 400, "name"},
		{"PATCH", unknown, `{"name":"y"}`, 404, ""},
		{"POST", base + "/history/" + string(errand.NewVersionID()) + "/restore", "", 404, "version"},
		{"GET", base + "/builds/bld-1", "", 400, "bld-"},
		{"GET", base + "/builds/bld-20260101-00000000-0000-0000-0000-000000000001", "", 404, "errand build ls"},
		{"POST", base + "/builds/bld-20260101-00000000-0000-0000-0000-000000000001/cancel", "", 404, ""},
		{"GET", base + "/builds/active", "", 200, "universal_image"},
		{"POST", base + "/builds", "", 201, "IN_PROGRESS"},
	} {
		got := in.ask(c.method, c.path, c.body, nil)
		if got.status != c.status || !strings.Contains(string(got.body), c.says) {
			t.Errorf("%s %s %.60s: %d %.300s, want %d with %q", c.method, c.path, c.body, got.status, got.body, c.status, c.says)
		}
	}
}

// TestBuildLog follows the log of a build that is cancelled while it waits, from
// the beginning and from its middle.
func TestBuildLog(t *testing.T) {
	in := install(t, nil)
	e, err := in.client.CreateEnvironment(t.Context(), api.CreateEnvironment{Name: "e"})
	if err != nil {
		t.Fatal(err)
	}
	id := errand.EnvironmentID(e.ID)
	b, err := in.client.CreateBuild(t.Context(), id, api.CreateBuild{Ref: "main"})
	if err != nil || !b.Draft {
		t.Fatalf("a build of another ref is %+v, %v; want a draft", b, err)
	}
	build := errand.BuildID(b.ID)
	var kinds []string
	for event, err := range in.client.FollowBuild(t.Context(), id, build, 0) {
		if err != nil {
			t.Fatal(err)
		}
		if event.Build != build || event.Agent != "" || int(event.Seq) != len(kinds)+1 {
			t.Errorf("event %+v", event)
		}
		if kinds = append(kinds, string(event.Kind)); len(kinds) == 1 {
			if err := in.client.CancelBuild(t.Context(), id, build); err != nil {
				t.Fatal(err)
			}
		}
	}
	if got := strings.Join(kinds, " "); got != "build.queued build.cancelAsked build.status" {
		t.Errorf("the log is %s", got)
	}
	resumed := in.ask("GET", "/v1/environments/"+e.ID+"/builds/"+b.ID+"/log", "", func(r *http.Request) { r.Header.Set(api.HeaderLastEventID, "2") })
	if text := string(resumed.body); !strings.HasPrefix(text, "id: 3\n") || !strings.Contains(text, "event: done") {
		t.Errorf("the log after event 2 is %q", text)
	}
	if err := in.client.CancelBuild(t.Context(), id, build); code(err) != "build_not_cancellable" {
		t.Errorf("cancelling again gave %v", err)
	}
	if err := in.client.ActivateBuild(t.Context(), id, build); code(err) != "build_not_activatable" {
		t.Errorf("activating a cancelled build gave %v", err)
	}
	if err := in.client.DeactivateBuild(t.Context(), id, build); code(err) != "build_not_active" {
		t.Errorf("deactivating it gave %v", err)
	}
}

func code(err error) string {
	if e := errand.AsError(err); e != nil {
		return e.Code
	}
	return ""
}

// other gives a client with the key of another person.
func (in *installation) other(person, email string) *client.Client {
	in.t.Helper()
	c, err := client.New(client.Options{URL: in.url, Key: in.keyOf(person, email)})
	if err != nil {
		in.t.Fatal(err)
	}
	return c
}

// as makes a request one of another person.
func (in *installation) as(person, email string) func(*http.Request) {
	token := in.keyOf(person, email)
	return func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+token) }
}

// keyOf gives a key of a person.
func (in *installation) keyOf(person, email string) string {
	in.t.Helper()
	token, _, err := auth.Open(in.store).Create(in.t.Context(), auth.New{Name: person, Person: person, Email: email})
	if err != nil {
		in.t.Fatal(err)
	}
	return token
}
