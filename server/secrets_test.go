package server_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/api"
	"github.com/errand-dev/errand/store"
)

// TestSecretsOverTheAPI sets, reads and deletes secrets of each owner, by the
// shapes and statuses of Cursor's API.
func TestSecretsOverTheAPI(t *testing.T) {
	in := install(t, nil)
	made := in.ask("POST", "/v1/environments", `{"owner": "team", "name": "e", "repos": [{"url": "https://git.example/org/app"}], "environmentJson": "{}"}`, nil)
	var environment struct{ ID string }
	if err := json.Unmarshal(made.body, &environment); err != nil || made.status != 201 {
		t.Fatalf("%d %s", made.status, made.body)
	}
	const value = "correct-horse-battery"
	body := fmt.Sprintf(`{"value": %q, "type": "runtime_secret", "repos": ["https://git.example/org/app.git"], "later": 1}`, value)
	for _, path := range []string{"/v1/environments/" + environment.ID + "/secrets", "/v1/team/secrets", "/v1/user/secrets", "/v1/repository/secrets?url=https://git.example/org/app"} {
		at, query, _ := strings.Cut(path, "?")
		one := at + "/TOKEN?" + query
		for _, want := range []int{201, 200} {
			if got := in.ask("PUT", one, body, nil); got.status != want || strings.Contains(string(got.body), value) {
				t.Errorf("PUT %s gave %d %s, want %d", one, got.status, got.body, want)
			}
		}
		got := in.ask("GET", path, "", nil)
		var page map[string]any
		if err := json.Unmarshal(got.body, &page); err != nil || got.status != 200 {
			t.Fatalf("GET %s gave %d %s", path, got.status, got.body)
		}
		if next, there := page["nextCursor"]; next != nil || !there {
			t.Errorf("GET %s has the cursor %v, want null", path, next)
		}
		items, _ := page["items"].([]any)
		if len(items) != 1 {
			t.Fatalf("GET %s gave %s", path, got.body)
		}
		item, _ := items[0].(map[string]any)
		if id, _ := item["id"].(string); !strings.HasPrefix(id, "secv_") || item["name"] != "TOKEN" || item["type"] != "runtime_secret" || item["createdAt"] == nil {
			t.Errorf("GET %s gave %v", path, item)
		}
		if got := in.ask("GET", one, "", nil); got.status != 200 || strings.Contains(string(got.body), value) {
			t.Errorf("GET %s gave %d %s", one, got.status, got.body)
		}
	}
	if got := in.ask("GET", "/v1/secrets?limit=3", "", nil); !strings.Contains(string(got.body), `"nextCursor":"secv_`) {
		t.Errorf("the first page is %s", got.body)
	}
	if got := in.ask("GET", "/v1/secrets?scope=environment&environmentId="+environment.ID+"&name=token", "", nil); strings.Count(string(got.body), `"id"`) != 1 {
		t.Errorf("one environment's are %s", got.body)
	}
	for _, path := range []string{"/v1/environments/" + environment.ID + "/secrets/token", "/v1/team/secrets/TOKEN"} {
		if got := in.ask("DELETE", path, "", nil); got.status != 200 || !strings.Contains(string(got.body), `"id":"secv_`) {
			t.Errorf("DELETE %s gave %d %s", path, got.status, got.body)
		}
		if got := in.ask("DELETE", path, "", nil); got.status != 404 {
			t.Errorf("DELETE %s again gave %d %s", path, got.status, got.body)
		}
	}
}

