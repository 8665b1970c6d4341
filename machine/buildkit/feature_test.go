//go:build linux

package buildkit

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/authn"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/egress"
	"github.com/errand-dev/errand/machine"
	"github.com/errand-dev/errand/machine/imagetest"
)

// files fills a context.
func files(all map[string]string) func(*machine.ImageBuild) {
	return func(in *machine.ImageBuild) {
		in.Context = func(_ context.Context, root *os.Root) error {
			for name, text := range all {
				if err := root.MkdirAll(filepath.Dir(name), 0o755); err != nil {
					return err
				}
				if err := root.WriteFile(name, []byte(text), 0o644); err != nil {
					return err
				}
			}
			return nil
		}
	}
}

// TestFeatures carries out a file with all that people write into one.
func TestFeatures(t *testing.T) {
	engines(t, func(t *testing.T, engine string) {
		w := newWorld(t)
		b := w.builder(engine)
		served := w.Serve(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { fmt.Fprint(rw, "fetched ", r.URL.Path) }))
		text := `# syntax=docker/dockerfile:1
# check=skip=all
ARG TAG=latest
FROM ` + w.host + `/busybox:${TAG} AS base
ARG WHO=nobody
ENV PLACE=here NAME=$WHO
WORKDIR /srv/app
SHELL ["/bin/sh", "-e", "-c"]

FROM base AS tools
RUN <<EOF
echo "$NAME is ${PLACE}" >greeting
pwd >>greeting
EOF
COPY <<-"eot" /srv/script.sh
	#!/bin/sh
	echo $NOT_EXPANDED
	eot
RUN --mount=type=cache,target=/cache,id=features echo x >>/cache/x && wc -l </cache/x >/srv/cached

FROM base
COPY . /src
COPY --chown=1000:app --chmod=750 only/this.txt /srv/this.txt
ADD archive.tar /unpacked/
ADD http://` + served + `/file /srv/fetched
COPY --from=tools /srv/app/greeting /srv/script.sh /srv/
COPY --from=` + w.host + `/busybox /etc/group /srv/group
RUN --mount=type=bind,source=only,target=/mnt,ro cat /mnt/this.txt >/srv/bound
RUN --mount=type=bind,from=tools,source=/srv,target=/mnt cat /mnt/cached >/srv/cached
RUN --mount=type=secret,id=token,target=/tmp/t,mode=0400 wc -c </tmp/t >/srv/secret-size
RUN --mount=type=secret,id=token,env=TOKEN echo ${#TOKEN} >/srv/secret-env
RUN --mount=type=tmpfs,target=/scratch echo x >/scratch/x
RUN false || echo went on >/srv/shell
USER app
RUN id -un >/tmp/user
ENV LAST=1
`
		var archive bytes.Buffer
		tw := tar.NewWriter(&archive)
		if err := tw.WriteHeader(&tar.Header{Name: "inside.txt", Mode: 0o644, Size: 2, Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
		fmt.Fprint(tw, "in")
		tw.Close()
		ref, s := w.mustBuild(b, text, files(map[string]string{
			"only/this.txt": "this", "archive.tar": archive.String(), "left/out.log": "x", "left/in.txt": "y", ".dockerignore": "**/*.log\n",
		}), func(in *machine.ImageBuild) {
			in.Args = map[string]string{"WHO": "somebody"}
			in.Secrets = map[string][]byte{"token": []byte("hunter2hunter2")}
		})
		if strings.Contains(s.output.String(), "hunter2") {
			t.Error("the output has the secret")
		}
		got := w.boot("runc", ref, `cd /srv; cat greeting script.sh cached bound fetched secret-size secret-env shell /tmp/user; echo $LAST $PLACE $WHO
			stat -c '%a %u %g' this.txt; cat /unpacked/inside.txt group; ls /src /src/left; ls /tmp/t /scratch /mnt /cache 2>&1; pwd; env | grep TOKEN; true`)
		want := `somebody is here
/srv/app
#!/bin/sh
echo $NOT_EXPANDED
1
thisfetched /file14
14
went on
app
1 here
750 1000 1000
inroot:x:0:
app:x:1000:
/src:
archive.tar
left
only

/src/left:
in.txt
`
		if diff := cmp.Diff(want, got[:min(len(got), len(want))]); diff != "" {
			t.Errorf("(-want +got):\n%s\n%s", diff, got)
		}
		img, err := w.images.Get(t.Context(), ref, nil)
		if err != nil || img.User != "app" || img.WorkingDir != "/srv/app" {
			t.Errorf("the image is for %q in %q (%v)", img.User, img.WorkingDir, err)
		}
		for _, layer := range img.Layers {
			if found := holds(t, layer, "hunter2hunter2"); found != "" {
				t.Errorf("the secret is in %s", found)
			}
		}
	})
}

// holds looks for text in all files below dir.
func holds(t testing.TB, dir, text string) string {
	t.Helper()
	found := ""
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		if bytes.Contains(data, []byte(text)) {
			found = path
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// TestFenced looks around from inside a command.
func TestFenced(t *testing.T) {
	engines(t, func(t *testing.T, engine string) {
		t.Setenv("ERRAND_TEST_CREDENTIAL", "hunter2hunter2")
		w := newWorld(t)
		secret := w.Serve(http.NotFoundHandler())
		_, port, _ := strings.Cut(secret, ":")
		b := w.builder(engine)
		text := "FROM " + w.host + `/busybox
RUN env; cat /proc/mounts /proc/self/cgroup /proc/cmdline; ls -a / /root /run /mnt; ps; cat /etc/resolv.conf; ls -l /dev
RUN for at in 10.255.255.1 127.0.0.1:` + port + ` 169.254.169.254 ` + secret + `; do curl -sS -m 5 -i http://$at/ 2>&1 || true; done
`
		_, s := w.mustBuild(b, text)
		got := s.output.String()
		for _, secret := range []string{"hunter2", w.dir, "/state/", "docker", "buildkitd"} {
			// runc's mounts name the layers by where the daemon sees them.
			if strings.Contains(got, secret) && (secret != "/state/" || engine == GVisor) {
				t.Errorf("a command sees %q:\n%s", secret, got)
			}
		}
		if !strings.Contains(got, "nameserver 192.0.2.1") {
			t.Errorf("the name server is not ours:\n%s", got)
		}
		if strings.Count(got, "404 Not Found") != 1 {
			t.Errorf("not just what may be reached was:\n%s", got)
		}
		refused := map[string]bool{}
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, c := range w.connections {
			refused[c.Address] = refused[c.Address] || c.Refused != ""
		}
		if !refused["10.255.255.1"] || !refused["169.254.169.254"] || refused[w.Address.String()] {
			t.Errorf("refused are %v of %+v", refused, w.connections)
		}
	})
}

// TestPolicies holds that each build has the way out of its own policy, and one
// without Attach has none.
func TestPolicies(t *testing.T) {
	need(t, Runc)
	w := newWorld(t)
	b := w.builder(Runc)
	other := w.Serve(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { fmt.Fprint(rw, "reached") }))
	registryHost := w.host
	pinned, err := imagetest.Busybox(t, "curl").Digest()
	if err != nil {
		t.Fatal(err)
	}
	listed := func(in *machine.ImageBuild) {
		in.Attach = func(ctx context.Context, link *machine.Link) (io.Closer, error) {
			return w.gate.Attach(ctx, link, egress.Policy{Mode: egress.Listed, Allow: []string{registryHost}}, func(errand.Connection) {})
		}
	}
	text := "FROM " + w.host + "/busybox\nRUN curl -sS -m 5 http://" + other + "/ 2>&1 || true # "
	for i, test := range []struct {
		change func(*machine.ImageBuild)
		want   bool
	}{
		{listed, false},
		{func(*machine.ImageBuild) {}, true},
		{func(in *machine.ImageBuild) {
			in.Attach = nil
			in.File = bytes.Replace(in.File, []byte("/busybox\n"), []byte("/busybox@"+pinned.String()+"\n"), 1)
		}, false},
	} {
		_, s := w.mustBuild(b, text+fmt.Sprint(i)+"\n", test.change)
		if got := strings.Contains(s.output.String(), "reached"); got != test.want {
			t.Errorf("build %d reached it: %t\n%s", i, got, s.output.String())
		}
	}
}

// TestRegistries pulls from registries that refuse and that fail.
func TestRegistries(t *testing.T) {
	need(t, Runc)
	w := newWorld(t)
	var answer atomic.Int64
	host := w.Registry(func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			if code := int(answer.Load()); code != 0 {
				http.Error(rw, "no", code)
				return
			}
			user, password, _ := r.BasicAuth()
			if user != "joe" || password != "hunter2hunter2" {
				rw.Header().Set("WWW-Authenticate", `Basic realm="here"`)
				http.Error(rw, "who are you", http.StatusUnauthorized)
				return
			}
			h.ServeHTTP(rw, r)
		})
	})
	basic := &authn.Basic{Username: "joe", Password: "hunter2hunter2"}
	imagetest.Push(t, host, "own", imagetest.Busybox(t), remote.WithAuth(basic))
	keys := map[string]authn.AuthConfig{host: {Username: "joe", Password: "hunter2hunter2"}}
	b := w.builder(Runc)
	text := "# one\nFROM " + host + "/own:latest\nRUN echo pulled\n"
	for _, test := range []struct {
		text string
		code int
		keys map[string]authn.AuthConfig
		want string
		kind errand.Kind
	}{
		{text, 0, nil, "401 Unauthorized", errand.Forbidden},
		{text, 403, keys, "403 Forbidden", errand.Forbidden},
		{text, 500, keys, "500 Internal Server Error", errand.Unavailable},
		{"# one\nFROM " + host + "/none:latest\n", 0, keys, "404 Not Found", errand.NotFound},
		{"# one\nFROM 10.255.255.1:1/a/b:c\n", 0, nil, "10.255.255.1", errand.Unavailable},
		{"# one\nFROM nowhere.invalid/a/b:c\n", 0, nil, "nowhere.invalid", errand.Unavailable},
	} {
		answer.Store(int64(test.code))
		login(t, test.keys)
		_, _, err := w.build(b, test.text)
		image, _, _ := strings.Cut(strings.TrimPrefix(test.text, "# one\nFROM "), "\n")
		if err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), "Dockerfile:2") || !strings.Contains(err.Error(), image) || errand.KindOf(err) != test.kind {
			t.Errorf("answer %d: the error %v (%s) does not say %q, %s and the line", test.code, err, errand.KindOf(err), test.want, image)
		}
		if err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("the error has the password: %v", err)
		}
	}
	answer.Store(0)
	login(t, keys)
	w.mustBuild(b, text)
}

