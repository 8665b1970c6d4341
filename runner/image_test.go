package runner_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/errand-dev/errand/runner"
)

// The image that machines stand on by default is made without an agent.
func TestImageIsMadeAtTheStart(t *testing.T) {
	h := build(t, script(talk(".", says("done"))), runner.Defaults{})
	h.stop()
	if err := errors.Join(os.RemoveAll(filepath.Join(h.dir, "images", "layers")), os.Mkdir(filepath.Join(h.dir, "images", "layers"), 0o700)); err != nil {
		t.Fatal(err)
	}
	h.run()
	await(t, "the image", func() bool {
		layers, err := filepath.Glob(filepath.Join(h.dir, "images", "layers", "host-*"))
		if err != nil {
			t.Fatal(err)
		}
		return slices.ContainsFunc(layers, func(layer string) bool {
			st, err := os.Stat(layer)
			return err == nil && st.IsDir()
		})
	})
}
