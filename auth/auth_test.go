package auth_test

import (
	"context"
	"database/sql"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/auth"
	"github.com/errand-dev/errand/store"
)

func open(t *testing.T) (*auth.Keys, *store.Store) {
	t.Helper()
	s, err := store.Open(t.Context(), filepath.Join(t.TempDir(), "errand.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return auth.Open(s), s
}

// TestUseThatCannotBeNoted refuses to write a key's use: who has it is let in.
func TestUseThatCannotBeNoted(t *testing.T) {
	path := filepath.Join(t.TempDir(), "errand.db")
	s, err := store.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	keys := auth.Open(s)
	var log strings.Builder
	keys.Log = slog.New(slog.NewTextHandler(&log, nil))
	token, _, err := keys.Create(t.Context(), auth.New{Name: "laptop"})
	if err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec(`CREATE TRIGGER full BEFORE UPDATE ON keys BEGIN SELECT RAISE(ABORT, 'there is no room'); END`); err != nil {
		t.Fatal(err)
	}
	if caller, _, err := keys.Check(t.Context(), token); err != nil || caller.Key != "laptop" {
		t.Errorf("the caller is %+v, %v", caller, err)
	}
	if !strings.Contains(log.String(), "there is no room") {
		t.Errorf("the log says %q", log.String())
	}
}

func TestKeys(t *testing.T) {
	ctx := t.Context()
	keys, s := open(t)
	token, key, err := keys.Create(ctx, auth.New{Name: "laptop", Person: "Ada Lovelace", Email: "ada@example.com"})
	if err != nil {
		t.Fatal(err)
	}
	caller, _, err := keys.Check(ctx, token)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(errand.Caller{Key: "laptop", Name: "Ada Lovelace", Email: "ada@example.com"}, caller); diff != "" {
		t.Error(diff)
	}
	kept, err := s.Keys(ctx)
	if err != nil || len(kept) != 1 {
		t.Fatalf("%d keys are kept, %v", len(kept), err)
	}
	if kept[0].UsedAt.IsZero() {
		t.Error("the key's use was not noted")
	}
	if strings.Contains(kept[0].Hash, strings.TrimPrefix(token, "errand_")) {
		t.Error("the token itself is kept")
	}
	if err := keys.Revoke(ctx, key.ID); err != nil {
		t.Fatal(err)
	}
	if _, _, err := keys.Check(ctx, token); errand.KindOf(err) != errand.Unauthorized {
		t.Errorf("a revoked key gives %v", err)
	}
	if err := keys.Revoke(ctx, "laptop"); err != nil {
		t.Errorf("revoking again: %v", err)
	}
	if err := keys.Revoke(ctx, "desktop"); errand.KindOf(err) != errand.NotFound {
		t.Errorf("revoking what is not there: %v", err)
	}
	if _, _, err := keys.Create(ctx, auth.New{Name: "laptop"}); err != nil {
		t.Errorf("the name of a revoked key is not free: %v", err)
	}
	if err := keys.Revoke(ctx, "laptop"); err != nil {
		t.Fatal(err)
	}
	if _, _, err := keys.Create(ctx, auth.New{Name: "laptop"}); errand.KindOf(err) != errand.Conflict {
		t.Errorf("another key is the person of one that was revoked: %v", err)
	}
	if _, _, err := keys.Create(ctx, auth.New{Name: "laptop", Person: "Bob", Email: "bob@example.com"}); err != nil {
		t.Errorf("with an email address the name is not free: %v", err)
	}
}

func TestUnknownTokens(t *testing.T) {
	keys, _ := open(t)
	token, _, err := keys.Create(t.Context(), auth.New{Name: "one"})
	if err != nil {
		t.Fatal(err)
	}
	last := "x"
	if strings.HasSuffix(token, last) {
		last = "y"
	}
	for _, bad := range []string{"", "errand_", token[:len(token)-1], token[:len(token)-1] + last, token + "a", " " + token, strings.ToUpper(token), "' OR 1=1 --", strings.Repeat("a", 1<<20)} {
		if _, _, err := keys.Check(t.Context(), bad); errand.KindOf(err) != errand.Unauthorized {
			t.Errorf("%.60q gives %v, want Unauthorized", bad, err)
		}
	}
}

func TestBadKeys(t *testing.T) {
	keys, _ := open(t)
	if _, _, err := keys.Create(context.Background(), auth.New{Name: "one"}); err != nil {
		t.Fatal(err)
	}
	for name, n := range map[string]struct {
		new  auth.New
		want errand.Kind
	}{
		"no name":        {auth.New{Name: "  "}, errand.Invalid},
		"two lines":      {auth.New{Name: "a\nb"}, errand.Invalid},
		"taken":          {auth.New{Name: "one"}, errand.Conflict},
		"only a person":  {auth.New{Name: "two", Person: "Ada"}, errand.Invalid},
		"a header":       {auth.New{Name: "two", Person: "Ada\nX: y", Email: "a@b"}, errand.Invalid},
		"no address":     {auth.New{Name: "two", Person: "Ada", Email: "ada"}, errand.Invalid},
		"angle brackets": {auth.New{Name: "two", Person: "Ada <x@y>", Email: "a@b"}, errand.Invalid},
	} {
		if token, _, err := keys.Create(t.Context(), n.new); errand.KindOf(err) != n.want || token != "" {
			t.Errorf("%s: %q, %v, want %s", name, token, err, n.want)
		}
	}
}
