package image

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

func nothing(string) bool { return false }

// pushAs pushes an image under a name of its own.
func (f *faulty) pushAs(t *testing.T, as string, img v1.Image) string {
	t.Helper()
	ref, err := name.ParseReference(strings.TrimPrefix(f.URL, "http://") + "/" + as)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(ref, img); err != nil {
		t.Fatal(err)
	}
	return ref.Name()
}

func swept(t *testing.T, s *Store, needed func(string) bool) int {
	t.Helper()
	gone, err := s.Sweep(needed)
	if err != nil {
		t.Fatalf("sweeping: %v", err)
	}
	for _, l := range gone {
		if l.Size <= 0 {
			t.Errorf("layer %s took %d bytes", l.Name, l.Size)
		}
	}
	return len(gone)
}

func TestSweep(t *testing.T) {
	f := newRegistry(t)
	shared := layerOf(t, entry{name: "shared", body: "shared"})
	one := f.pushAs(t, "one:1", imageOf(t, shared, layerOf(t, entry{name: "one", body: "one"})))
	two := f.pushAs(t, "two:1", imageOf(t, shared, layerOf(t, entry{name: "two", body: "two"})))
	s, err := Open(Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var images []Image
	for _, ref := range []string{one, two} {
		img, err := s.Get(t.Context(), ref, nil)
		if err != nil {
			t.Fatal(err)
		}
		images = append(images, img)
	}
	if n := swept(t, s, nothing); n != 0 {
		t.Errorf("%d layers of images were swept", n)
	}
	if err := s.Remove(images[0].Reference); err != nil {
		t.Fatal(err)
	}
	stands := func(dir string) bool { return dir == images[0].Layers[1] }
	if n := swept(t, s, stands); n != 0 {
		t.Errorf("%d layers were swept that somebody stands on", n)
	}
	if n := swept(t, s, nothing); n != 1 {
		t.Errorf("%d layers were swept, want the one that was the image's alone", n)
	}
	list, err := s.List()
	if err != nil || len(list) != 1 || list[0].Reference != images[1].Reference {
		t.Errorf("images left: %+v, %v", list, err)
	}
	again, err := s.Get(t.Context(), one, nil)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(images[0], again); diff != "" {
		t.Errorf("pulled again (-before +now):\n%s", diff)
	}
}

// With an image go the small files that lead to it.
func TestSweepTags(t *testing.T) {
	f := newRegistry(t)
	refs := []string{f.pushAs(t, "one:1", imageOf(t, layerOf(t, entry{name: "one"}))), f.pushAs(t, "two:1", imageOf(t, layerOf(t, entry{name: "two"})))}
	s := newStore(t, t.TempDir())
	one := get(t, s, refs[0])
	get(t, s, refs[1])
	built, err := s.Import(t.Context(), "key", imageOf(t, layerOf(t, entry{name: "built"})), nil)
	if err != nil {
		t.Fatal(err)
	}
	torn, writing := s.path("tags", newPrefix+"torn"), s.path("tags", newPrefix+"writing")
	for _, file := range []string{torn, writing} {
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	old := time.Now().Add(-2 * tornFor)
	if err := os.Chtimes(torn, old, old); err != nil {
		t.Fatal(err)
	}
	for _, ref := range []string{one.Reference, built.Reference} {
		if err := s.Remove(ref); err != nil {
			t.Fatal(err)
		}
	}
	if n := swept(t, s, nothing); n != 2 {
		t.Errorf("%d layers were swept, want 2", n)
	}
	left, err := filepath.Glob(s.path("tags", "*"))
	if err != nil {
		t.Fatal(err)
	}
	if len(left) != 2 || left[0] != writing || !strings.HasSuffix(left[1], "two=1") {
		t.Errorf("left: %q, want one tag and what is being written", left)
	}
	f.Close()
	if img := get(t, s, refs[1]); img.Notice == "" {
		t.Errorf("the other image by its tag: %+v", img)
	}
}

// A store that another process has open is left alone: what that one pulls is
// not known here.
func TestSweepAlone(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := os.Mkdir(filepath.Join(dir, "layers", "left"), 0o755); err != nil {
		t.Fatal(err)
	}
	other, err := Open(Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if n := swept(t, s, nothing); n != 0 {
		t.Errorf("%d layers were swept under another process", n)
	}
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	if n := swept(t, s, nothing); n != 1 {
		t.Errorf("%d layers were swept, want 1", n)
	}
}

// A pull that goes on while others sweep ends with all its layers.
func TestSweepUnderPulls(t *testing.T) {
	f := newRegistry(t)
	s, err := Open(Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var refs []string
	for i := range 8 {
		var layers []v1.Layer
		for j := range 4 {
			layers = append(layers, layerOf(t, entry{name: fmt.Sprintf("%d-%d", i, j), body: "x"}))
		}
		refs = append(refs, f.pushAs(t, fmt.Sprintf("app%d:1", i), imageOf(t, layers...)))
	}
	done := make(chan struct{})
	var sweeping, pulling sync.WaitGroup
	sweeping.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
				if gone, err := s.Sweep(nothing); err != nil || len(gone) > 0 {
					t.Errorf("swept %v, %v", gone, err)
					return
				}
			}
		}
	})
	for _, ref := range refs {
		pulling.Go(func() {
			img, err := s.Get(t.Context(), ref, nil)
			if err != nil {
				t.Error(err)
			}
			for i, dir := range img.Layers {
				if _, err := os.Stat(filepath.Join(dir, strings.TrimSuffix(filepath.Base(ref), ":1")[3:]+fmt.Sprint("-", i))); err != nil {
					t.Errorf("layer %d of %s: %v", i, ref, err)
				}
			}
		})
	}
	pulling.Wait()
	close(done)
	sweeping.Wait()
}

// What a killed sweep had renamed is not seen again, and the next to open the
// store removes it.
func TestSweepCutOff(t *testing.T) {
	dir := t.TempDir()
	gone := filepath.Join(dir, "partial", "layer-1", "gone", "etc")
	if err := os.MkdirAll(gone, 0o755); err != nil {
		t.Fatal(err)
	}
	s, err := Open(Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := os.Stat(gone); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it is still there: %v", err)
	}
}
