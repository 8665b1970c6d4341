//go:build linux

package buildkit

import (
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/machine"
)

// searched is what a build gave to its Search.
type searched struct {
	text string // that must not be there
	all  []string
	bad  []string
}

func (s *searched) look(a machine.Added) (bool, error) {
	content, err := io.ReadAll(a.Content)
	found := strings.Contains(string(content)+a.Path, s.text)
	if a.Path != "" {
		s.all = append(s.all, a.Path)
	}
	if found {
		s.bad = append(s.bad, a.Path+a.Setting)
	}
	return found, err
}

// TestSearch gives all that a build adds to who looks through it, and no more,
// and keeps no image in which something was found: neither for this build nor
// for another that has the step from the cache.
func TestSearch(t *testing.T) {
	need(t, Runc)
	w := newWorld(t)
	b := w.builder(Runc)
	base := "FROM " + w.host + "/busybox\n"
	build := func(text string, s *searched) (string, error) {
		t.Helper()
		ref, _, err := w.build(b, base+text, func(in *machine.ImageBuild) {
			in.Secrets = map[string][]byte{"token": []byte("hunter2hunter2")}
			if s != nil {
				in.Search = s.look
			}
		})
		return ref, err
	}
	const leaks = "RUN --mount=type=secret,id=token cp /run/secrets/token /tmp/kept\n"
	for _, test := range []struct {
		name, text string
		bad        []string
	}{
		{"a file", leaks, []string{"/tmp/kept"}},
		{"a file that is removed", leaks + "RUN rm /tmp/kept\n", []string{"/tmp/kept"}},
		{"the name of a file", "RUN --mount=type=secret,id=token touch /tmp/x$(cat /run/secrets/token)\n", []string{"/tmp/xhunter2hunter2"}},
		{"where a link goes", "RUN --mount=type=secret,id=token ln -s $(cat /run/secrets/token) /tmp/link\n", []string{"/tmp/link"}},
		{"settings", "ENV TOKEN=hunter2hunter2\nLABEL of=hunter2hunter2\n", []string{"ENV TOKEN", "LABEL of", "the image's history", "the image's history"}},
		{"an argument", "ARG TOKEN=hunter2hunter2\nRUN true\n", []string{"the image's history", "the image's history"}},
		{"the command", "CMD [\"curl\", \"-u\", \"hunter2hunter2\"]\n", []string{"the image's history", "the image's settings"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			w.t = t
			s := &searched{text: "hunter2hunter2"}
			_, err := build(test.text, s)
			if e := errand.AsError(err); err == nil || e.Code != "secret_in_image" || errand.KindOf(err) != errand.Invalid {
				t.Errorf("the build gave %v", err)
			}
			if diff := cmp.Diff(test.bad, s.bad); diff != "" {
				t.Errorf("found (-want +got):\n%s", diff)
			}
			if ref, err := b.BuiltImage(t.Context(), keyOf(base+test.text)); err != nil || ref != "" {
				t.Errorf("kept is %q, %v", ref, err)
			}
			if slices.ContainsFunc(s.all, func(p string) bool { return strings.HasPrefix(p, "/bin/") }) {
				t.Errorf("of the base was looked at: %v", s.all)
			}
		})
	}
	w.t = t
	if _, err := build(leaks, nil); err == nil || !strings.Contains(err.Error(), "cp /run/secrets/token") {
		t.Errorf("a build that has the step from the cache and looks for nothing gave %v", err)
	}

	const first = "RUN echo one >/tmp/one\n"
	for _, test := range []struct {
		text string
		want []string
	}{
		{first, []string{"/tmp", "/tmp/one"}},
		{first + "RUN echo two >/tmp/two\n", []string{"/tmp", "/tmp/two"}},
	} {
		s := &searched{text: "hunter2hunter2"}
		if _, err := build(test.text, s); err != nil {
			t.Fatal(err)
		}
		got := slices.DeleteFunc(s.all, func(p string) bool { return !strings.HasPrefix(p, "/tmp") })
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%q: looked at (-want +got):\n%s", test.text, diff)
		}
	}
}
