package egress_test

import (
	"context"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/egress"
	"github.com/errand-dev/errand/egress/egresstest"
	"github.com/errand-dev/errand/guest/guesttest"
)

// Programs that know nothing of a proxy install from the real registries, under
// an allow list that names them.
func TestRegistries(t *testing.T) {
	reachable(t, "https://registry.npmjs.org/is-number")
	w := &world{t: t, told: make(chan struct{}, 1), gate: egress.New(egress.Options{})}
	w.Space = egresstest.New(t, 1500)
	w.attach(egress.Policy{Mode: egress.Listed, Allow: []string{"registry.npmjs.org:443", "proxy.golang.org:443", "deb.debian.org:443"}})
	defer w.network.Close()
	dir := t.TempDir()
	apt := filepath.Join(dir, "apt")
	for _, d := range []string{"lists/partial", "cache/archives/partial", "etc"} {
		if err := os.MkdirAll(filepath.Join(apt, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	sources := "deb [trusted=yes] https://deb.debian.org/debian bookworm-updates main\n"
	if err := os.WriteFile(filepath.Join(apt, "etc/sources.list"), []byte(sources), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		host string
		args []string
	}{
		{"registry.npmjs.org", []string{"npm", "install", "--prefix", dir, "--cache", filepath.Join(dir, "npm"), "is-number@7.0.0"}},
		{"proxy.golang.org", []string{"go", "mod", "download", "-modcacherw", "github.com/google/go-cmp@v0.7.0"}},
		{"deb.debian.org", []string{"apt-get", "update", "-o", "Dir::State=" + apt, "-o", "Dir::State::lists=" + apt + "/lists", "-o", "Dir::Cache=" + apt + "/cache",
			"-o", "Dir::Etc::sourcelist=" + apt + "/etc/sources.list", "-o", "Dir::Etc::sourceparts=-", "-o", "APT::Sandbox::User=root", "-o", "Acquire::Languages=none"}},
	} {
		if _, err := exec.LookPath(test.args[0]); err != nil {
			if os.Getenv("CI") != "" {
				t.Errorf("this test needs %s; install it", test.args[0])
			}
			continue
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		cmd := w.Command(ctx, test.args[0], test.args[1:]...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "GOMODCACHE="+filepath.Join(dir, "go"), "GOPROXY=https://proxy.golang.org", "GOSUMDB=off", "GOFLAGS=")
		out, err := cmd.CombinedOutput()
		cancel()
		if err != nil || strings.Contains(string(out), "\nErr:") {
			t.Errorf("%s: %v\n%s", strings.Join(test.args, " "), err, out)
			continue
		}
		c := w.find(func(c errand.Connection) bool { return c.Name == test.host && c.Port == 443 })
		if c.Received == 0 || c.Refused != "" {
			t.Errorf("record %+v", c)
		}
	}
}

// reachable skips the test, outside CI, where url is out of this host's reach.
func reachable(t *testing.T, url string) {
	t.Helper()
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Get(url)
	if err == nil {
		answer.Body.Close()
		return
	}
	guesttest.Lacking(t, "this test needs %s: %v", url, err)
}

// git clones through the egress, by plain HTTP under lists as well.
func TestGit(t *testing.T) {
	w := newWorld(t, egress.Policy{Mode: egress.Listed, Allow: []string{"git.test"}}, egress.Options{})
	w.name("git.test", "198.51.100.1")
	dir := t.TempDir()
	source := filepath.Join(dir, "source.git")
	script := `git init -q --bare -b main "$1" && git clone -q "$1" "$2" && cd "$2" && head -c 3000000 /dev/urandom > big &&
		git add big && git -c user.name=a -c user.email=a@b commit -qm one && git push -q origin HEAD:main && git -C "$1" update-server-info`
	if out, err := exec.Command("sh", "-c", script, "sh", source, filepath.Join(dir, "work")).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	l := w.listen("198.51.100.1:80")
	server := &http.Server{Handler: http.FileServer(http.Dir(dir))}
	done := make(chan struct{})
	go func() {
		defer close(done)
		server.Serve(l)
	}()
	defer func() {
		server.Close()
		<-done
	}()
	copied := filepath.Join(dir, "copy")
	if out, err := w.Command(t.Context(), "git", "clone", "-q", "http://git.test/source.git", copied).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if info, err := os.Stat(filepath.Join(copied, "big")); err != nil || info.Size() != 3_000_000 {
		t.Errorf("the clone: %v, %v", info, err)
	}
}

// A program is told in TLS what a name was refused for.
func TestAlert(t *testing.T) {
	w := newWorld(t, egress.Policy{Mode: egress.Listed, Allow: []string{"good.test"}}, egress.Options{})
	w.name("good.test", "198.51.100.1")
	w.web("198.51.100.1:443", "one", "good.test")
	w.lookup("good.test")
	for name, want := range map[string]string{"good.test": "CN = good.test", "bad.test": "unrecognized name"} {
		cmd := w.Command(t.Context(), "openssl", "s_client", "-connect", "198.51.100.1:443", "-servername", name)
		out, _ := cmd.CombinedOutput() // its exit code says nothing
		if !strings.Contains(string(out), want) {
			t.Errorf("openssl for %s: %s", name, out)
		}
	}
}
