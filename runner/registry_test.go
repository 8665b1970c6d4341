package runner_test

import (
	"net/http"
	"net/netip"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/errand-dev/errand"
	builds "github.com/errand-dev/errand/build"
	"github.com/errand-dev/errand/egress"
	"github.com/errand-dev/errand/guest"
	"github.com/errand-dev/errand/guest/guesttest"
	"github.com/errand-dev/errand/machine/buildkit"
	"github.com/errand-dev/errand/machine/buildkit/solver"
	"github.com/errand-dev/errand/machine/imagetest"
	"github.com/errand-dev/errand/machine/oci"
	"github.com/errand-dev/errand/runner"
)

// buildImages lets the house build Dockerfiles, which reach network.
func (h *house) buildImages(network *imagetest.Network) {
	h.t.Helper()
	runc, err := exec.LookPath("runc")
	if err != nil {
		guesttest.Lacking(h.t, "runc is not installed")
	}
	b, err := buildkit.New(buildkit.Options{Dir: h.t.TempDir(), Images: h.options.Images, Engine: oci.Runc, Runc: runc, Daemon: guesttest.Program(h.t, "buildkitd"), Client: solver.Program(guesttest.Program(h.t, "errand-buildkit"))})
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() {
		if err := b.Close(); err != nil {
			h.t.Error(err)
		}
	})
	h.stop()
	h.options.Driver = struct {
		*oci.Driver
		*buildkit.Builder
	}{h.driver, b}
	h.options.Gate = egress.New(egress.Options{Log: h.options.Log, Private: []netip.Prefix{network.Prefix()}})
	h.run()
}

// TestRegistryIsDown changes the base image to one that cannot be pulled. The
// build of that fails and says from where; the one that was there before goes on
// serving new agents, who are told.
func TestRegistryIsDown(t *testing.T) {
	network := imagetest.NewNetwork(t)
	var down atomic.Bool
	registry := network.Registry(func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if down.Load() {
				http.Error(w, "down", http.StatusServiceUnavailable)
				return
			}
			h.ServeHTTP(w, r)
		})
	})
	good := imagetest.Push(t, registry, "good", imagetest.Image(t, v1.Config{}, append(imagetest.BusyboxFiles(t, "git"), imagetest.File{Name: "etc/base", Data: []byte("good\n"), Mode: 0o644})...))
	next := registry + "/next:latest"
	h := build(t, script(talk("work", says("done"))), runner.Defaults{})
	h.buildImages(network)
	whole := t
	const file, recipe = ".cursor/environment.json", ".cursor/Dockerfile"
	for _, c := range []struct {
		name          string
		before, after map[string]string
		has, says     string // a file that the build left, and what is in it
	}{
		{"image", map[string]string{file: `{"image": "` + good + `", "install": "echo tool > /tool"}`},
			map[string]string{file: `{"image": "` + next + `", "install": "echo tool > /tool"}`}, "/tool", "tool\n"},
		{"image alone", map[string]string{file: `{"image": "` + good + `"}`},
			map[string]string{file: `{"image": "` + next + `"}`}, "/dev/null", ""},
		{"dockerfile", map[string]string{file: `{"build": {"dockerfile": "Dockerfile"}, "install": "cat /made > /tool"}`, recipe: "FROM " + good + "\nRUN echo made > /made\n"},
			map[string]string{recipe: "FROM " + next + "\nRUN echo made > /made\n"}, "/tool", "made\n"},
		{"dockerfile alone", map[string]string{file: `{"build": {"dockerfile": "Dockerfile"}}`, recipe: "FROM " + good + "\nRUN echo alone > /tool\n"},
			map[string]string{recipe: "FROM " + next + "\nRUN echo alone > /tool\n"}, "/tool", "alone\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h.t = t
			defer func() { down.Store(false); h.t = whole }()
			repo := repository(t, c.before)
			first, run := h.start(ask("work", repo))
			h.ends(first, run, errand.RunFinished)
			of := h.row(first).Environment
			if _, err := h.runner.Builds.Ask(t.Context(), caller, of, builds.Request{}); err != nil {
				t.Fatal(err)
			}
			serving := h.buildEnds(of)
			if serving.Status != errand.BuildSucceeded || h.active(of) != serving.ID {
				t.Fatalf("the first build is %+v (%+v)", serving, serving.Failure)
			}

			down.Store(true)
			for name, text := range c.after {
				change(t, repo, "main", name, text)
			}
			if _, err := h.runner.Builds.Ask(t.Context(), caller, of, builds.Request{}); err != nil {
				t.Fatal(err)
			}
			failed := h.buildEnds(of)
			if failed.Status != errand.BuildFailed || failed.Failure.Error.Kind != errand.Unavailable {
				t.Fatalf("without the registry the build is %+v (%+v)", failed, failed.Failure)
			}
			for _, want := range []string{registry, "next", "503"} {
				if said := failed.Failure.Error.Message; !strings.Contains(said, want) {
					t.Errorf("the failure does not say %q: %s", want, said)
				}
			}
			if h.active(of) != serving.ID {
				t.Errorf("%s is active, want %s", h.active(of), serving.ID)
			}

			second, run2 := h.start(ask("work", repo))
			h.ends(second, run2, errand.RunFinished)
			if got := h.row(second).Build; got != serving.ID {
				t.Errorf("the agent is on %q, want %s\n%s", got, serving.ID, h.story(second))
			}
			out := ""
			if _, err := h.runner.Exec(t.Context(), caller, second, runner.ExecRequest{Args: []string{"cat", "/etc/base", c.has}}, func(o guest.Output) { out += string(o.Data) }); err != nil || out != "good\n"+c.says {
				t.Errorf("its machine has %q, want %q, %v", out, "good\n"+c.says, err)
			}

			// Nothing else serves for an image that somebody asks for.
			req := ask("work", repo)
			req.Settings.Image = next
			third, run3 := h.start(req)
			if ended := h.ends(third, run3, errand.RunFailed); ended.Error == nil || !strings.Contains(ended.Error.Message, "503") {
				t.Errorf("the run that asks for the image fails with %+v", ended.Error)
			}
			told := ""
			for _, e := range h.events(second) {
				if e.Kind == errand.EventNotice {
					told += read[errand.Notice](t, e).Text
				}
			}
			if !strings.Contains(told, "503") || !strings.Contains(told, "stands on") || !strings.Contains(told, string(serving.ID)) {
				t.Errorf("people are told %q", told)
			}
		})
	}
	if told := h.told(); !strings.Contains(told, "503") {
		t.Error("the model was not told")
	}
}
