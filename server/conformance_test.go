package server_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/api"
)

// cursor is the part of Cursor's published description of v1 that we serve.
type cursor struct {
	t        *testing.T
	compiler *jsonschema.Compiler
	paths    map[string]map[string]operation
}

type operation struct {
	OperationID string `json:"operationId"`
	Parameters  []struct {
		Name string `json:"name"`
		In   string `json:"in"`
	} `json:"parameters"`
	Responses map[string]json.RawMessage `json:"responses"`
}

const described = "cursor-v1.json"

func readCursor(t *testing.T) *cursor {
	t.Helper()
	text, err := os.ReadFile("testdata/" + described)
	if err != nil {
		t.Fatal(err)
	}
	whole, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	c := &cursor{t: t, compiler: jsonschema.NewCompiler()}
	c.compiler.AssertFormat()
	if err := c.compiler.AddResource("file:///"+described, whole); err != nil {
		t.Fatal(err)
	}
	var file struct {
		Paths map[string]map[string]operation `json:"paths"`
	}
	if err := json.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	c.paths = file.Paths
	return c
}

// check holds a value against one of the schemas.
func (c *cursor) check(schema, what string, text []byte) {
	c.t.Helper()
	s, err := c.compiler.Compile("file:///" + described + "#/components/schemas/" + schema)
	if err != nil {
		c.t.Fatal(err)
	}
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		c.t.Fatalf("%s: %v in %s", what, err, text)
	}
	if err := s.Validate(v); err != nil {
		c.t.Errorf("%s is no %s: %v\n%s", what, schema, err, text)
	}
}

func TestAnswersAreCursors(t *testing.T) {
	in, c := install(t, nil), readCursor(t)
	const create = `{
		"prompt": {"text": "go"}, "name": "n", "model": {"id": "scripted", "params": [{"id": "effort", "value": "high"}]},
		"repos": [{"url": "https://git.example/org/app.git", "startingRef": "main"}], "autoCreatePR": true,
		"customSubagents": [{"name": "a", "description": "b", "prompt": "c", "model": {"id": "m"}}],
		"env": {"type": "cloud"}, "mode": "plan", "limits": {"cpus": 0.5}, "engine": "runc", "mcpServers": []}`
	c.check("CreateAgentRequest", "the request", []byte(create))
	made := in.ask("POST", "/v1/agents", create, nil)
	if made.status != 201 {
		t.Fatalf("creating: %d %s", made.status, made.body)
	}
	c.check("CreateAgentResponse", "the answer to create", made.body)
	var created api.CreatedAgent
	if err := json.Unmarshal(made.body, &created); err != nil {
		t.Fatal(err)
	}
	agent, run := errand.AgentID(created.Agent.ID), errand.RunID(created.Run.ID)
	in.script(agent, run)
	base := "/v1/agents/" + created.Agent.ID
	for _, q := range []struct {
		method, path, body string
		status             int
		schema             string
	}{
		{"GET", "/v1/agents", "", 200, "ListAgentsResponse"},
		{"GET", base, "", 200, "Agent"},
		{"POST", base + "/runs", `{"prompt":{"text":"more"},"whenBusy":"queue"}`, 201, "CreateRunResponse"},
		{"POST", base + "/runs", `{"prompt":{"text":"more"}}`, 409, "Error"},
		{"GET", base + "/runs", "", 200, "ListRunsResponse"},
		{"GET", base + "/runs?limit=1", "", 200, "ListRunsResponse"},
		{"GET", base + "/runs/" + string(run), "", 200, "Run"},
		{"GET", base + "/usage", "", 200, "AgentUsageResponse"},
		{"GET", base + "/artifacts", "", 200, "ListArtifactsResponse"},
		{"GET", base + "/artifacts/download?path=artifacts/none", "", 404, "Error"},
		{"POST", base + "/runs/" + string(run) + "/cancel", "", 200, "IdResponse"},
		{"POST", base + "/runs/" + string(run) + "/cancel", "", 409, "Error"},
		{"GET", base + "/runs/" + string(run), "", 200, "Run"},
		{"POST", base + "/archive", "", 200, "IdResponse"},
		{"GET", base, "", 200, "Agent"},
		{"POST", base + "/unarchive", "", 200, "IdResponse"},
		{"GET", "/v1/me", "", 200, "ApiKeyInfo"},
		{"GET", "/v1/models", "", 200, "ListModelsResponse"},
		{"POST", "/v1/agents", `{}`, 400, "Error"},
		{"GET", base + "/runs/" + string(errand.NewRunID()), "", 404, "Error"},
		{"DELETE", base, "", 200, "IdResponse"},
	} {
		what := q.method + " " + q.path
		a := in.ask(q.method, q.path, q.body, nil)
		if a.status != q.status || !json.Valid(a.body) {
			t.Errorf("%s: %d %s, want %d", what, a.status, a.body, q.status)
			continue
		}
		if strings.Contains(string(a.body), `"nextCursor":null`) || strings.Contains(string(a.body), `"nextCursor":""`) {
			t.Errorf("%s: nextCursor is there and empty", what)
		}
		c.check(q.schema, what, a.body)
	}
	a := in.ask("GET", "/v1/me", "", func(r *http.Request) { r.Header.Del("Authorization") })
	c.check("Error", "an answer without a key", a.body)
}

