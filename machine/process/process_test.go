//go:build linux

package process

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// TestHalt halts processes in the middle of a write, which goes on although they
// are killed: not a byte comes afterwards.
func TestHalt(t *testing.T) {
	for range 20 {
		file := filepath.Join(t.TempDir(), "file")
		cmd := exec.Command("dd", "if=/dev/zero", "of="+file, "bs=1M", "oflag=direct", "status=none")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		p, err := Find(cmd.Process.Pid)
		if err != nil {
			t.Fatal(err)
		}
		for deadline := time.Now().Add(20 * time.Second); size(t, file) == 0; time.Sleep(time.Millisecond) { // it tells nobody
			if time.Now().After(deadline) {
				t.Fatal("nothing is written")
			}
		}
		if err := p.Halt(t.Context()); err != nil {
			t.Error(err)
		}
		halted := size(t, file)
		if err := cmd.Wait(); err == nil {
			t.Error("a process that was halted has ended well")
		}
		if at := size(t, file); at != halted {
			t.Errorf("%d bytes when it was halted, %d when it was gone", halted, at)
		}
		if err := p.Halt(t.Context()); err != nil {
			t.Errorf("halting what is gone: %v", err)
		}
	}
}

// size gives the size of a file, 0 where there is none yet.
func size(t *testing.T, file string) int64 {
	t.Helper()
	info, err := os.Stat(file)
	if os.IsNotExist(err) {
		return 0
	}
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}
