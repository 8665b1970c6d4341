package auth_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/auth"
	"github.com/errand-dev/errand/store"
)

// laptop is a key, whose holder wants to look at one port.
type laptop struct {
	*testing.T
	keys  *auth.Keys
	token string
	key   store.Key
}

func newLaptop(t *testing.T) *laptop {
	t.Helper()
	keys, _ := open(t)
	token, key, err := keys.Create(t.Context(), auth.New{Name: "laptop"})
	if err != nil {
		t.Fatal(err)
	}
	return &laptop{t, keys, token, key}
}

// ticket gives a ticket to the port, of a browser that signed in with the cookie if
// there is one.
func (l *laptop) ticket(cookie string) string {
	l.Helper()
	ticket, err := l.keys.Ticket(l.key, cookie, "port 3000")
	if err != nil {
		l.Fatal(err)
	}
	return ticket
}

// pass gives what a ticket is taken in for.
func (l *laptop) pass(ticket string) string {
	l.Helper()
	pass, err := l.keys.Pass(l.Context(), ticket, "port 3000")
	if err != nil {
		l.Fatal(err)
	}
	return pass
}

// checks wants a pass to be good for the port, or not.
func (l *laptop) checks(what, pass string, good bool) {
	l.Helper()
	_, _, err := l.keys.CheckPass(l.Context(), pass, "port 3000")
	if good && err != nil || !good && errand.KindOf(err) != errand.Unauthorized {
		l.Errorf("%s gives %v", what, err)
	}
}

// TestPass follows a pass from its ticket to its end with the key.
func TestPass(t *testing.T) {
	ctx, l := t.Context(), newLaptop(t)
	keys, key, ticket := l.keys, l.key, l.ticket("")
	pass := l.pass(ticket)
	if _, err := keys.Pass(ctx, ticket, "port 3000"); errand.KindOf(err) != errand.Unauthorized {
		t.Errorf("a ticket is good twice: %v", err)
	}
	caller, used, err := keys.CheckPass(ctx, pass, "port 3000")
	if err != nil || caller.Key != "laptop" || used.ID != key.ID {
		t.Errorf("the pass is %+v's, of key %q, %v", caller, used.ID, err)
	}
	later := strings.Split(pass, ".")
	later[2] = "99999999999"
	for name, wrong := range map[string]struct{ pass, thing string }{
		"another thing": {pass, "port 3001"},
		"none":          {"", "port 3000"},
		"a longer one":  {strings.Join(later, "."), "port 3000"},
		"no seal":       {strings.Join(later[:3], ".") + ".", "port 3000"},
		"a cut one":     {pass[:len(pass)-1], "port 3000"},
		"an endless":    {strings.Repeat("a.", 1<<20), "port 3000"},
		"no key's":      {"key-0" + pass[len(key.ID):], "port 3000"},
	} {
		if _, _, err := keys.CheckPass(ctx, wrong.pass, wrong.thing); errand.KindOf(err) != errand.Unauthorized {
			t.Errorf("%s gives %v, want Unauthorized", name, err)
		}
	}
	if _, _, err := keys.CheckSignIn(ctx, pass); errand.KindOf(err) != errand.Unauthorized {
		t.Errorf("a pass opens the API: %v", err)
	}
	if err := keys.Revoke(ctx, "laptop"); err != nil {
		t.Fatal(err)
	}
	l.checks("the pass of a revoked key", pass, false)
}

// TestTickets: a ticket opens nothing but its thing, and a code of `errand open`
// is none.
func TestTickets(t *testing.T) {
	ctx, l := t.Context(), newLaptop(t)
	if _, err := l.keys.SignIn(ctx, l.ticket("")); errand.KindOf(err) != errand.Unauthorized {
		t.Errorf("a ticket signs in: %v", err)
	}
	if _, err := l.keys.Pass(ctx, l.ticket(""), "port 3001"); errand.KindOf(err) != errand.Unauthorized {
		t.Errorf("a ticket opens another port: %v", err)
	}
	code, err := l.keys.Code(l.key)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.keys.Pass(ctx, code, "port 3000"); errand.KindOf(err) != errand.Unauthorized {
		t.Errorf("a code opens a port: %v", err)
	}
	late := l.ticket("")
	if err := l.keys.Revoke(ctx, l.key.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := l.keys.Pass(ctx, late, "port 3000"); errand.KindOf(err) != errand.Unauthorized {
		t.Errorf("a revoked key's ticket gives a pass: %v", err)
	}
}

// TestPassOfSignIn: a pass that a browser asked for ends when that signs out.
func TestPassOfSignIn(t *testing.T) {
	ctx, l := t.Context(), newLaptop(t)
	cookie, err := l.keys.SignIn(ctx, l.token)
	if err != nil {
		t.Fatal(err)
	}
	pass := l.pass(l.ticket(cookie))
	if strings.Contains(pass, cookie) {
		t.Error("the pass tells the cookie")
	}
	l.checks("the pass of who is signed in", pass, true)
	if err := l.keys.SignOut(ctx, cookie); err != nil {
		t.Fatal(err)
	}
	l.checks("the pass of who has signed out", pass, false)
}

// TestPassAges: tickets and passes end by themselves.
func TestPassAges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLaptop(t)
		old := l.ticket("")
		time.Sleep(auth.TicketFor)
		if _, err := l.keys.Pass(t.Context(), old, "port 3000"); errand.KindOf(err) != errand.Unauthorized {
			t.Errorf("a ticket of a minute ago gives %v", err)
		}
		pass := l.pass(l.ticket(""))
		time.Sleep(auth.PassFor - time.Second)
		l.checks("a pass a second before its end", pass, true)
		time.Sleep(2 * time.Second)
		l.checks("a pass a second after its end", pass, false)
	})
}
