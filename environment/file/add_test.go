package file_test

import (
	"testing"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/environment/file"
)

// TestAddPorts adds ports to files as people write them.
func TestAddPorts(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"empty", `{}`, `{"ports": [{ "port": 80 }, { "port": 443 }]}`},
		{"one line", `{"install": "true"}`, `{"install": "true", "ports": [{ "port": 80 }, { "port": 443 }]}`},
		{"lines", "{\n  \"install\": \"true\"\n}\n", "{\n  \"install\": \"true\",\n  \"ports\": [{ \"port\": 80 }, { \"port\": 443 }]\n}\n"},
		{"comments", "{\n\t\"install\": \"true\", // all of it\n}\n", "{\n\t\"install\": \"true\",\n\t\"ports\": [{ \"port\": 80 }, { \"port\": 443 }], // all of it\n}\n"},
		{"an empty list", `{"ports": []}`, `{"ports": [{ "port": 80 }, { "port": 443 }]}`},
		{"some ports", `{"ports": [{"name": "web", "port": 80}], "start": "x"}`, `{"ports": [{"name": "web", "port": 80}, { "port": 443 }], "start": "x"}`},
		{"all ports", `{"ports": [443, 80]}`, `{"ports": [443, 80]}`},
	} {
		if got, err := file.AddPorts("e.json", c.text, 80, 443); err != nil || got != c.want {
			t.Errorf("%s: %q became %q, %v; want %q", c.name, c.text, got, err, c.want)
		}
	}
	for _, text := range []string{`{`, `{"ports": 3000}`} {
		if got, err := file.AddPorts("e.json", text, 80); errand.KindOf(err) != errand.Invalid {
			t.Errorf("%q became %q, %v", text, got, err)
		}
	}
}
