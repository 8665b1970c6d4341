package image

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/errand-dev/errand"
)

// unpackStream unpacks what write writes into a new directory of s.
func unpackStream(t *testing.T, s *Store, write func(*tar.Writer) error) (string, error) {
	t.Helper()
	r, w := io.Pipe()
	written := make(chan struct{})
	go func() {
		defer close(written)
		tw := tar.NewWriter(w)
		w.CloseWithError(errors.Join(write(tw), tw.Close()))
	}()
	dir := t.TempDir()
	err := s.unpack(t.Context(), r, dir, nil)
	r.Close()
	<-written
	return dir, err
}

// The memory that a layer takes does not grow with what its entries carry, and
// an entry that comes again takes none.
func TestUnpackMemory(t *testing.T) {
	s := newStore(t, t.TempDir())
	note := strings.Repeat("x", 512<<10)
	const times = 100
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before, during := heap(), uint64(0)
	_, err := unpackStream(t, s, func(w *tar.Writer) error {
		for i := range times {
			h := &tar.Header{Name: fmt.Sprintf("d%d/", i%10), Typeflag: tar.TypeDir, Mode: 0o755, Format: tar.FormatPAX, PAXRecords: map[string]string{"ERRAND.note": note}}
			if err := w.WriteHeader(h); err != nil {
				return err
			}
		}
		during = heap()
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if grown := int64(during) - int64(before); grown > times*int64(len(note))/4 {
		t.Errorf("after %d directories with %d KiB of notes each, %d MiB are held", times, len(note)>>10, grown>>20)
	}
}

func TestUnpackBounds(t *testing.T) {
	s := newStore(t, t.TempDir())
	var bad *badEntry
	_, err := unpackStream(t, s, func(w *tar.Writer) error {
		return w.WriteHeader(&tar.Header{Name: strings.Repeat("a/", 3000) + "b", Typeflag: tar.TypeDir, Mode: 0o755, Format: tar.FormatPAX})
	})
	if !errors.As(err, &bad) || !errors.Is(err, unix.ENAMETOOLONG) {
		t.Errorf("a name that nothing could open: %v", err)
	}
	u := &unpacker{room: room{store: s}, dirs: map[string]time.Time{}, dirsSpace: maxDirsSpace - 100}
	if err := u.keepTime("one", time.Time{}); err != nil {
		t.Errorf("a directory within bounds: %v", err)
	}
	if err := u.keepTime("one", time.Time{}); err != nil {
		t.Errorf("the same again: %v", err)
	}
	if err := u.keepTime("two", time.Time{}); err == nil {
		t.Error("there is no end to directories")
	}
	u.entries = maxEntries
	if err := u.entry(t.Context(), &tar.Header{Name: "x"}, &bytes.Reader{}); !errors.As(err, &bad) {
		t.Errorf("one entry too many: %v", err)
	}
}

// A directory has the time that its last entry says, whatever was put into it,
// and what replaced it has its own.
func TestUnpackTimes(t *testing.T) {
	s := newStore(t, t.TempDir())
	at := func(year int) time.Time { return time.Date(year, 1, 1, 0, 0, 0, 0, time.UTC) }
	dir, err := unpackStream(t, s, func(w *tar.Writer) error {
		var errs []error
		for _, h := range []tar.Header{
			{Name: "kept/", Typeflag: tar.TypeDir, ModTime: at(2001)},
			{Name: "kept/file", Typeflag: tar.TypeReg, ModTime: at(2002)},
			{Name: "kept/", Typeflag: tar.TypeDir, ModTime: at(2003)},
			{Name: "gone/", Typeflag: tar.TypeDir, ModTime: at(2004)},
			{Name: "gone/below/", Typeflag: tar.TypeDir, ModTime: at(2005)},
			{Name: "gone", Typeflag: tar.TypeReg, ModTime: at(2006)},
		} {
			h.Mode = 0o755
			errs = append(errs, w.WriteHeader(&h))
		}
		return errors.Join(errs...)
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, year := range map[string]int{"kept": 2003, "kept/file": 2002, "gone": 2006} {
		if st, err := os.Stat(filepath.Join(dir, name)); err != nil || !st.ModTime().Equal(at(year)) {
			t.Errorf("%s is of %v, %v, want %d", name, st.ModTime(), err, year)
		}
	}
}

// endless counts the zeros that were read of it.
type endless struct{ read int64 }

func (e *endless) Read(b []byte) (int, error) {
	clear(b)
	e.read += int64(len(b))
	return len(b), nil
}

// The disk's reserve holds however large one file is, or however many there are.
func TestUnpackReserve(t *testing.T) {
	s := newStore(t, t.TempDir())
	s.opts.Reserve = math.MaxInt64
	var header bytes.Buffer
	if err := tar.NewWriter(&header).WriteHeader(&tar.Header{Name: "big", Typeflag: tar.TypeReg, Mode: 0o644, Size: 200 << 20}); err != nil {
		t.Fatal(err)
	}
	var zeros endless
	err := s.unpack(t.Context(), io.MultiReader(&header, io.LimitReader(&zeros, 200<<20)), t.TempDir(), nil)
	var known *errand.Error
	if !errors.As(err, &known) || known.Code != "disk_full" {
		t.Errorf("one large file: %v", err)
	}
	if zeros.read > stride+4<<20 {
		t.Errorf("%d MiB were read before the disk was looked at", zeros.read>>20)
	}
	_, err = unpackStream(t, s, func(w *tar.Writer) error {
		for i := range stride/fileRoom + 1 {
			if err := w.WriteHeader(&tar.Header{Name: fmt.Sprint(i), Typeflag: tar.TypeSymlink, Linkname: "x"}); err != nil {
				return err
			}
		}
		return nil
	})
	if !errors.As(err, &known) || known.Code != "disk_full" {
		t.Errorf("many small files: %v", err)
	}
}
