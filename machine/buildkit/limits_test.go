//go:build linux

package buildkit

import (
	"fmt"
	"strings"
	"testing"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/machine"
)

// TestLimits has commands take more than they may. Each ends with what it ran
// into and how that is raised, the daemon goes on, and so does the next build.
func TestLimits(t *testing.T) {
	engines(t, func(t *testing.T, engine string) {
		w := newWorld(t)
		b := w.builder(engine, func(o *Options) {
			o.Limits = errand.Limits{Memory: 192 << 20, PIDs: 60, Disk: 128 << 20}
			o.Cache = 128 << 20
		})
		if len(b.Inspect(t.Context())) != 2 || !b.inspectLimits().OK {
			t.Errorf("this host holds not all limits: %+v", b.Inspect(t.Context()))
		}
		from := "FROM " + w.host + "/busybox\nRUN "
		w.mustBuild(b, from+"echo before\n")
		pid := b.daemon.pid
		for i, test := range []struct {
			code, command string
			limits        errand.Limits
			says          []string
		}{
			{"build_memory", "echo begun; dd if=/dev/zero of=/dev/null bs=400M count=1", errand.Limits{}, []string{"192 MB", "--memory"}},
			{"build_memory", "echo begun; dd if=/dev/zero of=/dev/null bs=400M count=1 # again", errand.Limits{Memory: 224 << 20}, []string{"224 MB", "--memory"}},
			{"build_processes", "echo begun; for i in $(seq 1000); do sleep 100 & done; echo all", errand.Limits{Memory: 2 << 30}, []string{"60 together", "--pids"}},
			{"build_disk", "echo begun; dd if=/dev/zero of=/full bs=1M count=600", errand.Limits{}, []string{"128 MB", "--disk"}},
		} {
			_, s, err := w.build(b, from+test.command+"\n", func(in *machine.ImageBuild) { in.Limits = test.limits })
			known := errand.AsError(err)
			if known == nil || known.Code != test.code || known.Kind != errand.Invalid || !strings.Contains(known.Output, "begun\n") {
				t.Errorf("%s: the error is %v, %+v\n%s", test.command, err, known, s.output.String())
				continue
			}
			for _, word := range append(test.says, "Dockerfile:2") {
				if !strings.Contains(err.Error(), word) {
					t.Errorf("%s: the error does not say %q: %v", test.command, word, err)
				}
			}
			if _, s := w.mustBuild(b, fmt.Sprintf("%secho after $((%d + 70))\n", from, i)); !strings.Contains(s.output.String(), fmt.Sprintf("after %d\n", i+70)) {
				t.Errorf("the build after it says %q", s.output.String())
			}
		}
		if b.daemon.pid != pid || !b.daemon.alive() {
			t.Error("the daemon was ended with a command")
		}
		if _, s := w.mustBuild(b, from+"echo before\n", func(in *machine.ImageBuild) { in.Key += "-2" }); !strings.Contains(s.output.String(), "cached true") {
			t.Errorf("the cache is gone: %s", s.output.String())
		}
	})
}
