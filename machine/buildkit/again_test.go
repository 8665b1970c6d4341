//go:build linux

package buildkit

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sys/unix"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/guest/guesttest"
	"github.com/errand-dev/errand/image"
	"github.com/errand-dev/errand/machine"
	"github.com/errand-dev/errand/machine/buildkit/solver"
	"github.com/errand-dev/errand/machine/imagetest"
)

// told collects what a build tells.
type told struct {
	steps  []machine.ImageStep
	output strings.Builder
}

func (s *told) tell(step machine.ImageStep) {
	s.output.Write(step.Output)
	if step.Ended {
		fmt.Fprintf(&s.output, "%s: line %d, cached %t, took %v\n", step.Name, step.Line, step.Cached, step.Took)
	}
	if step.Ended && step.Line > 0 {
		s.steps = append(s.steps, step)
	}
}

// ran gives, in the order of the file, its lines that did something, and those
// that were cached in brackets.
func (s *told) ran() string {
	slices.SortStableFunc(s.steps, func(a, b machine.ImageStep) int { return a.Line - b.Line })
	var lines []string
	for _, step := range s.steps {
		line := fmt.Sprint(step.Line)
		if step.Cached {
			line = "(" + line + ")"
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, " ")
}

// build builds text in the world and gives the image's reference.
func (w *world) build(b *Builder, text string, change ...func(*machine.ImageBuild)) (string, *told, error) {
	w.t.Helper()
	var s told
	in := machine.ImageBuild{Key: keyOf(text), Name: "Dockerfile", File: []byte(text), Attach: w.attach, Step: s.tell}
	for _, c := range change {
		c(&in)
	}
	ref, err := b.BuildImage(w.t.Context(), in)
	if w.t.Failed() || testing.Verbose() {
		w.t.Logf("error %v, output:\n%s", err, s.output.String())
	}
	return ref, &s, err
}

func (w *world) mustBuild(b *Builder, text string, change ...func(*machine.ImageBuild)) (string, *told) {
	w.t.Helper()
	ref, s, err := w.build(b, text, change...)
	if err != nil {
		w.t.Fatalf("%v\n%s", err, s.output.String())
	}
	return ref, s
}

func TestRebuild(t *testing.T) {
	need(t, Runc)
	w := newWorld(t)
	b := w.builder(Runc)
	const text = "FROM %s/busybox AS build\nRUN echo one >/one\nRUN echo two >/two\nFROM %[1]s/busybox\nCOPY --from=build /two /two\nRUN echo %s >/last\n"
	first, s := w.mustBuild(b, fmt.Sprintf(text, w.host, "a"))
	if got := s.ran(); got != "1 2 3 5 6" && got != "1 2 3 4 5 6" {
		t.Errorf("the first build ran %s", got)
	}
	second, s := w.mustBuild(b, fmt.Sprintf(text, w.host, "b"))
	if got := s.ran(); !strings.HasSuffix(got, "(2) (3) (5) 6") {
		t.Errorf("after a change in the last line it ran %s", got)
	}
	if first == second {
		t.Error("both are one image")
	}
	if got := w.boot("runc", second, "cat /two /last"); got != "two\nb\n" {
		t.Errorf("the second image has %q", got)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}

	// The cache outlives the daemon, and is that of all environments.
	b = w.builder(Runc)
	_, s = w.mustBuild(b, fmt.Sprintf(text, w.host, "c"))
	if got := s.ran(); !strings.HasSuffix(got, "(2) (3) (5) 6") {
		t.Errorf("after a restart it ran %s", got)
	}

	// What was built needs no daemon.
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	b = w.builder(Runc)
	if got, err := b.BuiltImage(t.Context(), keyOf(fmt.Sprintf(text, w.host, "b"))); err != nil || got != second {
		t.Errorf("the second image is %q (%v), want %q", got, err, second)
	}
	if got, err := b.BuiltImage(t.Context(), "no-such-key"); err != nil || got != "" {
		t.Errorf("what was not built is %q, %v", got, err)
	}
	if b.daemon != nil {
		t.Error("a daemon was started for what is there")
	}
}

// TestLayersGone takes the layers away that the builder knows to be there.
func TestLayersGone(t *testing.T) {
	need(t, Runc)
	w := newWorld(t)
	b := w.builder(Runc)
	text := "FROM " + w.host + "/busybox\nRUN echo one >/one\n"
	ref, _ := w.mustBuild(b, text)
	if err := w.images.Remove(ref); err != nil {
		t.Fatal(err)
	}
	if gone, err := w.images.Sweep(func(string) bool { return false }); err != nil || len(gone) != 2 {
		t.Fatalf("swept %v, %v", gone, err)
	}
	if got, err := b.BuiltImage(t.Context(), keyOf(text)); err != nil || got != "" {
		t.Errorf("the image without layers is %q, %v", got, err)
	}
	again, _ := w.mustBuild(b, text)
	if again != ref {
		t.Errorf("built again it is %s, want %s", again, ref)
	}
	if got := w.boot("runc", again, "cat /one"); got != "one\n" {
		t.Errorf("it has %q", got)
	}
}

func TestCancel(t *testing.T) {
	engines(t, func(t *testing.T, engine string) {
		w := newWorld(t)
		b := w.builder(engine)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		_, err := b.BuildImage(ctx, machine.ImageBuild{
			Key: "k", Name: "Dockerfile", Attach: w.attach, File: []byte("FROM " + w.host + "/busybox\nRUN echo begun; sleep 1000\n"),
			Step: func(s machine.ImageStep) {
				if strings.Contains(string(s.Output), "begun") {
					cancel()
				}
			},
		})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled it ends with %v", err)
		}
		pid := b.daemon.pid
		await(t, "the command to end", func() bool { return !strings.Contains(processesOf(t, pid), "sleep") })
		if _, s := w.mustBuild(b, "FROM "+w.host+"/busybox\nRUN echo after\n"); !strings.Contains(s.output.String(), "after") {
			t.Errorf("after it, a build says %q", s.output.String())
		}
	})
}

