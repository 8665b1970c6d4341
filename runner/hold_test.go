package runner

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// A program that a server starts must not hold the data directory when the
// server is gone.
func TestHoldIsNotShared(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	lock, err := hold(path)
	if err != nil {
		t.Fatal(err)
	}
	child := exec.Command("cat")
	child.ExtraFiles = []*os.File{lock} // as between fork and exec
	in, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	defer child.Wait()
	defer in.Close()
	lock.Close()
	again, err := hold(path)
	if err != nil {
		t.Fatal(err)
	}
	again.Close()
}
