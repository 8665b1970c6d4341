package runner_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/errand-dev/errand/runner"
)

// The image that machines stand on by default is made without an agent.
func TestImageIsMadeAtTheStart(t *testing.T) {
	h := build(t, script(talk(".", says("done"))), runner.Defaults{})
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) { // nothing tells of it
		layers, err := filepath.Glob(filepath.Join(h.dir, "images", "layers", "host-*"))
		if err != nil {
			t.Fatal(err)
		}
		for _, layer := range layers {
			if st, err := os.Stat(layer); err == nil && st.IsDir() {
				return
			}
		}
		if time.Now().After(deadline) {
			t.Fatal("there is no image")
		}
	}
}
