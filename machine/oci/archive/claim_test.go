//go:build linux

package archive

import (
	"io"
	"os"
	"testing"

	"github.com/errand-dev/errand"
)

// A file that is all hole costs its machine nothing and an archive all its
// length.
func TestHolesAreBounded(t *testing.T) {
	dir := t.TempDir()
	for _, test := range []struct {
		size int64
		fits bool
	}{{1 << 20, true}, {1<<20 + 1, false}} {
		f, err := os.Create(dir + "/sparse")
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Truncate(test.size); err != nil {
			t.Fatal(err)
		}
		f.Close()
		root, err := os.OpenRoot(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer root.Close()
		img := Image{Layers: []Layer{{Parts: []Part{{At: ".", Stack: []*os.Root{root}, MaxFile: 1 << 20}}}}}
		err = Write(t.Context(), io.Discard, img, Options{Temp: t.TempDir()})
		if fits := err == nil; fits != test.fits || !fits && errand.KindOf(err) != errand.Invalid {
			t.Errorf("a file of %d bytes: %v", test.size, err)
		}
	}
}
