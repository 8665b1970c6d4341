//go:build linux

package buildkit

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/errand-dev/errand/machine"
)

// TestSecretsAreNotShared builds one Dockerfile for two who have other values of
// a secret: what a step made of the one's is not handed to the other, and who has
// the same value has the step.
func TestSecretsAreNotShared(t *testing.T) {
	need(t, Runc)
	w := newWorld(t)
	b := w.builder(Runc)
	build := func(n int, value string) (printed string, ran string) {
		t.Helper()
		text := fmt.Sprintf("FROM %s/busybox AS one\nRUN echo plain >/plain\nRUN --mount=type=secret,id=TOKEN cp /run/secrets/TOKEN /token || true\nFROM %[1]s/busybox\nCOPY --from=one /token /token\nRUN cat /token # %d\n", w.host, n)
		_, s := w.mustBuild(b, text, func(in *machine.ImageBuild) {
			if value != "" {
				in.Secrets = map[string][]byte{"TOKEN": []byte(value), "OTHER": fmt.Append(nil, n)}
			}
		})
		return s.output.String(), s.ran()
	}
	if out, _ := build(1, "first-value"); !strings.Contains(out, "first-value") {
		t.Errorf("the first build printed\n%s", out)
	}
	if out, ran := build(2, "second-value"); strings.Contains(out, "first-value") || !strings.Contains(out, "second-value") {
		t.Errorf("the second build ran %s and printed\n%s", ran, out)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	b = w.builder(Runc)
	if out, ran := build(3, "first-value"); !strings.Contains(out, "first-value") || slices.Contains(strings.Fields(ran), "3") || slices.Contains(strings.Fields(ran), "5") {
		t.Errorf("with the first value again it ran %s and printed\n%s", ran, out)
	}
}

// TestCacheMountsAreOwn has one repository find what it left in a cache mount, and
// another not.
func TestCacheMountsAreOwn(t *testing.T) {
	need(t, Runc)
	w := newWorld(t)
	b := w.builder(Runc)
	build := func(n int, of string) string {
		t.Helper()
		text := fmt.Sprintf("FROM %s/busybox\nRUN --mount=type=cache,target=/c cat /c/left; echo of-%s >/c/left # %d\n", w.host, of, n)
		_, s := w.mustBuild(b, text, func(in *machine.ImageBuild) { in.CacheOf = of })
		return s.output.String()
	}
	build(1, "one")
	if out := build(2, "two"); strings.Contains(out, "\nof-one\n") || strings.HasPrefix(out, "of-one\n") {
		t.Errorf("another repository finds\n%s", out)
	}
	if out := build(3, "one"); !strings.Contains(out, "of-one\n") {
		t.Errorf("the repository itself finds\n%s", out)
	}
}
