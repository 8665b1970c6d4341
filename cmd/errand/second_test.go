package main_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/errand-dev/errand/guest/guesttest"
)

// TestSecondServer starts a second server in a directory that one works in.
func TestSecondServer(t *testing.T) {
	t.Parallel()
	in := install(t, killScript())
	second := exec.Command(guesttest.Program(t, "errand"), "serve", "--data", in.data, "--listen", "127.0.0.1:0")
	second.Env = append(os.Environ(), "ANTHROPIC_API_KEY=any", "ANTHROPIC_BASE_URL="+in.model.URL, "OPENAI_API_KEY=")
	out, err := second.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "Another Errand server works in "+in.data) {
		t.Errorf("the second server ended with %v and said:\n%s", err, out)
	}
	if _, err := in.client.Me(t.Context()); err != nil {
		t.Errorf("the first server: %v", err)
	}
}
