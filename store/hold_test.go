package store

import (
	"os"
	"os/exec"
	"testing"
)

// A program that a server starts must not hold the data directory when the
// server is gone.
func TestHoldIsNotShared(t *testing.T) {
	dir := t.TempDir()
	lock, err := Hold(dir)
	if err != nil {
		t.Fatal(err)
	}
	child := exec.Command("cat")
	child.ExtraFiles = []*os.File{lock.(*os.File)} // as between fork and exec
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
	again, err := Hold(dir)
	if err != nil {
		t.Fatal(err)
	}
	again.Close()
}
