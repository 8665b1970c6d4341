package tool

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

type sampleArgs struct {
	Path  string   `json:"path"`
	Limit int      `json:"limit"`
	All   bool     `json:"all"`
	Items []string `json:"items"`
}

func TestDecode(t *testing.T) {
	tests := []struct {
		name, args string
		want       sampleArgs
		fault      string
	}{
		{"plain", `{"path":"a","limit":3,"all":true,"items":["x"]}`, sampleArgs{"a", 3, true, []string{"x"}}, ""},
		{"object in a string", `"{\"path\":\"a\"}"`, sampleArgs{Path: "a"}, ""},
		{"values in strings", `{"path":"12","limit":"3","all":"true","items":"[\"x\"]"}`, sampleArgs{"12", 3, true, []string{"x"}}, ""},
		{"null is not given", `{"path":"a","limit":null}`, sampleArgs{Path: "a"}, ""},
		{"missing", `{"limit":3}`, sampleArgs{}, `the field "path" is missing; the fields are path, limit, all, items`},
		{"null where needed", `{"path":null}`, sampleArgs{}, `the field "path" is missing`},
		{"nothing at all", ``, sampleArgs{}, `the field "path" is missing`},
		{"unknown", `{"path":"a","pfad":"b"}`, sampleArgs{}, `there is no field "pfad"`},
		{"wrong type", `{"path":{"x":1}}`, sampleArgs{}, `the field "path" must be a string, not object`},
		{"not a number", `{"path":"a","limit":"many"}`, sampleArgs{}, `the field "limit" must be a whole number, not string`},
		{"a list", `[1]`, sampleArgs{}, "not a JSON object"},
		{"broken", `{"path":`, sampleArgs{}, "not a JSON object (at byte"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var got sampleArgs
			err := decode(json.RawMessage(test.args), &got, "path")
			if test.fault != "" {
				if err == nil || !strings.Contains(err.Error(), test.fault) {
					t.Fatalf("error %v, want one with %q", err, test.fault)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(test.want, got); d != "" {
				t.Errorf("wrong arguments (-want +got):\n%s", d)
			}
		})
	}
}
