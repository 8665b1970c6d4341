//go:build linux

package buildkit

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"strings"
	"testing"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/machine"
)

// TestShrinkCache takes away a part of the cache, the older one, and then all.
func TestShrinkCache(t *testing.T) {
	need(t, Runc)
	w := newWorld(t)
	b := w.builder(Runc)
	if c, err := b.StoredCache(t.Context()); err != nil || c.Size != 0 || c.Busy {
		t.Errorf("before the first build the cache is %+v, %v", c, err)
	}
	const large = 24 << 20
	text := func(i int) string {
		return fmt.Sprintf("FROM %s/busybox\nRUN dd if=/dev/urandom of=/large bs=1M count=%d # %d\n", w.host, large>>20, i)
	}
	builds := 0
	again := func(i int, cached bool) {
		t.Helper()
		builds++
		_, s := w.mustBuild(b, text(i), func(in *machine.ImageBuild) { in.Key += fmt.Sprint("-", builds) })
		if got := fmt.Sprintf("# %d: line 2, cached %t", i, cached); !strings.Contains(s.output.String(), got) {
			t.Errorf("build %d: want cached %t:\n%s", i, cached, s.output.String())
		}
	}
	w.mustBuild(b, text(1))
	w.mustBuild(b, text(2), func(in *machine.ImageBuild) {
		in.Context = func(context.Context, *os.Root) error {
			c, err := b.StoredCache(t.Context())
			freed, shrinkErr := b.ShrinkCache(t.Context(), 1)
			if !c.Busy || freed != 0 {
				t.Errorf("while a build is under way the cache is %+v, and gives %d", c, freed)
			}
			return errors.Join(err, shrinkErr)
		}
	})
	before, err := b.StoredCache(t.Context())
	if err != nil || before.Size < 2*large || before.Busy || before.Used.IsZero() {
		t.Errorf("after two builds the cache is %+v, %v", before, err)
	}
	freed, err := b.ShrinkCache(t.Context(), large/2)
	after, err2 := b.StoredCache(t.Context())
	if err != nil || err2 != nil || freed < large/2 || freed > before.Size-large || after.Size > before.Size-large/2 {
		t.Errorf("it gave %d, and from %d it has %d; %v, %v", freed, before.Size, after.Size, err, err2)
	}
	again(2, true)
	again(1, false)

	freed, err = b.ShrinkCache(t.Context(), before.Size*10)
	if _, statErr := os.Stat(b.path("disk.img")); err != nil || freed < 2*large || !os.IsNotExist(statErr) {
		t.Errorf("all of it gave %d, %v; %v", freed, err, statErr)
	}
	if c, err := b.StoredCache(t.Context()); err != nil || c.Size != 0 {
		t.Errorf("then the cache is %+v, %v", c, err)
	}
	again(1, false)
}

// TestShrinkShort makes room where the disk is short, which is when it is asked
// to, and where there is no daemon any more; a build is refused there.
func TestShrinkShort(t *testing.T) {
	need(t, Runc)
	w := newWorld(t)
	text := fmt.Sprintf("FROM %s/busybox\nRUN dd if=/dev/urandom of=/large bs=1M count=24\n", w.host)
	b := w.builder(Runc)
	w.mustBuild(b, text)
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	b = w.builder(Runc, func(o *Options) { o.Reserve = math.MaxInt64 })
	var known *errand.Error
	if _, _, err := w.build(b, text+"RUN true\n"); !errors.As(err, &known) || known.Code != "disk_full" {
		t.Errorf("a build says %v", err)
	}
	if freed, err := b.ShrinkCache(t.Context(), 12<<20); err != nil || freed < 12<<20 {
		t.Errorf("the cache gave %d, %v", freed, err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	b = w.builder(Runc, func(o *Options) { o.Daemon = "" })
	if freed, err := b.ShrinkCache(t.Context(), 1); err != nil || freed == 0 {
		t.Errorf("without a daemon the cache gave %d, %v", freed, err)
	}
	if c, err := b.StoredCache(t.Context()); err != nil || c.Size != 0 {
		t.Errorf("then the cache is %+v, %v", c, err)
	}
}

// TestExportLeavesRoom has the disk run short while a build is under way: the
// image is not written beyond the reserve.
func TestExportLeavesRoom(t *testing.T) {
	need(t, Runc)
	w := newWorld(t)
	b := w.builder(Runc)
	text := fmt.Sprintf("FROM %s/busybox\nRUN dd if=/dev/zero of=/large bs=1M count=100\n", w.host)
	_, _, err := w.build(b, text, func(in *machine.ImageBuild) {
		in.Context = func(context.Context, *os.Root) error {
			b.opts.Reserve = math.MaxInt64 // what was looked at before the build was ample
			return nil
		}
	})
	var known *errand.Error
	if !errors.As(err, &known) || known.Code != "disk_full" {
		t.Errorf("the build says %v", err)
	}
}
