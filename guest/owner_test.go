package guest_test

import (
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/errand-dev/errand/guest"
)

// TestOwners finds which process listens: this one.
func TestOwners(t *testing.T) {
	_, l := plain(t)
	ctx := within(t, 30*time.Second)
	open, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer open.Close()
	port := open.Addr().(*net.TCPAddr).Port
	all, err := l.Listeners(ctx)
	must(t, err)
	all = slices.DeleteFunc(all, func(l guest.Listener) bool { return l.Port != port })
	if len(all) != 1 {
		t.Fatalf("port %d is listened on %d times", port, len(all))
	}
	owners, err := l.Owners(ctx, all)
	must(t, err)
	if o := owners[port]; o.PID != os.Getpid() || !strings.Contains(o.Command, filepath.Base(os.Args[0])) {
		t.Errorf("port %d is held by %+v", port, o)
	}
	open.Close()
	if owners, err = l.Owners(ctx, all); err != nil || len(owners) != 0 {
		t.Errorf("a port that was closed is held by %+v, %v", owners, err)
	}
}