// TestSecretsOfOthersEnvironments asks for the secrets of a person's own
// environment as somebody else: there are none, and none has been used.
func TestSecretsOfOthersEnvironments(t *testing.T) {
	in := install(t, nil)
	made := in.ask("POST", "/v1/environments", `{"owner": "personal", "name": "mine", "environmentJson": "{}"}`, nil)
	var environment, token struct{ ID string }
	if err := json.Unmarshal(made.body, &environment); err != nil || made.status != 201 {
		t.Fatalf("%d %s", made.status, made.body)
	}
	put := in.ask("PUT", "/v1/environments/"+environment.ID+"/secrets/TOKEN", `{"value": "correct-horse-battery", "type": "runtime_secret"}`, nil)
	if err := json.Unmarshal(put.body, &token); err != nil || put.status != 201 {
		t.Fatalf("%d %s", put.status, put.body)
	}
	if got := in.ask("GET", "/v1/secrets", "", nil); strings.Contains(string(got.body), "usedAt") {
		t.Errorf("a secret that nobody was given was used: %s", got.body)
	}
	used := errand.SecretUse{Secret: errand.SecretID(token.ID), Revision: 1, Scope: errand.ScopeEnvironment, Name: "TOKEN", Build: errand.NewBuildID(time.Now())}
	if err := in.store.Write(t.Context(), func(tx *store.Tx) error {
		_, err := tx.PutSecretUses([]errand.SecretUse{used})
		return errors.Join(err, tx.InsertBuild(errand.Build{ID: used.Build, Environment: errand.EnvironmentID(environment.ID), Status: errand.BuildSucceeded}))
	}); err != nil {
		t.Fatal(err)
	}
	as := map[string]func(*http.Request){"the owner": nil, "another": in.as("Grace Hopper", "grace@example.com")}
	look := func(when string) {
		t.Helper()
		for who, change := range as {
			for path, want := range map[string]int{"/v1/secrets": 200, "/v1/secrets?scope=environment": 200, "/v1/secrets/" + token.ID + "/uses": 404} {
				got := in.ask("GET", path, "", change)
				shown := strings.Contains(string(got.body), "TOKEN")
				gone := when == "deleted" && want == 200 // from the lists; uses stay on record
				if shown != (who == "the owner" && !gone) || who == "another" && got.status != want {
					t.Errorf("%s: to %s %s gives %d %s", when, who, path, got.status, got.body)
				}
			}
		}
	}
	look("kept")
	var listed api.Secrets
	got := in.ask("GET", "/v1/secrets", "", nil)
	if err := json.Unmarshal(got.body, &listed); err != nil || len(listed.Items) != 1 || listed.Items[0].UsedAt == nil || time.Since(*listed.Items[0].UsedAt) > time.Minute {
		t.Errorf("a secret that was used is listed as %s", got.body)
	}
	if got := in.ask("DELETE", "/v1/environments/"+environment.ID+"/secrets/TOKEN", "", nil); got.status != 200 {
		t.Fatalf("%d %s", got.status, got.body)
	}
	look("deleted")
}

// TestBadSecrets sends what cannot be.
func TestBadSecrets(t *testing.T) {
	in := install(t, nil)
	for _, tt := range []struct {
		method, path, body string
		status             int
		code               string
	}{
		{"PUT", "/v1/team/secrets/A-B", `{"value": "x", "type": "runtime_secret"}`, 400, "validation_error"},
		{"PUT", "/v1/team/secrets/ALL_PROXY", `{"value": "x", "type": "runtime_secret"}`, 400, "reserved_secret_name"},
		{"PUT", "/v1/team/secrets/A", `{"value": "x", "type": "other"}`, 400, "validation_error"},
		{"PUT", "/v1/team/secrets/A", `{"value": "", "type": "runtime_secret"}`, 400, "validation_error"},
		{"PUT", "/v1/team/secrets/A", `{"value": "` + strings.Repeat("x", 4097) + `", "type": "runtime_secret"}`, 400, "validation_error"},
		{"PUT", "/v1/environments/nonsense/secrets/A", `{"value": "x", "type": "runtime_secret"}`, 400, "validation_error"},
		{"PUT", "/v1/environments/env-00000000-0000-0000-0000-000000000001/secrets/A", `{"value": "x", "type": "runtime_secret"}`, 404, "environment_not_found"},
		{"GET", "/v1/team/secrets/A", "", 404, "secret_not_found"},
		{"GET", "/v1/secrets/secv_0/uses", "", 404, "secret_not_found"},
		{"GET", "/v1/secrets?scope=nobody", "", 400, "validation_error"},
		{"GET", "/v1/secrets?cursor=secv_0", "", 400, "validation_error"},
		{"GET", "/v1/repository/secrets", "", 400, "validation_error"},
	} {
		got := in.ask(tt.method, tt.path, tt.body, nil)
		var e api.ErrorBody
		if err := json.Unmarshal(got.body, &e); err != nil || got.status != tt.status || e.Error.Code != tt.code {
			t.Errorf("%s %s gave %d %s, want %d %s", tt.method, tt.path, got.status, got.body, tt.status, tt.code)
		}
	}
}
