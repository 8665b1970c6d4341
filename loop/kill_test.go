package loop_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/loop"
)

// survives runs the script `work` as run in a directory of its own, killed at
// each of cuts, and checks that the work was done once and every event is there.
func survives(t testing.TB, b *bench, run errand.RunID, cuts []cut) {
	t.Helper()
	own := *b
	own.root = filepath.Join(b.root, string(run))
	if err := os.Mkdir(own.root, 0o755); err != nil {
		t.Fatal(err)
	}
	j := newBook(run, "Please do it.")
	for _, c := range append(cuts, cut{}) {
		j.revive(c.at, c.written)
		out, err := loop.Run(own.Context(), own.options(j))
		if errors.Is(err, errKilled) {
			continue
		}
		if err != nil {
			t.Fatalf("cuts %v: %v", cuts, err)
		}
		if out.Result != "Did it." {
			t.Errorf("cuts %v: the result is %q", cuts, out.Result)
		}
	}
	if got := own.read("counter"); got != "one\ntwo\n" {
		t.Errorf("cuts %v: counter is %q", cuts, got)
	}
	if got := own.read("f.txt"); got != "head\nxx\n" {
		t.Errorf("cuts %v: f.txt is %q", cuts, got)
	}
	var want []string
	for _, s := range finishedEvents {
		want = append(want, strings.ReplaceAll(s, "run-1.", string(run)+"."))
	}
	if d := cmp.Diff(want, j.told(errand.EventTurnEnded, errand.EventToolCalled, errand.EventToolEnded, errand.EventPlan)); d != "" {
		t.Errorf("cuts %v: wrong events (-want +got):\n%s", cuts, d)
	}
}

// cut is a moment at which the process is killed: before or after its at-th
// record is written.
type cut struct {
	at      int
	written bool
}

// Killed at any one record, before or after it is written.
func TestKilledAnywhere(t *testing.T) {
	b := newBench(t, work)
	whole := newBook("run-whole", "Please do it.")
	if _, err := loop.Run(t.Context(), b.options(whole)); err != nil {
		t.Fatal(err)
	}
	for at := 1; at <= whole.records; at++ {
		for _, written := range []bool{false, true} {
			survives(t, b, errand.RunID(fmt.Sprintf("run-%d-%v", at, written)), []cut{{at, written}})
		}
	}
}

// Killed again and again, at random.
func TestKilledOften(t *testing.T) {
	b := newBench(t, work)
	n := 0
	rapid.Check(t, func(rt *rapid.T) {
		cuts := rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) cut {
			return cut{rapid.IntRange(1, 12).Draw(rt, "at"), rapid.Bool().Draw(rt, "written")}
		}), 1, 8).Draw(rt, "cuts")
		n++
		survives(t, b, errand.RunID(fmt.Sprintf("run-%d", n)), cuts)
		if t.Failed() {
			rt.Fatalf("cuts %v", cuts)
		}
	})
}
