package build_test

import (
	"fmt"
	"net/netip"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/egress"
	"github.com/errand-dev/errand/guest/guesttest"
	"github.com/errand-dev/errand/machine/buildkit"
	"github.com/errand-dev/errand/machine/buildkit/solver"
	"github.com/errand-dev/errand/machine/imagetest"
	"github.com/errand-dev/errand/machine/oci"
	"github.com/errand-dev/errand/vault"
)

// buildImages lets the yard build Dockerfiles, whose base images it gives from a
// registry, with the image "tools".
func (y *yard) buildImages() (registry string) {
	y.t.Helper()
	network := imagetest.NewNetwork(y.t)
	registry = network.Registry(nil)
	imagetest.Push(y.t, registry, "tools", imagetest.Busybox(y.t))
	runc, err := exec.LookPath("runc")
	if err != nil {
		guesttest.Lacking(y.t, "runc is not installed")
	}
	b, err := buildkit.New(buildkit.Options{Dir: y.t.TempDir(), Images: y.options.Images, Engine: oci.Runc, Runc: runc, Daemon: guesttest.Program(y.t, "buildkitd"), Client: solver.Program(guesttest.Program(y.t, "errand-buildkit"))})
	if err != nil {
		y.t.Fatal(err)
	}
	y.t.Cleanup(func() {
		if err := b.Close(); err != nil {
			y.t.Error(err)
		}
	})
	y.stop()
	y.options.Driver = struct {
		*oci.Driver
		*buildkit.Builder
	}{y.driver, b}
	y.options.Gate = egress.New(egress.Options{Log: y.options.Log, Private: []netip.Prefix{network.Prefix()}})
	y.options.Vault = vault.Open(y.store, filepath.Join(y.t.TempDir(), "secret.key"), "", nil)
	y.run()
	return registry
}

// TestFailedDockerfileTellsNoSecret has a Dockerfile print a secret and fail: what
// is kept of it, in the row and in the journal, has it not, nor the end of it
// where the output is cut.
func TestFailedDockerfileTellsNoSecret(t *testing.T) {
	y := newYard(t, oci.Runc, nil)
	registry := y.buildImages()
	const value, half = "npm_4f1c9a7e2b8d6053", "2b8d6053"
	if _, _, err := y.options.Vault.Put(t.Context(), vault.Team, "NPM_TOKEN", vault.Value{Value: value, Kind: errand.SecretBuild}); err != nil {
		t.Fatal(err)
	}
	for name, after := range map[string]int{"whole": 1, "cut": 16<<10 - len(half) - 1} {
		_, b := y.create(name, fmt.Sprintf(`{"build": {"dockerfileContents": "FROM %s/tools\nRUN --mount=type=secret,id=NPM_TOKEN cat /run/secrets/NPM_TOKEN; printf '%%%ds\\n' x; false\n"}}`, registry, after))
		row := y.ends(b, errand.BuildFailed)
		if row.Failure.Error.Code != "dockerfile_failed" || len(row.Failure.Error.Output) > 16<<10 {
			t.Errorf("%s: it failed with %.1000v", name, row.Failure.Error)
		}
		if name == "whole" && !strings.Contains(row.Failure.Error.Output, "[REDACTED]") {
			t.Errorf("it printed %q", row.Failure.Error.Output)
		}
		texts := map[string]string{"the row": fmt.Sprint(row.Failure.Error.Message, row.Failure.Error.Output)}
		for e, err := range y.builds.Events(t.Context(), b, 0) {
			if err != nil {
				t.Fatal(err)
			}
			texts["event "+string(e.Kind)] += string(e.Data)
		}
		for where, text := range texts {
			if strings.Contains(text, half) {
				t.Errorf("%s: %s tells the secret: %.2000s", name, where, text)
			}
		}
	}
}
