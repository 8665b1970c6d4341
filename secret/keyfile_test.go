package secret_test

import (
	"context"
	"encoding/base64"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/secret"
)

// local gives an envelope under the key file at path.
func local(path string, unused bool) (*secret.Envelope, *secret.KeyFile) {
	f := secret.OpenKeyFile(path, func(context.Context) (bool, error) { return unused, nil })
	return secret.NewEnvelope("file", func(_ context.Context, name string) (*secret.KEK, error) {
		if name != "file" {
			return nil, errors.New("unknown")
		}
		return f.KEK(name), nil
	}), f
}

func codeOf(err error) string {
	if e := errand.AsError(err); e != nil {
		return e.Code
	}
	return ""
}

func TestKeyFile(t *testing.T) {
	ctx, path := t.Context(), filepath.Join(t.TempDir(), "secret.key")
	e, _ := local(path, true)
	one, err := e.Seal(ctx, []byte("value"), "secret 1")
	if err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("the key file is %v, %v", st, err)
	}
	other, err := e.Seal(ctx, []byte("value"), "secret 1")
	if err != nil || other.DataKey == one.DataKey || other.Value == one.Value {
		t.Errorf("the same value twice is sealed the same: %v", err)
	}
	if got, err := e.Open(ctx, one, "secret 1"); err != nil || string(got) != "value" {
		t.Errorf("opened %q, %v", got, err)
	}
	mixed := one
	mixed.DataKey = other.DataKey
	for what, s := range map[string]secret.Sealed{"another's data key": mixed, "another place": one} {
		about := "secret 1"
		if what == "another place" {
			about = "secret 2"
		}
		if _, err := e.Open(ctx, s, about); codeOf(err) != "key_lost" {
			t.Errorf("%s gave %v", what, err)
		}
	}
}

// TestRotation makes a new version, reads what the old one sealed, and wraps it
// anew.
func TestRotation(t *testing.T) {
	ctx, path := t.Context(), filepath.Join(t.TempDir(), "secret.key")
	e, _ := local(path, true)
	before, err := e.Seal(ctx, []byte("value"), "x")
	if err != nil {
		t.Fatal(err)
	}
	version, err := e.Rotate(ctx)
	if err != nil || version == before.Version {
		t.Fatalf("rotated to %q, %v; it was %q", version, err, before.Version)
	}
	if now, err := e.Version(ctx); err != nil || now != version {
		t.Errorf("the version is %q, %v; want %q", now, err, version)
	}
	after, err := e.Rewrap(ctx, before)
	if err != nil || after.Version != version || after.Value != before.Value {
		t.Errorf("wrapped anew: %+v, %v", after, err)
	}
	for _, s := range []secret.Sealed{before, after} {
		if got, err := e.Open(ctx, s, "x"); err != nil || string(got) != "value" {
			t.Errorf("version %s: opened %q, %v", s.Version, got, err)
		}
	}
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("after the rotation the key file is %v, %v", st, err)
	}
}

// TestLostKey takes the file away, and puts others in its place: nothing is
// overwritten, and the errors name the file.
func TestLostKey(t *testing.T) {
	ctx, path := t.Context(), filepath.Join(t.TempDir(), "secret.key")
	e, _ := local(path, true)
	sealed, err := e.Seal(ctx, []byte("value"), "x")
	if err != nil {
		t.Fatal(err)
	}
	saved, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	e, f := local(path, false)
	for what, try := range map[string]func() error{
		"opening":  func() error { _, err := e.Open(ctx, sealed, "x"); return err },
		"sealing":  func() error { _, err := e.Seal(ctx, []byte("y"), "y"); return err },
		"rotating": func() error { _, err := f.Rotate(ctx); return err },
	} {
		if err := try(); codeOf(err) != "key_lost" || !contains(err, path) {
			t.Errorf("%s gave %v", what, err)
		}
	}
	if _, err := os.Stat(path); err == nil {
		t.Fatal("a key file was made although secrets are sealed under the lost one")
	}
	for what, text := range map[string]string{"torn": string(saved[:len(saved)/2]), "empty": ""} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := e.Seal(ctx, []byte("y"), "y"); codeOf(err) != "key_lost" {
			t.Errorf("%s: sealing gave %v", what, err)
		}
		if now, _ := os.ReadFile(path); string(now) != text {
			t.Errorf("%s: the file was replaced", what)
		}
	}
	another, _ := local(path+".other", true)
	if _, err := another.Seal(ctx, []byte("y"), "y"); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".other", path); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Open(ctx, sealed, "x"); codeOf(err) != "key_lost" {
		t.Errorf("with another's key file, opening gave %v", err)
	}
	if err := os.WriteFile(path, saved, 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := e.Open(ctx, sealed, "x"); err != nil || string(got) != "value" {
		t.Errorf("with the file restored, opened %q, %v", got, err)
	}
}

func contains(err error, text string) bool {
	return err != nil && strings.Contains(err.Error(), text)
}

// TestOldValues opens what was sealed under the file itself, as before there
// were data keys.
func TestOldValues(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secret.key")
	handle, err := keyset.NewHandle(aead.AES256GCMKeyTemplate())
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(insecurecleartextkeyset.Write(handle, keyset.NewJSONWriter(file)), file.Close()); err != nil {
		t.Fatal(err)
	}
	a, err := aead.New(handle)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := a.Encrypt([]byte(`{"A":"b"}`), []byte("env of bc-1"))
	if err != nil {
		t.Fatal(err)
	}
	_, f := local(path, false)
	if _, err := f.Rotate(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, err := f.OpenOld(base64.StdEncoding.EncodeToString(raw), "env of bc-1"); err != nil || string(got) != `{"A":"b"}` {
		t.Errorf("opened %q, %v", got, err)
	}
}