// await waits for what no event tells of.
func await(t testing.TB, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !done(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// processesOf gives the command lines of a process's network namespace, in
// which all that a daemon starts stays.
func processesOf(t testing.TB, pid int) string {
	t.Helper()
	own, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", pid))
	if err != nil {
		return ""
	}
	return processesIn(own)
}

func processesIn(namespace string) string {
	var all strings.Builder
	found, _ := filepath.Glob("/proc/[0-9]*/ns/net") // the pattern is good
	for _, file := range found {
		if ns, err := os.Readlink(file); err != nil || ns != namespace {
			continue
		}
		line, _ := os.ReadFile(filepath.Join(filepath.Dir(filepath.Dir(file)), "cmdline")) // it may be gone
		fmt.Fprintln(&all, strings.ReplaceAll(string(line), "\x00", " "))
	}
	return all.String()
}

// killedVar makes the test program one that builds until it is killed.
const killedVar = "ERRAND_TEST_BUILD_IN"

// TestKill kills the process that builds with -9 and holds that nothing of it is
// left, and that the next one goes on with its cache.
func TestKill(t *testing.T) {
	engines(t, func(t *testing.T, engine string) {
		w := newWorld(t)
		text := "FROM " + w.host + "/busybox\nRUN echo one\nRUN echo two; [ -e /run/secrets/quick ] || sleep 1000\n"
		child := exec.Command("/proc/self/exe", "-test.run=^$")
		child.Env = append(os.Environ(), killedVar+"="+w.dir, "ERRAND_TEST_ENGINE="+engine, "ERRAND_TEST_TEXT="+text, "ERRAND_TEST_PRIVATE="+w.Prefix().String())
		out, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		child.Stderr = os.Stderr
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		var said strings.Builder
		buf := make([]byte, 1024)
		for !strings.Contains(said.String(), "two") {
			n, err := out.Read(buf)
			if err != nil {
				t.Fatalf("the builder ended: %v, said %q", err, said.String())
			}
			said.Write(buf[:n])
		}
		var pid int
		if _, err := fmt.Sscanf(said.String(), "daemon %d", &pid); err != nil {
			t.Fatalf("%v: %q", err, said.String())
		}
		namespace, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", pid))
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(child.Process.Signal(unix.SIGKILL), ignore(child.Wait())); err != nil {
			t.Fatal(err)
		}
		await(t, "the daemon's processes to end", func() bool { return processesIn(namespace) == "" })
		mounts, err := os.ReadFile("/proc/self/mountinfo")
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(mounts), w.dir) {
			t.Errorf("mounts are left:\n%s", mounts)
		}

		b := w.builder(engine)
		_, s := w.mustBuild(b, strings.ReplaceAll(text, "sleep 1000", "echo three"))
		if got := s.ran(); !strings.HasSuffix(got, "(2) 3") {
			t.Errorf("after the kill it ran %s", got)
		}
		left, err := filepath.Glob(filepath.Join(w.dir, "build", "work", "*"))
		if err != nil || len(left) > 0 {
			t.Errorf("left are %v, %v", left, err)
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		if left := b.group("").Left(); len(left) > 0 {
			t.Errorf("control groups are left: %v", left)
		}
		await(t, "the disk's device to go", func() bool { return len(devicesOf(t, w.dir)) == 0 })
	})
}

// devicesOf gives the loop devices of files in a directory.
func devicesOf(t testing.TB, dir string) (devices []string) {
	t.Helper()
	found, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range found {
		if name, err := os.ReadFile(file); err == nil && strings.HasPrefix(string(name), dir) {
			devices = append(devices, file)
		}
	}
	return devices
}

func ignore(error) error { return nil }

// buildUntilKilled is what the killed process does.
func buildUntilKilled(dir string) error {
	images, err := image.Open(image.Options{Dir: filepath.Join(dir, "images")})
	if err != nil {
		return err
	}
	engine := os.Getenv("ERRAND_TEST_ENGINE")
	b, err := New(Options{Dir: filepath.Join(dir, "build"), Images: images, Daemon: built("buildkitd"), Client: solver.Program(built("errand-buildkit")), Engine: engine, Runsc: program(GVisor), Runc: program(Runc)})
	if err != nil {
		return err
	}
	gate := gateFor(os.Getenv("ERRAND_TEST_PRIVATE"))
	_, err = b.BuildImage(context.Background(), machine.ImageBuild{
		Key: "k", Name: "Dockerfile", File: []byte(os.Getenv("ERRAND_TEST_TEXT")), Attach: gate,
		Step: func(s machine.ImageStep) {
			if strings.Contains(string(s.Output), "one") {
				fmt.Println("daemon", b.daemon.pid)
			}
			os.Stdout.Write(s.Output)
		},
	})
	return err
}

// TestIdle holds that the daemon ends when there is nothing to build, and comes
// again.
func TestIdle(t *testing.T) {
	need(t, Runc)
	w := newWorld(t)
	b := w.builder(Runc)
	b.opts.Idle = 10 * time.Millisecond
	w.mustBuild(b, "FROM "+w.host+"/busybox\nRUN echo 1\n")
	first := b.daemonNow()
	if first == nil {
		t.Fatal("no daemon after a build")
	}
	<-first.ended
	await(t, "the builder to notice", func() bool { return b.daemonNow() == nil })
	b.opts.Idle = time.Hour
	w.mustBuild(b, "FROM "+w.host+"/busybox\nRUN echo 2\n")
	if second := b.daemonNow(); second == nil || second == first || !second.alive() {
		t.Errorf("the next build has the daemon %+v", second)
	}
}

// daemonNow waits for a build or an ending under way.
func (b *Builder) daemonNow() *daemon {
	if err := b.turns.Acquire(context.Background(), 1); err != nil {
		panic(err)
	}
	defer b.turns.Release(1)
	return b.daemon
}

func TestOffMain(t *testing.T) {
	const threads = 64
	release, ids := make(chan struct{}), make(chan int, threads)
	var all sync.WaitGroup
	all.Add(threads)
	for range threads {
		offMain(func() {
			defer all.Done()
			ids <- unix.Gettid()
			<-release
		})
	}
	seen := map[int]bool{}
	for range threads {
		id := <-ids
		if id == os.Getpid() || seen[id] {
			t.Errorf("thread %d of process %d has a function, another has too: %t", id, os.Getpid(), seen[id])
		}
		seen[id] = true
	}
	close(release)
	all.Wait()
}

// TestTurns asks for one image twice at once.
func TestTurns(t *testing.T) {
	need(t, Runc)
	w := newWorld(t)
	b := w.builder(Runc)
	text := "FROM " + w.host + "/busybox\nRUN echo once\n"
	var all sync.WaitGroup
	refs, ran := make([]string, 2), make([]string, 2)
	for i := range refs {
		all.Go(func() {
			ref, s, err := w.build(b, text)
			if err != nil {
				t.Error(err)
			}
			refs[i], ran[i] = ref, s.ran()
		})
	}
	all.Wait()
	slices.Sort(ran)
	if diff := cmp.Diff([]string{"", "1 2"}, ran); diff != "" || refs[0] != refs[1] {
		t.Errorf("%v; ran (-want +got):\n%s", refs, diff)
	}

	// One who waits for a turn may leave.
	if err := b.turns.Acquire(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := b.BuildImage(ctx, machine.ImageBuild{Key: "other", Name: "Dockerfile", File: []byte(text)}); !errors.Is(err, context.Canceled) {
		t.Errorf("it waits on: %v", err)
	}
	b.turns.Release(1)
}

// What is noted of layers goes with the images that have them.
func TestNotesGo(t *testing.T) {
	guesttest.Root(t)
	images, err := image.Open(image.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer images.Close()
	b, err := New(Options{Dir: t.TempDir(), Images: images})
	if err != nil {
		t.Fatal(err)
	}
	keep := func(key string) string {
		t.Helper()
		img := imagetest.Image(t, v1.Config{}, imagetest.File{Name: key, Mode: 0o644})
		kept, err := images.Import(t.Context(), key, img, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := b.note(kept.Reference, img); err != nil {
			t.Fatal(err)
		}
		return kept.Reference
	}
	notes := func() int {
		t.Helper()
		list, err := os.ReadDir(b.path("known"))
		if err != nil {
			t.Fatal(err)
		}
		return len(list)
	}
	first := keep("one")
	keep("two")
	if n := notes(); n != 2 {
		t.Errorf("%d notes of two images with one layer each", n)
	}
	if err := images.Remove(first); err != nil {
		t.Fatal(err)
	}
	keep("three")
	if n := notes(); n != 2 {
		t.Errorf("%d notes after one of three images was removed", n)
	}
}

func TestMissingPrograms(t *testing.T) {
	images, err := image.Open(image.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer images.Close()
	for _, test := range []struct {
		opts Options
		code string
	}{
		{Options{Runsc: "/bin/true"}, "builder_missing"},
		{Options{Daemon: "/bin/true", Runsc: "/bin/true"}, "builder_missing"},
		{Options{Daemon: "/bin/true", Client: "/bin/true"}, "engine_missing"},
		{Options{Daemon: "/bin/true", Client: "/bin/true", Engine: Runc, Runsc: "/bin/true"}, "engine_missing"},
	} {
		test.opts.Dir, test.opts.Images = t.TempDir(), images
		b, err := New(test.opts)
		if err != nil {
			t.Fatal(err)
		}
		_, err = b.BuildImage(t.Context(), machine.ImageBuild{Key: "k", Name: "Dockerfile", File: []byte("FROM scratch\n")})
		if e := errand.AsError(err); e == nil || e.Code != test.code || e.Kind != errand.Unavailable {
			t.Errorf("error %v, want code %s", err, test.code)
		}
		if f := b.Inspect(t.Context())[0]; f.OK || f.Detail != err.Error() {
			t.Errorf("it finds %+v", f)
		}
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	}
}
