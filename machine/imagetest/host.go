//go:build linux

package imagetest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/errand-dev/errand/image"
)

// made is the image "host" that a test program has made for its tests.
var made struct {
	sync.Mutex
	dir string // of a store; "" while nobody wanted it
}

// Main runs a package's tests and removes what Host keeps for them. It gives the
// code to exit with.
func Main(m *testing.M) int {
	code := m.Run()
	made.Lock()
	defer made.Unlock()
	if made.dir != "" {
		if err := os.RemoveAll(made.dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	return code
}

// Host puts the image "host" into dir, which is to be a store of images, as a
// server that has worked there before would have left it. Making it is thousands of
// files, and all that the host has not written yet is written out for it: so a test
// program makes it once, and each store has its own names for the same files, which
// nobody changes. The package's TestMain calls Main.
func Host(t testing.TB, dir string) {
	t.Helper()
	made.Lock()
	defer made.Unlock()
	if made.dir == "" {
		from, err := os.MkdirTemp("", "errand-host-")
		if err != nil {
			t.Fatal(err)
		}
		if err := makeHost(t.Context(), from); err != nil {
			t.Fatal(errors.Join(err, os.RemoveAll(from)))
		}
		made.dir = from
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	// Not the rest: a store's lock is its own.
	if out, err := exec.Command("cp", "-al", filepath.Join(made.dir, "layers"), filepath.Join(made.dir, "manifests"), dir).CombinedOutput(); err != nil {
		t.Fatalf("linking the image of the host: %v\n%s", err, out)
	}
}

func makeHost(ctx context.Context, dir string) (err error) {
	s, err := image.Open(image.Options{Dir: dir})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	_, err = s.Get(ctx, image.Host, nil)
	return err
}
