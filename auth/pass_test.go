package auth_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/auth"
)

// TestPass follows a pass from its ticket to its end with the key.
func TestPass(t *testing.T) {
	ctx := t.Context()
	keys, _ := open(t)
	_, key, err := keys.Create(ctx, auth.New{Name: "laptop"})
	if err != nil {
		t.Fatal(err)
	}
	ticket, err := keys.Ticket(key, "", "port 3000")
	if err != nil {
		t.Fatal(err)
	}
	pass, err := keys.Pass(ctx, ticket, "port 3000")
	if err != nil {
		t.Fatal(err)
	}
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
	if _, _, err := keys.CheckPass(ctx, pass, "port 3000"); errand.KindOf(err) != errand.Unauthorized {
		t.Errorf("the pass of a revoked key gives %v", err)
	}
}

// TestTickets: a ticket opens nothing but its thing, and a code of `errand open`
// is none.
func TestTickets(t *testing.T) {
	ctx := t.Context()
	keys, _ := open(t)
	_, key, err := keys.Create(ctx, auth.New{Name: "laptop"})
	if err != nil {
		t.Fatal(err)
	}
	ticket := func() string {
		t.Helper()
		word, err := keys.Ticket(key, "", "port 3000")
		if err != nil {
			t.Fatal(err)
		}
		return word
	}
	if _, err := keys.SignIn(ctx, ticket()); errand.KindOf(err) != errand.Unauthorized {
		t.Errorf("a ticket signs in: %v", err)
	}
	if _, err := keys.Pass(ctx, ticket(), "port 3001"); errand.KindOf(err) != errand.Unauthorized {
		t.Errorf("a ticket opens another port: %v", err)
	}
	code, err := keys.Code(key)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := keys.Pass(ctx, code, "port 3000"); errand.KindOf(err) != errand.Unauthorized {
		t.Errorf("a code opens a port: %v", err)
	}
	late := ticket()
	if err := keys.Revoke(ctx, key.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := keys.Pass(ctx, late, "port 3000"); errand.KindOf(err) != errand.Unauthorized {
		t.Errorf("a revoked key's ticket gives a pass: %v", err)
	}
}

// TestPassOfSignIn: a pass that a browser asked for ends when that signs out.
func TestPassOfSignIn(t *testing.T) {
	ctx := t.Context()
	keys, _ := open(t)
	token, key, err := keys.Create(ctx, auth.New{Name: "laptop"})
	if err != nil {
		t.Fatal(err)
	}
	cookie, err := keys.SignIn(ctx, token)
	if err != nil {
		t.Fatal(err)
	}
	ticket, err := keys.Ticket(key, cookie, "port 3000")
	if err != nil {
		t.Fatal(err)
	}
	pass, err := keys.Pass(ctx, ticket, "port 3000")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(pass, cookie) {
		t.Error("the pass tells the cookie")
	}
	if _, _, err := keys.CheckPass(ctx, pass, "port 3000"); err != nil {
		t.Error(err)
	}
	if err := keys.SignOut(ctx, cookie); err != nil {
		t.Fatal(err)
	}
	if _, _, err := keys.CheckPass(ctx, pass, "port 3000"); errand.KindOf(err) != errand.Unauthorized {
		t.Errorf("after signing out the pass gives %v", err)
	}
}

// TestPassAges: tickets and passes end by themselves.
func TestPassAges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		keys, _ := open(t)
		_, key, err := keys.Create(ctx, auth.New{Name: "laptop"})
		if err != nil {
			t.Fatal(err)
		}
		old, err := keys.Ticket(key, "", "port 3000")
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(auth.TicketFor)
		if _, err := keys.Pass(ctx, old, "port 3000"); errand.KindOf(err) != errand.Unauthorized {
			t.Errorf("a ticket of a minute ago gives %v", err)
		}
		ticket, err := keys.Ticket(key, "", "port 3000")
		if err != nil {
			t.Fatal(err)
		}
		pass, err := keys.Pass(ctx, ticket, "port 3000")
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(auth.PassFor - time.Second)
		if _, _, err := keys.CheckPass(ctx, pass, "port 3000"); err != nil {
			t.Errorf("a pass ends early: %v", err)
		}
		time.Sleep(2 * time.Second)
		if _, _, err := keys.CheckPass(ctx, pass, "port 3000"); errand.KindOf(err) != errand.Unauthorized {
			t.Errorf("an old pass gives %v", err)
		}
	})
}
