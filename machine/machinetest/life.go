package machinetest

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/errand-dev/errand/machine"
)

func testLifecycle(t *testing.T, s Subject) {
	d := open(t, s, t.TempDir())
	m := create(t, s, d, "one")
	l := line(t, m)
	if got := sh(t, l, "echo hello"); got != "hello" {
		t.Errorf("a command printed %q", got)
	}
	again := create(t, s, d, "one")
	if got := line(t, again).Hello().Boot; got != l.Hello().Boot {
		t.Errorf("a second Create started the machine anew")
	}
	found, err := d.Open(t.Context(), m.Handle())
	if err != nil {
		t.Fatalf("opening by handle: %v", err)
	}
	if got := line(t, found).Hello().Boot; got != l.Hello().Boot {
		t.Errorf("Open found another machine")
	}
	if diff := cmp.Diff([]machine.ID{"one"}, listed(t, d)); diff != "" {
		t.Errorf("List (-want +got):\n%s", diff)
	}
	for range 2 {
		if err := m.Destroy(t.Context()); err != nil {
			t.Fatalf("destroying: %v", err)
		}
	}
	if ids := listed(t, d); len(ids) != 0 {
		t.Errorf("after Destroy, List has %v", ids)
	}
	if _, err := d.Open(t.Context(), m.Handle()); !errors.Is(err, machine.ErrNotFound) {
		t.Errorf("after Destroy, Open gives %v, want ErrNotFound", err)
	}
	if _, err := m.Dial(t.Context()); !errors.Is(err, machine.ErrStopped) && !errors.Is(err, machine.ErrNotFound) {
		t.Errorf("after Destroy, Dial gives %v, want ErrStopped or ErrNotFound", err)
	}
}

func testCreateAtOnce(t *testing.T, s Subject) {
	d := open(t, s, t.TempDir())
	ids := []machine.ID{"same", "same", "same", "other"}
	boots := make([]string, len(ids))
	var wg sync.WaitGroup
	for i, id := range ids {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			m, err := d.Create(ctx, id, s.Spec)
			if err != nil {
				t.Errorf("creating %s: %v", id, err)
				return
			}
			l, err := openLine(ctx, m)
			if err != nil {
				t.Errorf("opening line to %s: %v", id, err)
				return
			}
			defer l.Close()
			boots[i] = l.Hello().Boot
		})
	}
	wg.Wait()
	if boots[0] != boots[1] || boots[1] != boots[2] {
		t.Errorf("three Creates of one id made several machines: %v", boots)
	}
	if boots[0] == boots[3] {
		t.Errorf("two ids gave one machine")
	}
}

