package bench

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/errand-dev/errand/guest/guesttest"
	"github.com/errand-dev/errand/image"
	"github.com/errand-dev/errand/machine"
	"github.com/errand-dev/errand/machine/oci"
	"github.com/errand-dev/errand/store"
)

// options are for real machines of an engine.
func options(t *testing.T, parts ...string) Options {
	t.Helper()
	guesttest.Root(t)
	guest, runsc, errand := guesttest.Program(t, "errand-guest"), guesttest.Program(t, "runsc"), guesttest.Program(t, "errand")
	return Options{
		Dir: t.TempDir(), Engines: []string{"gvisor"}, Only: parts, Quick: true,
		Driver: func(dir, engine string, images *image.Store) (machine.Driver, error) {
			return oci.New(oci.Options{Dir: dir, Images: images, Guest: guest, Runsc: runsc, DefaultEngine: engine})
		},
		Server: func(data string, o ServerOptions) *exec.Cmd {
			return exec.Command(errand, "serve", "--json", "--data", data, "--listen", "127.0.0.1:0", "--runs", "1", "--idle", o.Idle.String())
		},
	}
}

// checkClean wants nothing left of a run in dir.
func checkClean(t *testing.T, dir string) {
	t.Helper()
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, dir) {
			t.Errorf("still mounted: %s", line)
		}
	}
	processes, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range processes {
		if line, err := os.ReadFile(p); err == nil && strings.Contains(string(line), dir) {
			t.Errorf("still running: %q", line)
		}
	}
	rigs, err := filepath.Glob(filepath.Join(dir, "*", "machines", "*", "*"))
	if err != nil || len(rigs) > 0 {
		t.Errorf("still there: %q (%v)", rigs, err)
	}
}

func TestRunMeasuresRealMachines(t *testing.T) {
	o := options(t, "spawn", "exec", "egress")
	var told int
	o.Tell = func(string) { told++ }
	r, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range r.Results {
		got = append(got, f.Part+" "+f.Unit)
		if f.Samples == 0 || f.Subject != "gvisor" || f.Min > f.P50 || f.P50 > f.P99 || f.P99 > f.Max {
			t.Errorf("not a figure: %+v", f)
		}
	}
	want := []string{"spawn ms", "spawn ms", "exec ms", "exec ms", "exec ms", "egress MB/s", "egress MB/s"}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if told != len(want) {
		t.Errorf("%d figures were told, want %d", told, len(want))
	}
	checkClean(t, o.Dir)
}

// TestSSHIsMeasured wants a figure each way, by SFTP and through a command.
func TestSSHIsMeasured(t *testing.T) {
	o := options(t, "ssh")
	r, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Skipped) > 0 {
		guesttest.Lacking(t, "%s", r.Skipped[0])
	}
	if len(r.Results) != 4 {
		t.Fatalf("the figures are %+v", r.Results)
	}
	for _, f := range r.Results {
		if f.Unit != "MB/s" || f.Samples != 5 || f.Min <= 0 {
			t.Errorf("not a figure: %+v", f)
		}
	}
	checkClean(t, o.Dir)
}

// TestUnchangedIsMeasured wants a figure of each kind of run, and what lies
// between them.
func TestUnchangedIsMeasured(t *testing.T) {
	o := options(t, "unchanged")
	r, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Results) != 3 {
		t.Fatalf("the figures are %+v", r.Results)
	}
	without, with, adds := r.Results[0], r.Results[1], r.Results[2]
	for _, f := range []Result{without, with} {
		if f.Samples != 2 || f.Subject != "gvisor" || f.Min <= 0 {
			t.Errorf("not a figure: %+v", f)
		}
	}
	if adds.Samples != 2 || adds.Min < with.Min-without.Max || adds.Max > with.Max-without.Min {
		t.Errorf("%+v does not lie between %+v and %+v", adds, without, with)
	}
	checkClean(t, o.Dir)
}

// TestRunCleansUpWhenInterrupted ends a run in the middle.
func TestRunCleansUpWhenInterrupted(t *testing.T) {
	for _, part := range []string{"crowd"} {
		t.Run(part, func(t *testing.T) {
			o := options(t, part)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			done := make(chan error, 1)
			go func() { _, err := Run(ctx, o); done <- err }()
			awaitMachine(t, o.Dir)
			cancel()
			if err := <-done; !errors.Is(err, context.Canceled) {
				t.Errorf("an interrupted run ended with %v", err)
			}
			checkClean(t, o.Dir)
		})
	}
}

// awaitMachine returns when a machine has been begun below dir. Another
// goroutine's files are no event here.
func awaitMachine(t *testing.T, dir string) {
	t.Helper()
	for range 3000 {
		if found, _ := filepath.Glob(filepath.Join(dir, "*", "machines", "machines", "*")); len(found) > 0 {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("no machine was begun")
}

func TestQuantile(t *testing.T) {
	hundred := make([]float64, 100)
	for i := range hundred {
		hundred[i] = float64(i + 1)
	}
	for _, c := range []struct {
		sorted []float64
		q      float64
		want   float64
	}{
		{[]float64{7}, 0.5, 7},
		{[]float64{7}, 0.99, 7},
		{[]float64{1, 2}, 0.5, 1},
		{[]float64{1, 2, 3}, 0.5, 2},
		{[]float64{1, 2, 3}, 0.99, 3},
		{hundred, 0.5, 50},
		{hundred, 0.95, 95},
		{hundred, 0.99, 99},
		{hundred, 1, 100},
	} {
		if got := quantile(c.sorted, c.q); got != c.want {
			t.Errorf("quantile %v of %v = %v, want %v", c.q, c.sorted, got, c.want)
		}
	}
}

func TestHistoryIsWhatIsMeasured(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "r.git")
	if err := makeHistory(t.Context(), dir, 120); err != nil {
		t.Fatal(err)
	}
	for args, want := range map[string]int{"rev-list main": 120, "ls-tree -r --name-only main": repositoryFiles, "diff --name-only main~1 main": 1} {
		out, err := exec.Command("git", append([]string{"-C", dir}, strings.Fields(args)...)...).Output()
		if err != nil {
			t.Fatalf("git %s: %v", args, err)
		}
		if got := strings.Count(string(out), "\n"); got != want {
			t.Errorf("git %s gives %d lines, want %d", args, got, want)
		}
	}
}

func TestFillStoresWholeAgents(t *testing.T) {
	path := filepath.Join(t.TempDir(), "errand.db")
	if err := fill(t.Context(), path, 30); err != nil {
		t.Fatal(err)
	}
	s, err := store.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	page, _, err := s.Agents(t.Context(), store.AgentQuery{Limit: 100})
	if err != nil || len(page) != 30 {
		t.Fatalf("%d agents, %v", len(page), err)
	}
	run, err := s.Run(t.Context(), page[0].ID, page[0].LatestRun)
	if err != nil || !run.Status.Ended() {
		t.Errorf("the latest run is %+v, %v", run, err)
	}
	events, err := s.Events(t.Context(), page[0].ID, 0, 100)
	if err != nil || len(events) != 4 {
		t.Errorf("%d events, %v", len(events), err)
	}
}

func TestProcMB(t *testing.T) {
	path := filepath.Join(t.TempDir(), "status")
	if err := os.WriteFile(path, []byte("Name:\terrand\nVmPeak:\t  900 kB\nVmRSS:\t   1000 kB\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := procMB(path, "VmRSS:"); got != 1.024 || err != nil {
		t.Errorf("1000 kB are %v MB, %v", got, err)
	}
	if _, err := procMB(path, "Pss:"); err == nil {
		t.Error("a missing line gave no error")
	}
}
