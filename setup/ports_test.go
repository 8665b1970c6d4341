package setup

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/environment/file"
	"github.com/errand-dev/errand/guest"
)

// TestCompare tells the ports that listen, stay silent and are not named.
func TestCompare(t *testing.T) {
	all, local := netip.IPv6Unspecified(), netip.MustParseAddr("127.0.0.1")
	got := compare([]file.Port{{Name: "web", Port: 3000}, {Port: 9999}}, []guest.Listener{{Port: 3000, Address: all}, {Port: 5432, Address: local}})
	want := []errand.ProofPort{{Port: 3000, Name: "web", Named: true, Address: "::"}, {Port: 9999, Named: true}, {Port: 5432, Address: "127.0.0.1"}}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if note := portsNote(got); note != "nothing on 9999; open: 3000; open and not named: 5432" {
		t.Errorf("the note is %q", note)
	}
	if note := portsNote(nil); note != "nothing listens" {
		t.Errorf("without ports the note is %q", note)
	}
	var many []guest.Listener
	for port := range 1000 {
		many = append(many, guest.Listener{Port: port + 1, Address: all})
	}
	if n := len(compare(nil, many)); n != maxFound {
		t.Errorf("of a machine with 1000 open ports %d are proposed, want %d", n, maxFound)
	}
}

// TestAddFound puts found ports into drafts; a proof holds for the draft with
// them, if it held for the one without.
func TestAddFound(t *testing.T) {
	ports := []errand.ProofPort{{Port: 3000, Named: true, Address: "::"}, {Port: 5432, Address: "::"}}
	for _, held := range []bool{true, false} {
		s := errand.Setup{Draft: `{"ports": [3000]}`, Proof: &errand.Proof{OK: true, Draft: `{"ports": [3000]}`, Ports: ports}}
		if !held {
			s.Draft = `{"ports": [3000], "install": "another"}`
		}
		if err := addFound(&s); err != nil || !strings.Contains(s.Draft, "5432") || proved(s) != held {
			t.Errorf("the draft is %s, proved %v, %v; want it proved: %v", s.Draft, proved(s), err, held)
		}
		if err := addFound(&s); errand.KindOf(err) != errand.Conflict {
			t.Errorf("adding them again gives %v", err)
		}
	}
	if ports[1].Named {
		t.Error("another's proof was changed")
	}
	if err := addFound(&errand.Setup{Draft: "{}"}); errand.KindOf(err) != errand.Conflict {
		t.Errorf("without a proof it gives %v", err)
	}
}