func testInside(t *testing.T, s Subject) {
	const secret = "of-the-server-alone"
	t.Setenv("ERRAND_MACHINETEST_SECRET", secret)
	shown := t.TempDir()
	if err := os.WriteFile(filepath.Join(shown, "file"), []byte("shown"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(shown, 0o755); err != nil {
		t.Fatal(err)
	}
	d := open(t, s, t.TempDir())
	m := create(t, s, d, "inside", func(spec *machine.Spec) {
		spec.Env = []string{"COLOUR=green"}
		spec.Hostname = "garden"
		spec.Mounts = []machine.Mount{{Source: shown, Target: "/errand/shown"}}
	})
	l := line(t, m)
	checks := []struct{ name, command, want string }{
		{"own variable", "echo $COLOUR", "green"},
		{"server's variables", "cat /proc/1/environ | tr '\\0' '\\n' | grep -c " + secret + " || true", "0"},
		{"hostname", "hostname", "garden"},
		{"root", "id -u", "0"},
		{"shown directory", "cat /errand/shown/file", "shown"},
		{"shown directory is read-only", "touch /errand/shown/new 2>/dev/null && echo written || echo refused", "refused"},
		{"temporary files", "echo x > /tmp/x && cat /tmp/x", "x"},
		{"other users", "touch /tmp/mine && chown 33:33 /tmp/mine && stat -c %u:%g /tmp/mine", "33:33"},
		{"names resolve at the gateway", "grep -c ^nameserver /etc/resolv.conf", "1"},
		{"processes of its own", "test $(ls -d /proc/[0-9]* | wc -l) -lt 20 && echo few", "few"},
	}
	for _, c := range checks {
		if got := sh(t, l, c.command); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func testBadSetup(t *testing.T, s Subject) {
	d := open(t, s, t.TempDir())
	bad := []struct {
		name   string
		change func(*machine.Spec)
	}{
		{"image", func(spec *machine.Spec) { spec.Image = "NOT/an image" }},
		{"engine", func(spec *machine.Spec) { spec.Engine = "steam" }},
		{"snapshot", func(spec *machine.Spec) { spec.From = "abcdef" }},
	}
	for _, b := range bad {
		spec := s.Spec
		b.change(&spec)
		_, err := d.Create(t.Context(), machine.ID("bad-"+b.name), spec)
		var setup *machine.SetupError
		if !errors.As(err, &setup) {
			t.Errorf("bad %s: Create gives %v, want a SetupError", b.name, err)
		}
	}
	// What failed once is not spoilt for good.
	l := line(t, create(t, s, d, "bad-image"))
	if got := sh(t, l, "echo well"); got != "well" {
		t.Errorf("after a failed Create, a command printed %q", got)
	}
}

func testKilledOutside(t *testing.T, s Subject) {
	d := open(t, s, t.TempDir())
	m := create(t, s, d, "victim")
	l := line(t, m)
	boot := l.Hello().Boot
	sh(t, l, "echo kept > /var/kept; sync")
	if err := s.KillOutside(m); err != nil {
		t.Fatalf("killing: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if _, err := m.Dial(ctx); !errors.Is(err, machine.ErrStopped) {
		t.Errorf("Dial of a killed machine gives %v, want ErrStopped", err)
	}
	if found, err := d.Open(ctx, m.Handle()); err != nil {
		t.Errorf("opening a killed machine: %v", err)
	} else if _, err := found.Dial(ctx); !errors.Is(err, machine.ErrStopped) {
		t.Errorf("Dial of a found one gives %v, want ErrStopped", err)
	}
	l = line(t, create(t, s, d, "victim"))
	if got := sh(t, l, "cat /var/kept"); got != "kept" || l.Hello().Boot == boot {
		t.Errorf("started again, the machine has %q and boot %s (before: %s)", got, l.Hello().Boot, boot)
	}
}

func testHibernate(t *testing.T, s Subject) {
	d := open(t, s, t.TempDir())
	m := create(t, s, d, "sleeper")
	h, ok := m.(machine.Hibernator)
	if !ok {
		t.Skip("this driver does not hibernate")
	}
	l := line(t, m)
	sh(t, l, "echo dream > /root/dream; mkdir -p /usr/local/x; echo deep > /usr/local/x/y; sleep 1000 >/dev/null 2>&1 & echo $! > /root/pid")
	for range 2 {
		if err := h.Hibernate(t.Context()); err != nil {
			t.Fatalf("hibernating: %v", err)
		}
	}
	if _, err := m.Dial(t.Context()); !errors.Is(err, machine.ErrStopped) {
		t.Errorf("Dial of a hibernated machine gives %v, want ErrStopped", err)
	}
	woken := line(t, create(t, s, d, "sleeper", func(spec *machine.Spec) { spec.Env = []string{"MOOD=fresh"} }))
	if woken.Hello().Boot == l.Hello().Boot {
		t.Errorf("the machine did not stop")
	}
	if got := sh(t, woken, "cat /root/dream /usr/local/x/y; echo $MOOD"); got != "dream\ndeep\nfresh" {
		t.Errorf("woken, the machine has %q", got)
	}
	if got := sh(t, woken, "pgrep -x sleep || ls /proc | grep -c nothing || true"); got != "0" && got != "" {
		t.Errorf("processes outlived the stop: %q", got)
	}
}

func testSnapshot(t *testing.T, s Subject) {
	d := open(t, s, t.TempDir())
	snaps, ok := d.(machine.Snapshots)
	if !ok {
		t.Skip("this driver keeps no snapshots")
	}
	const key = "0123-abc"
	t.Cleanup(func() {
		if err := snaps.RemoveSnapshot(context.Background(), key); err != nil {
			t.Errorf("removing snapshot: %v", err)
		}
	})
	first := create(t, s, d, "first")
	sh(t, line(t, first), "mkdir -p /srv/tree/deep && echo 1 > /srv/tree/deep/file && chown 33:44 /srv/tree/deep/file && rm -rf /var/local && echo u > /usr/local/u")
	for range 2 {
		if err := first.(machine.Snapshotter).Snapshot(t.Context(), key); err != nil {
			t.Fatalf("keeping snapshot: %v", err)
		}
	}
	if has, err := snaps.HasSnapshot(t.Context(), key); err != nil || !has {
		t.Fatalf("HasSnapshot: %v, %v", has, err)
	}
	if list, err := snaps.ListSnapshots(t.Context()); err != nil || len(list) != 1 || list[0].Key != key {
		t.Fatalf("ListSnapshots: %+v, %v", list, err)
	}
	var wg sync.WaitGroup
	for _, id := range []machine.ID{"first", "second", "third"} {
		wg.Go(func() { checkOnSnapshot(t, s, d, id, key) })
	}
	wg.Wait()
	if err := snaps.RemoveSnapshot(t.Context(), key); err != nil {
		t.Fatalf("removing snapshot: %v", err)
	}
	if has, err := snaps.HasSnapshot(t.Context(), key); err != nil || has {
		t.Errorf("after RemoveSnapshot, HasSnapshot: %v, %v", has, err)
	}
	second := create(t, s, d, "second")
	if err := second.(machine.Hibernator).Hibernate(t.Context()); err != nil {
		t.Fatal(err)
	}
	second = create(t, s, d, "second")
	if got := sh(t, line(t, second), "cat /srv/moved/deep/file /usr/local/u"); got != "1\nu" {
		t.Errorf("without its snapshot's name, a machine has %q", got)
	}
}

// checkOnSnapshot does on a machine what fails where layers do not stack well:
// a directory of the snapshot is renamed, a removed one stays removed.
func checkOnSnapshot(t *testing.T, s Subject, d machine.Driver, id machine.ID, key machine.SnapshotKey) {
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	spec := s.Spec
	spec.From = key
	m, err := d.Create(ctx, id, spec)
	if err != nil {
		t.Errorf("creating %s on snapshot: %v", id, err)
		return
	}
	l, err := openLine(ctx, m)
	if err != nil {
		t.Errorf("opening line: %v", err)
		return
	}
	defer l.Close()
	const command = `set -e
stat -c %u:%g /srv/tree/deep/file; test ! -e /var/local; cat /usr/local/u
echo "$(hostname)" > /srv/own
python3 -c 'import os; os.rename("/srv/tree", "/srv/moved")' || mv /srv/tree /srv/moved
cat /srv/moved/deep/file; test ! -e /srv/tree; cat /srv/own`
	out, exit, err := try(ctx, l, command)
	if want := strings.Join([]string{"33:44", "u", "1", string(id)}, "\n"); err != nil || exit.Code != 0 || out != want {
		t.Errorf("%s on snapshot: exit %+v, error %v, printed %q, want %q", id, exit, err, out, want)
	}
}

// testRestart is a server that ends in an orderly way and comes back.
func testRestart(t *testing.T, s Subject) {
	dir := t.TempDir()
	before, err := s.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	m := create(t, s, before, "stays")
	boot := line(t, m).Hello().Boot
	if err := before.Close(); err != nil {
		t.Fatal(err)
	}
	d := open(t, s, dir)
	found, err := d.Open(t.Context(), m.Handle())
	if err != nil {
		t.Fatalf("opening by handle: %v", err)
	}
	if got := line(t, found).Hello().Boot; got != boot {
		t.Errorf("the machine was started anew")
	}
}