func TestStreamIsCursors(t *testing.T) {
	in, c := install(t, nil), readCursor(t)
	agent, run := in.create("go")
	in.script(agent, run)
	known := []string{"status", "assistant", "thinking", "tool_call", "interaction_update", "heartbeat", "result", "error", "done"}
	calls := 0
	for _, m := range in.read(t.Context(), agent, run, "", nil) {
		if !slices.Contains(known, m.Event) {
			t.Errorf("there is no event %q", m.Event)
		}
		if m.Event == api.StreamToolCall {
			calls++
			c.check("RunStreamToolCallData", "a tool call", []byte(m.Data))
		}
	}
	if calls != 2 {
		t.Errorf("%d tool_call messages", calls)
	}
}

// Our document describes what Cursor's does: same paths, methods, names,
// parameters and statuses.
func TestDocumentIsCursors(t *testing.T) {
	in, c := install(t, nil), readCursor(t)
	a := in.ask("GET", "/openapi.json", "", nil)
	var ours struct {
		OpenAPI    string                          `json:"openapi"`
		Paths      map[string]map[string]operation `json:"paths"`
		Components struct {
			Schemas map[string]any `json:"schemas"`
		} `json:"components"`
	}
	if err := json.Unmarshal(a.body, &ours); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(ours.OpenAPI, "3.1") {
		t.Errorf("the document is OpenAPI %q", ours.OpenAPI)
	}
	for path, methods := range c.paths {
		for method, theirs := range methods {
			op, ok := ours.Paths[path][method]
			if !ok {
				t.Errorf("%s %s is missing", method, path)
				continue
			}
			if op.OperationID != theirs.OperationID {
				t.Errorf("%s %s is named %s, theirs %s", method, path, op.OperationID, theirs.OperationID)
			}
			for status := range theirs.Responses {
				if _, ok := op.Responses[status]; !ok {
					t.Errorf("%s %s: the answer %s is not described", method, path, status)
				}
			}
			for _, p := range theirs.Parameters {
				if p.Name != "" && !slices.ContainsFunc(op.Parameters, func(q struct {
					Name string `json:"name"`
					In   string `json:"in"`
				}) bool {
					return q.Name == p.Name && q.In == p.In
				}) {
					t.Errorf("%s %s: the parameter %s is missing", method, path, p.Name)
				}
			}
		}
	}
	if _, ok := ours.Components.Schemas["ErrorModel"]; ok {
		t.Error("the document has a form that is never sent")
	}
	if bytes.Contains(a.body, []byte("problem+json")) {
		t.Error("errors are described as problem+json")
	}
}

// Every route of the document answers: none is described and not served.
func TestDocumentIsServed(t *testing.T) {
	in := install(t, nil)
	a := in.ask("GET", "/openapi.json", "", nil)
	var doc struct {
		Paths map[string]map[string]json.RawMessage `json:"paths"`
	}
	if err := json.Unmarshal(a.body, &doc); err != nil {
		t.Fatal(err)
	}
	fill := strings.NewReplacer("{id}", string(errand.NewAgentID()), "{runId}", string(errand.NewRunID()), "{name}", "shell")
	routes := 0
	for path, methods := range doc.Paths {
		for method := range methods {
			routes++
			a := in.ask(strings.ToUpper(method), fill.Replace(path)+"?follow=false", "", nil)
			if a.status == 404 && a.code(t) == "not_found" || a.status == 405 || a.status >= 500 {
				t.Errorf("%s %s: %d %s", method, path, a.status, a.body)
			}
		}
	}
	if routes < 18 {
		t.Errorf("only %d routes are described", routes)
	}
	if t.Failed() {
		fmt.Printf("%s\n", a.body)
	}
}
