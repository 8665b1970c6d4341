package environment_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/egress"
	"github.com/errand-dev/errand/environment"
	"github.com/errand-dev/errand/guest/guesttest"
	"github.com/errand-dev/errand/image"
	"github.com/errand-dev/errand/machine"
	"github.com/errand-dev/errand/machine/buildkit"
	"github.com/errand-dev/errand/machine/buildkit/solver"
	"github.com/errand-dev/errand/machine/imagetest"
	"github.com/errand-dev/errand/machine/oci"
	"github.com/errand-dev/errand/secret"
)

// building is a driver that builds Dockerfiles too.
type building struct {
	*oci.Driver
	*buildkit.Builder
	built *int // how often an image was asked for that was not there
}

func (b building) BuildImage(ctx context.Context, in machine.ImageBuild) (string, error) {
	*b.built++
	return b.Builder.BuildImage(ctx, in)
}

// buildHost is a host that builds, with a registry that has the image "tools".
type buildHost struct {
	*host
	builds   int
	registry string
	change   func(*environment.Preparation)
}

func newBuildHost(t *testing.T, engine string, files map[string]string) *buildHost {
	t.Helper()
	network := imagetest.NewNetwork(t)
	registry := network.Registry(nil)
	imagetest.Push(t, registry, "tools", imagetest.Busybox(t, "git"))
	files = maps.Clone(files)
	for name, text := range files {
		files[name] = strings.ReplaceAll(text, "REGISTRY", registry)
	}
	h := &buildHost{host: newHost(t, engine, files), registry: registry}
	store, err := image.Open(image.Options{Dir: images})
	if err != nil {
		t.Fatal(err)
	}
	runc, _ := exec.LookPath("runc")
	b, err := buildkit.New(buildkit.Options{Dir: t.TempDir(), Images: store, Engine: engine,
		Runc: runc, Runsc: guesttest.Program(t, "runsc"), Daemon: guesttest.Program(t, "buildkitd"), Client: solver.Program(guesttest.Program(t, "errand-buildkit"))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(b.Close(), store.Close()); err != nil {
			t.Error(err)
		}
	})
	gate := egress.New(egress.Options{Private: []netip.Prefix{network.Prefix()}})
	h.change = func(p *environment.Preparation) {
		p.Driver = building{h.driver, b, &h.builds}
		p.BuildSecrets = map[string][]byte{"token": []byte("0123456789")}
		p.AttachBuild = func(ctx context.Context, link *machine.Link) (io.Closer, error) {
			return gate.Attach(ctx, link, egress.Policy{}, func(errand.Connection) {})
		}
		p.Resolve = func(ctx context.Context, name string) (string, error) {
			got, err := store.Get(ctx, name, nil)
			return got.Reference, err
		}
	}
	return h
}

func (h *buildHost) agent(name string) *agent {
	a := h.host.agent(name)
	a.change = h.change
	return a
}

var dockerfileProject = map[string]string{
	".cursor/environment.json": `{ "build": { "dockerfile": "Dockerfile", "context": ".." }, "install": "cat /opt/lock >/opt/installed" }`,
	".cursor/Dockerfile": `FROM REGISTRY/tools
ENV COLOUR=green
COPY lock.txt /opt/lock
RUN --mount=type=secret,id=token,required=true wc -c </run/secrets/token >/opt/size && echo ran
RUN chown -R app:app /opt
USER app
`,
	"lock.txt":      "v1\n",
	"other.txt":     "one\n",
	".dockerignore": "other.txt\n",
}

func TestDockerfile(t *testing.T) {
	for _, engine := range engines {
		t.Run(engine, func(t *testing.T) { testDockerfile(t, engine) })
	}
}

