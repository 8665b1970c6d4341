package machinetest

import (
	"errors"
	"testing"
	"time"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/machine"
)

// testLimits passes each limit that the machine claims to hold. What then
// becomes of the machine is the engine's business; that the host is not hurt
// is the contract.
func testLimits(t *testing.T, s Subject) {
	d := open(t, s, t.TempDir())
	small := withLimits(errand.Limits{CPUs: 0.5, Memory: 256 << 20, PIDs: 200, Disk: 200 << 20})
	m := create(t, s, d, "small", small)
	if r, ok := m.(machine.Reporter); ok {
		got := r.Report()
		if got.Limits.Memory != 256<<20 || got.Engine == "" || got.Image == "" {
			t.Errorf("Report: %+v", got)
		}
		t.Logf("unenforced: %q", got.Unenforced)
	}
	tests := []struct {
		word    string
		command string
		passed  func(out string, code int) bool // the limit did not hold
	}{
		{"disk", "dd if=/dev/zero of=/var/full bs=1M count=400 2>/dev/null; code=$?; rm -f /var/full; exit $code",
			func(_ string, code int) bool { return code == 0 }},
		{"processes", "for i in $(seq 700); do sleep 20 & done; echo all",
			func(out string, code int) bool { return code == 0 && out == "all" }},
		{"memory", "head -c 600m /dev/zero | tail -c 500m | wc -c",
			func(out string, code int) bool { return out == "524288000" }},
	}
	for _, test := range tests {
		m := create(t, s, d, "small", small) // started again if the last test ended it
		if !holds(m, test.word) {
			t.Logf("%s: not claimed", test.word)
			continue
		}
		out, exit, err := try(t.Context(), line(t, m), test.command)
		if err == nil && test.passed(out, exit.Code) {
			t.Errorf("%s: the limit did not hold: exit %d, printed %q", test.word, exit.Code, out)
		}
		if h, ok := m.(machine.Hibernator); ok { // what is left of the test ends with it
			if err := h.Hibernate(t.Context()); err != nil {
				t.Errorf("%s: hibernating afterwards: %v", test.word, err)
			}
		}
	}
	testProcessors(t, s, d, small)
}

func testProcessors(t *testing.T, s Subject, d machine.Driver, small func(*machine.Spec)) {
	m := create(t, s, d, "small", small)
	if !holds(m, "processor") {
		t.Log("processors: not claimed")
		return
	}
	l := line(t, m)
	before, err := s.Processor(m)
	if err != nil {
		t.Fatalf("reading processor time: %v", err)
	}
	began := time.Now()
	if _, exit, err := try(t.Context(), l, "i=0; while [ $i -lt 400000 ]; do i=$((i+1)); done"); err != nil || exit.Code != 0 {
		t.Fatalf("spinning: exit %+v, error %v", exit, err)
	}
	passed := time.Since(began)
	after, err := s.Processor(m)
	if err != nil {
		t.Fatalf("reading processor time: %v", err)
	}
	used := after - before
	if used < 100*time.Millisecond {
		t.Errorf("spinning took %v of a processor: too little to see a limit", used)
	}
	if used > passed*3/4 {
		t.Errorf("half a processor was given %v in %v", used, passed)
	}
}

func testLink(t *testing.T, s Subject) {
	d := open(t, s, t.TempDir())
	m := create(t, s, d, "linked")
	n, ok := m.(machine.Networked)
	if !ok {
		t.Skip("this driver's machines have another network")
	}
	l := line(t, m)
	for range 2 { // the second is what a restarted server does
		link, err := n.Link(t.Context())
		if err != nil {
			t.Fatalf("opening link: %v", err)
		}
		frames := make(chan error, 1)
		go func() {
			buf := make([]byte, 65600)
			for {
				k, err := link.File.Read(buf)
				if err != nil {
					frames <- err
					return
				}
				if k >= 14 && buf[12] == 0x08 { // ARP or IPv4: somebody inside wants out
					frames <- nil
					return
				}
			}
		}()
		try(t.Context(), l, "timeout 2 sh -c 'exec 3<>/dev/tcp/198.51.100.1/80' 2>/dev/null; timeout 1 git ls-remote http://198.51.100.1/ 2>/dev/null; true")
		select {
		case err := <-frames:
			if err != nil {
				t.Errorf("reading frames: %v", err)
			}
		case <-time.After(limit):
			t.Error("no frame came out of the machine")
		}
		if err := link.File.Close(); err != nil {
			t.Errorf("closing link: %v", err)
		}
		if !link.Machine.IsValid() || !link.Gateway.IsValid() || link.MTU < 1280 || len(link.MAC) != 6 {
			t.Errorf("link: %+v", link)
		}
	}
	if h, ok := m.(machine.Hibernator); ok {
		if err := h.Hibernate(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := n.Link(t.Context()); !errors.Is(err, machine.ErrStopped) {
			t.Errorf("Link of a hibernated machine gives %v, want ErrStopped", err)
		}
	}
}
