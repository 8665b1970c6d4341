package server_test

import (
	"bytes"
	"flag"
	"os"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files anew")

// TestPanelsDocument: the panel's types are made from a copy of the document, so
// that they can be made without a server. The copy is what is served.
func TestPanelsDocument(t *testing.T) {
	const copied = "../web/panel/openapi.json"
	served := install(t, nil).ask("GET", "/openapi.json", "", nil).body
	if *update {
		if err := os.WriteFile(copied, served, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	kept, err := os.ReadFile(copied)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(kept, served) {
		t.Error("web/panel/openapi.json is not what is served: go test ./server -run TestPanelsDocument -update")
	}
}
