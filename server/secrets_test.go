package server_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/errand-dev/errand/api"
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