func testDockerfile(t *testing.T, engine string) {
	h := newBuildHost(t, engine, dockerfileProject)
	a := h.agent("first")
	ready, err := a.prepare(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(whole, a.story()); diff != "" {
		t.Errorf("phases (-want +got):\n%s", diff)
	}
	for _, want := range []string{"RUN --mount=type=secret,id=token,required=true", "\nran\n", "DONE [stage-0 2/4] COPY lock.txt /opt/lock"} {
		if !strings.Contains(a.output(), want) {
			t.Errorf("the phase's output lacks %q:\n%s", want, a.output())
		}
	}
	if got := in(t, ready, "echo $COLOUR; cat /opt/size /opt/installed; stat -c %U /opt/installed /workspace; git log --format=%s"); got != "green\n10\nv1\napp\napp\nchange" {
		t.Errorf("in the machine: %q", got)
	}
	if ready.Environment.User != "app" {
		t.Errorf("the user is %q, want the image's", ready.Environment.User)
	}

	// What is not taken of the context changes nothing.
	h.push(map[string]string{"other.txt": "two\n"})
	a = h.agent("second")
	if _, err := a.prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	cached := replaced(whole, "image done", "image cached", "install done", "install cached", "snapshot done", "snapshot cached")
	if diff := cmp.Diff(cached, a.story()); diff != "" || h.builds != 1 {
		t.Errorf("%d builds; phases of an unchanged one (-want +got):\n%s", h.builds, diff)
	}

	h.push(map[string]string{"lock.txt": "v2\n"})
	a = h.agent("third")
	ready, err = a.prepare(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got := in(t, ready, "cat /opt/installed"); got != "v2" || h.builds != 2 {
		t.Errorf("after a change: %q, %d builds", got, h.builds)
	}
}

func TestDockerfileFaults(t *testing.T) {
	h := newBuildHost(t, oci.Runc, map[string]string{"Dockerfile": "FROM REGISTRY/tools\nRUN echo one\nRUN echo last words; exit 7\n"})
	for _, test := range []struct {
		name, environment, code string
		want                    []string
	}{
		{"no such file", `{"build": {"dockerfile": "Nowhere"}}`, "dockerfile_not_found", []string{".cursor/Nowhere", ".cursor/environment.json"}},
		{"does not parse", `{"build": {"dockerfileContents": "FROM scratch\nRUNN npm ci\n"}}`, "invalid_dockerfile", []string{"environment.json (dockerfileContents):2: ", "RUNN npm ci"}},
		{"context outside", `{"build": {"dockerfileContents": "FROM scratch\nCOPY a /\n", "context": "../../etc"}}`, "context_outside", []string{"../../etc"}},
		{"no such context", `{"build": {"dockerfileContents": "FROM scratch\nCOPY a /\n", "context": "nowhere"}}`, "context_missing", []string{".cursor/nowhere"}},
		{"no secret", `{"build": {"dockerfileContents": "FROM scratch\nRUN --mount=type=secret,id=npm,required=true npm ci\n"}}`, "build_secret_missing", []string{":2", `"npm"`}},
		{"a command fails", `{"build": {"dockerfile": "../Dockerfile"}}`, "dockerfile_failed", []string{"Dockerfile:3: ", "exit code 7", "RUN echo last words"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			h.t = t
			h.push(map[string]string{".cursor/environment.json": test.environment})
			a := h.agent("fault")
			_, err := a.prepare(t.Context())
			e := errand.AsError(err)
			if e == nil || e.Code != test.code {
				t.Fatalf("error %v, want code %s", err, test.code)
			}
			for _, want := range test.want {
				if !strings.Contains(e.Message, want) {
					t.Errorf("the message lacks %q: %s", want, e.Message)
				}
			}
			if test.code == "dockerfile_failed" && (e.ExitCode == nil || *e.ExitCode != 7 || e.Output != "last words\n") {
				t.Errorf("exit code %v, output %q", e.ExitCode, e.Output)
			}
			if diff := cmp.Diff([]string{"image", "image " + test.code}, a.story()); diff != "" {
				t.Errorf("phases (-want +got):\n%s", diff)
			}
		})
	}
}

// TestDockerfileLeavesASecret builds images that hold a build secret: none is
// kept, and the error says where and what to do.
func TestDockerfileLeavesASecret(t *testing.T) {
	h := newBuildHost(t, oci.Runc, nil)
	build := h.change
	h.change = func(p *environment.Preparation) {
		build(p)
		p.Guarded = secret.NewFinder(map[string][]string{"token": {"0123456789"}})
	}
	const mount = "FROM REGISTRY/tools\\nRUN --mount=type=secret,id=token "
	for i, test := range []struct{ text, want string }{
		{mount + "tr -d 1 </run/secrets/token >/tmp/other", ""},
		{mount + "base64 /run/secrets/token >/tmp/kept", "/tmp/kept (RUN /bin/sh -c base64 /run/secrets/token >/tmp/kept) holds the secret token"},
		{"FROM REGISTRY/tools\\nENV TOKEN=0123456789", "ENV TOKEN holds the secret token"},
	} {
		h.t = t
		h.push(map[string]string{".cursor/environment.json": `{"build": {"dockerfileContents": "` + strings.ReplaceAll(test.text, "REGISTRY", h.registry) + `\n"}}`})
		a := h.agent(fmt.Sprint("leak-", i))
		_, err := a.prepare(t.Context())
		if test.want == "" {
			if err != nil {
				t.Errorf("%s: %v", test.text, err)
			}
			continue
		}
		e := errand.AsError(err)
		if e == nil || e.Code != "secret_in_image" || e.Kind != errand.Invalid {
			t.Fatalf("%s: error %v", test.text, err)
		}
		for _, want := range []string{test.want, "environment.json (dockerfileContents)", "RUN --mount=type=secret,id=token"} {
			if !strings.Contains(e.Message, want) {
				t.Errorf("the message lacks %q: %s", want, e.Message)
			}
		}
		if strings.Contains(e.Message, "0123456789") {
			t.Errorf("the message has the secret: %s", e.Message)
		}
		if diff := cmp.Diff([]string{"image", "image secret_in_image"}, a.story()); diff != "" {
			t.Errorf("phases (-want +got):\n%s", diff)
		}
	}
}