// What a base takes of the context is known when it was pulled: a build without
// it says so, where the image would lack the files.
func TestOnbuild(t *testing.T) {
	need(t, Runc)
	w := newWorld(t)
	b := w.builder(Runc)
	base := imagetest.Image(t, v1.Config{OnBuild: []string{"COPY . /src"}}, imagetest.BusyboxFiles(t)...)
	imagetest.Push(t, w.host, "onbuild", base)
	text := "# one\nFROM " + w.host + "/onbuild\n"
	_, _, err := w.build(b, text)
	if errand.KindOf(err) != errand.Invalid || !strings.Contains(err.Error(), "Dockerfile:2") || !strings.Contains(err.Error(), "ONBUILD COPY . /src") {
		t.Errorf("a base that takes the context: %v", err)
	}
	ref, _ := w.mustBuild(b, text+"COPY . /again\n", files(map[string]string{"file": "here\n"}))
	if got := w.boot("runc", ref, "cat /src/file /again/file"); got != "here\nhere\n" {
		t.Errorf("in the image: %q", got)
	}
}

// login has docker log in: at the registries of keys and nowhere else.
func login(t *testing.T, keys map[string]authn.AuthConfig) {
	t.Helper()
	config, err := json.Marshal(map[string]any{"auths": keys})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "config.json"), config, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("DOCKER_CONFIG", dir)
}
