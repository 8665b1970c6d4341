package secret_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"log/slog"
	"net/url"
	"os"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/errand-dev/errand/secret"
)

// TestEveryFormIsTakenOut puts random secrets into random text in each form in
// which they leak, and wants none of it back.
func TestEveryFormIsTakenOut(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		value := rapid.StringMatching(`[!-~][ -~\n]{0,20}[!-~]{6}[ -~\n]{0,20}[!-~]`).Draw(t, "value")
		before := rapid.StringMatching(`[a-z ]{0,10}`).Draw(t, "before")
		var r secret.Redactor
		r.Add(value)
		asJSON, err := json.Marshal(before + value)
		if err != nil {
			t.Fatal(err)
		}
		for name, text := range map[string]string{
			"plain": before + value + before, "JSON": string(asJSON), "URL": url.QueryEscape(value),
			"base64": base64.StdEncoding.EncodeToString([]byte(before + value)), "base64url": base64.RawURLEncoding.EncodeToString([]byte(before + value + before)),
		} {
			got := r.String(text)
			if !strings.Contains(got, secret.Redacted) {
				t.Errorf("%s: %q was let through as %q", name, text, got)
			}
			if strings.Contains(got, value) {
				t.Errorf("%s: %q still holds the secret", name, got)
			}
		}
	})
}

// TestJSONStaysJSON has secrets that also occur in a text's numbers, names and
// escapes.
func TestJSONStaysJSON(t *testing.T) {
	var r secret.Redactor
	r.Add("100000", "status", "nothing", "a/secret/path")
	for text, want := range map[string]string{
		`{"ms":1000001,"status":"100000"}`:          `{"ms":1000001,"status":"[REDACTED]"}`,
		`{"status" : {"x":["nothing", true,null]}}`: `{"status" : {"x":["[REDACTED]", true,null]}}`,
		`{"x":"a\nothing \"status\":"}`:             `{"x":"a\nothing \"[REDACTED]\":"}`,
		`{"x":"a\/secret\/path","y":"\u003c\\"}`:    `{"x":"[REDACTED]","y":"\u003c\\"}`,
		`"nothing"`:                                 `"[REDACTED]"`,
		`17`:                                        `17`,
	} {
		if got := string(r.JSON(json.RawMessage(text))); got != want {
			t.Errorf("%s became %s, want %s", text, got, want)
		}
	}
}

func TestLongerSecretsGoFirst(t *testing.T) {
	var r secret.Redactor
	r.Add("secret", "secret-and-more")
	if got := r.String("a secret-and-more b secret c"); got != "a [REDACTED] b [REDACTED] c" {
		t.Errorf("got %q", got)
	}
}

func TestRemoveTakesBackOneAdd(t *testing.T) {
	var r secret.Redactor
	r.Add("common-value", "common-value", "tiny")
	r.Remove("common-value")
	if got := r.String("common-value tiny"); got != "[REDACTED] tiny" {
		t.Errorf("got %q", got)
	}
	r.Remove("common-value")
	if got := r.String("common-value"); got != "common-value" {
		t.Errorf("got %q", got)
	}
}

func TestLog(t *testing.T) {
	var r secret.Redactor
	r.Add("swordfish")
	var b bytes.Buffer
	log := slog.New(r.Log(slog.NewTextHandler(&b, nil))).With("a", "swordfish").WithGroup("g")
	log.Info("the swordfish", "b", "x swordfish", "n", 7, slog.Group("h", "c", "swordfish"), "e", os.ErrNotExist)
	if got := b.String(); strings.Contains(got, "swordfish") || !strings.Contains(got, "g.n=7") || !strings.Contains(got, "file does not exist") {
		t.Errorf("logged %s", got)
	}
}
