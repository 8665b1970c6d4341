//go:build linux

package cgroup

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/guest/guesttest"
)

// TestVersions looks at what is written on hosts of either version, for which a
// directory stands.
func TestVersions(t *testing.T) {
	limits := errand.Limits{CPUs: 1.5, Memory: 1 << 30, PIDs: 100, Disk: 1}
	for _, test := range []struct {
		name   string
		host   Host
		limits errand.Limits
		want   map[string]string
	}{
		{"version 1", Host{Version: 1, Held: Held{true, true, true}}, limits, map[string]string{
			"cpu/errand/a/b/cpu.cfs_period_us": "100000", "cpu/errand/a/b/cpu.cfs_quota_us": "150000",
			"memory/errand/a/b/memory.limit_in_bytes": "1073741824", "pids/errand/a/b/pids.max": "100",
		}},
		{"version 1 without bounds, in part", Host{Version: 1, Held: Held{CPU: true, PIDs: true}}, errand.Limits{}, map[string]string{
			"cpu/errand/a/b/cpu.cfs_period_us": "100000", "cpu/errand/a/b/cpu.cfs_quota_us": "-1", "pids/errand/a/b/pids.max": "max",
		}},
		{"version 2", Host{Version: 2, Held: Held{true, true, true}}, limits, map[string]string{
			"errand/cgroup.subtree_control": "+pids", "errand/a/cgroup.subtree_control": "+pids",
			"errand/a/b/cpu.max": "150000 100000", "errand/a/b/memory.max": "1073741824", "errand/a/b/pids.max": "100",
		}},
		{"version 2 without bounds", Host{Version: 2, Held: Held{Memory: true}}, errand.Limits{}, map[string]string{
			"errand/cgroup.subtree_control": "+memory", "errand/a/cgroup.subtree_control": "+memory", "errand/a/b/memory.max": "max",
		}},
		{"none", Host{}, limits, map[string]string{}},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.host.Root = t.TempDir()
			g := test.host.Group("a/b")
			if err := g.Make(); err != nil {
				t.Fatal(err)
			}
			if err := g.Limit(test.limits); err != nil {
				t.Fatal(err)
			}
			got := map[string]string{}
			err := filepath.WalkDir(test.host.Root, func(path string, e os.DirEntry, err error) error {
				if err != nil || e.IsDir() {
					return err
				}
				text, err := os.ReadFile(path)
				name, _ := filepath.Rel(test.host.Root, path) // it is below
				got[name] = string(text)
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("written (-want +got):\n%s", diff)
			}
		})
	}
}

func TestRefusals(t *testing.T) {
	var r Refusals
	for _, line := range []struct{ file, text string }{
		{"memory.oom_control", "oom_kill_disable 0"}, {"memory.oom_control", "oom_kill 2"},
		{"memory.events", "max 7"}, {"memory.events", "oom_kill 3\n"},
		{"pids.events", "max 4\n"}, {"pids.events", ""}, {"pids.events", "max many"}, {"other", "oom_kill 9"},
	} {
		r.Count(line.file, line.text)
	}
	if diff := cmp.Diff(Refusals{Killed: 4, Forks: 2}, r.Since(Refusals{Killed: 1, Forks: 2})); diff != "" {
		t.Errorf("counted (-want +got):\n%s", diff)
	}
}

// TestGroup holds a process in a group of this host.
func TestGroup(t *testing.T) {
	guesttest.Root(t)
	h := Find()
	if missing := h.Held.Unenforced(); len(missing) > 0 {
		guesttest.Lacking(t, "this test needs control groups: %s", strings.Join(missing, " "))
	}
	name := fmt.Sprintf("test-%d", os.Getpid())
	above, g := h.Group(name), h.Group(name+"/low")
	if err := g.Make(); err != nil {
		t.Fatal(err)
	}
	defer above.Remove()
	if err := g.Limit(errand.Limits{CPUs: 1, Memory: 64 << 20, PIDs: 1}); err != nil {
		t.Fatal(err)
	}
	before := g.Refusals()
	var enter []string
	for _, dir := range g.Dirs() {
		enter = append(enter, "echo 0 >"+dir+"/cgroup.procs")
	}
	if out, err := exec.Command("/bin/sh", "-c", strings.Join(enter, "; ")+"; (:)").CombinedOutput(); err == nil {
		t.Errorf("the only process of the group made others: %s", out)
	}
	if got := g.Refusals().Since(before); got.Forks == 0 || got.Killed != 0 {
		t.Errorf("counted %+v", got)
	}
	above.Remove()
	if left := above.Left(); len(left) > 0 {
		t.Errorf("left are %v", left)
	}
	above.Remove() // again is nothing
}
