package git

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/guest/guesttest"
)

// httpRemote is a real git http-backend with a user and a password.
type httpRemote struct {
	server *httptest.Server
	user   string // "" lets everybody in
	pass   string
	hook   atomic.Pointer[func(http.ResponseWriter, *http.Request) bool]
}

// before sees each request first; false means that it answered.
func (h *httpRemote) before(do func(http.ResponseWriter, *http.Request) bool) { h.hook.Store(&do) }

func newHTTPRemote(t testing.TB, root string) *httpRemote {
	t.Helper()
	path, err := exec.Command("git", "--exec-path").Output()
	if err != nil {
		t.Fatal(err)
	}
	backend := &cgi.Handler{
		Path: filepath.Join(strings.TrimSpace(string(path)), "git-http-backend"),
		Env: []string{"GIT_PROJECT_ROOT=" + root, "GIT_HTTP_EXPORT_ALL=1", "REMOTE_USER=x", "HOME=/nonexistent",
			"GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=http.receivepack", "GIT_CONFIG_VALUE_0=true"},
		InheritEnv: []string{"PATH"},
		Stderr:     io.Discard,
	}
	h := &httpRemote{}
	h.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if before := h.hook.Load(); before != nil && !(*before)(w, r) {
			return
		}
		if user, pass, _ := r.BasicAuth(); h.user != "" && (user != h.user || pass != h.pass) {
			w.Header().Set("WWW-Authenticate", `Basic realm="git"`)
			http.Error(w, "Who are you?", http.StatusUnauthorized)
			return
		}
		backend.ServeHTTP(w, r)
	}))
	t.Cleanup(h.server.Close)
	return h
}

func (h *httpRemote) url(name string) string { return h.server.URL + "/" + name }

// sshRemote is a small ssh server that lets one key in and runs git's two
// programs, as the hosts of repositories do.
type sshRemote struct {
	address string
	key     string // the private key that is let in
	known   string // a known_hosts file
}

func newSSHRemote(t testing.TB) *sshRemote {
	t.Helper()
	dir := t.TempDir()
	newKey := func(path string) ssh.Signer {
		_, private, err := ed25519.GenerateKey(nil)
		if err != nil {
			t.Fatal(err)
		}
		block, err := ssh.MarshalPrivateKey(private, "")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
		signer, err := ssh.NewSignerFromKey(private)
		if err != nil {
			t.Fatal(err)
		}
		return signer
	}
	host, user := newKey(dir+"/host"), newKey(dir+"/id")
	config := &ssh.ServerConfig{PublicKeyCallback: func(c ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
		if c.User() != "git" || !bytes.Equal(key.Marshal(), user.PublicKey().Marshal()) {
			return nil, errors.New("not this key")
		}
		return nil, nil
	}}
	config.AddHostKey(host)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &sshRemote{address: l.Addr().String(), key: dir + "/id", known: dir + "/known_hosts"}
	write(t, s.known, knownhosts.Line([]string{s.address}, host.PublicKey())+"\n")
	var conns sync.WaitGroup
	conns.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			conns.Go(func() { serveSSH(c, config) })
		}
	})
	t.Cleanup(func() { l.Close(); conns.Wait() })
	return s
}

func (s *sshRemote) url(path string) string { return "ssh://git@" + s.address + path }

func serveSSH(c net.Conn, config *ssh.ServerConfig) {
	defer c.Close()
	_, channels, requests, err := ssh.NewServerConn(c, config)
	if err != nil {
		return
	}
	go ssh.DiscardRequests(requests)
	for offered := range channels {
		channel, requests, err := offered.Accept()
		if err != nil {
			return
		}
		for r := range requests {
			if r.Type != "exec" {
				_ = r.Reply(r.Type == "env", nil)
				continue
			}
			_ = r.Reply(true, nil)
			var command struct{ Line string }
			_ = ssh.Unmarshal(r.Payload, &command)
			cmd := exec.Command("sh", "-c", "exec git "+strings.TrimPrefix(command.Line, "git-"))
			cmd.Stdout, cmd.Stderr = channel, channel.Stderr()
			// Not cmd.Stdin: Wait would wait for the client to end its side.
			stdin, err := cmd.StdinPipe()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(stdin, channel); stdin.Close() }()
			status := struct{ Code uint32 }{}
			if err := cmd.Run(); err != nil {
				status.Code = 128
			}
			_, _ = channel.SendRequest("exit-status", false, ssh.Marshal(status))
			_ = channel.Close()
			break
		}
	}
}

const secret = "hunter2-s3cr3t/+%40"

// Every kind of remote is fetched from and pushed to, and what opens it is seen
// in no argument of any process, nowhere in the machine and nowhere on disk.
func TestRemotes(t *testing.T) {
	t.Parallel()
	bare, _ := newRemote(t)
	root := filepath.Dir(bare)
	web := newHTTPRemote(t, root)
	web.user, web.pass = "bot", secret
	shell := newSSHRemote(t)
	tests := []struct{ name, url string }{
		{"path", bare},
		{"file", "file://" + bare},
		{"http", web.url("remote.git")},
		{"ssh", shell.url(bare)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := newMirrors(t, Options{Credential: func(url string) (Credential, bool) {
				switch {
				case strings.HasPrefix(url, "http"):
					return Credential{User: "bot", Password: secret}, true
				case strings.HasPrefix(url, "ssh"):
					return Credential{SSHKey: shell.key, KnownHosts: shell.known}, true
				}
				return Credential{}, false
			}})
			seen := watchArguments(t, secret)
			branch := "errand/" + tt.name + "-0000"
			box, p := working(t, m, Grant{URL: tt.url, Branch: branch})
			id := box.commit("a.txt", tt.name)
			out := box.mustGit("push", "origin", "HEAD")
			if got := git(t, bare, "rev-parse", branch); got != id {
				t.Errorf("remote at %s, want %s", got, id)
			}
			box.mustGit("fetch", "origin")
			if got := p.take(); len(got) != 1 || got[0].Refused != "" {
				t.Errorf("recorded %+v", got)
			}
			if found := seen(); found != "" {
				t.Errorf("the password was an argument: %s", found)
			}
			if strings.Contains(out, secret) {
				t.Errorf("git printed the password: %s", out)
			}
			mustNotHold(t, secret, filepath.Dir(box.dir), m.options.Dir)
		})
	}
}

// watchArguments looks at the command lines of all processes until the function
// it returns is called, which gives the first that held text.
func watchArguments(t testing.TB, text string) func() string {
	stop := make(chan struct{})
	found := make(chan string, 1)
	go func() {
		for {
			files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
			for _, f := range files {
				if b, _ := os.ReadFile(f); bytes.Contains(b, []byte(text)) {
					found <- string(b)
					return
				}
			}
			select {
			case <-stop:
				found <- ""
				return
			default:
			}
		}
	}()
	return func() string { close(stop); return <-found }
}

func mustNotHold(t testing.TB, text string, dirs ...string) {
	t.Helper()
	for _, dir := range dirs {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			b, err := os.ReadFile(path)
			if bytes.Contains(b, []byte(text)) {
				t.Errorf("%s holds %q", path, text)
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
}

func TestNoAccess(t *testing.T) {
	t.Parallel()
	bare, _ := newRemote(t)
	root := filepath.Dir(bare)
	web := newHTTPRemote(t, root)
	web.user, web.pass = "bot", "right"
	statuses := newHTTPRemote(t, root)
	statuses.before(func(w http.ResponseWriter, r *http.Request) bool {
		for code, path := range map[int]string{403: "/403/", 500: "/500/", 503: "/503/", 404: "/404/"} {
			if strings.HasPrefix(r.URL.Path, path) {
				http.Error(w, "no", code)
				return false
			}
		}
		return true
	})
	shell, other := newSSHRemote(t), newSSHRemote(t)
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	tests := []struct {
		name string
		url  string
		cred Credential
		kind errand.Kind
		want string
	}{
		{"no such path", root + "/nothing.git", Credential{}, errand.NotFound, "there is no repository there"},
		{"not a repository", root, Credential{}, errand.NotFound, "there is no repository there"},
		{"no such file url", "file://" + root + "/nothing.git", Credential{}, errand.NotFound, "there is no repository there"},
		{"http without credential", web.url("remote.git"), Credential{}, errand.Forbidden, "give the server a credential"},
		{"http with a wrong one", web.url("remote.git"), Credential{User: "bot", Password: secret}, errand.Forbidden, "give the server a credential"},
		{"http 404", statuses.url("404/x.git"), Credential{}, errand.NotFound, "there is no repository there"},
		{"http 403", statuses.url("403/x.git"), Credential{}, errand.Forbidden, "refused access"},
		{"http 500", statuses.url("500/x.git"), Credential{}, errand.Unavailable, "try again"},
		{"http 503", statuses.url("503/x.git"), Credential{}, errand.Unavailable, "try again"},
		{"http no repository", statuses.url("nothing.git"), Credential{}, errand.NotFound, "there is no repository there"},
		{"nobody listens", "http://" + closed.Addr().String() + "/x.git", Credential{}, errand.Unavailable, "cannot be reached"},
		{"no such host", "https://nothing.invalid/x.git", Credential{}, errand.Unavailable, "cannot be reached"},
		{"ssh with another key", shell.url(bare), Credential{SSHKey: other.key, KnownHosts: shell.known}, errand.Forbidden, "refused access"},
		{"ssh host not known", shell.url(bare), Credential{SSHKey: shell.key, KnownHosts: "/dev/null"}, errand.Forbidden, "ssh-keyscan -p "},
		{"ssh no repository", shell.url("/nothing.git"), Credential{SSHKey: shell.key, KnownHosts: shell.known}, errand.NotFound, "there is no repository there"},
		{"ssh nobody listens", "ssh://git@" + closed.Addr().String() + "/x.git", Credential{}, errand.Unavailable, "cannot be reached"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := newMirrors(t, Options{Credential: func(string) (Credential, bool) { return tt.cred, tt.cred != Credential{} }})
			_, err := m.Fetch(context.Background(), tt.url)
			e := errand.AsError(err)
			if e == nil || e.Kind != tt.kind || e.Code != "repository_access" || !strings.Contains(e.Message, tt.want) || !strings.Contains(e.Message, tt.url) {
				t.Errorf("got %+v\nwant kind %s and %q", e, tt.kind, tt.want)
			}
			if e != nil && strings.Contains(fmt.Sprintf("%+v %v %v", *e, e.Err, e.Output), secret) {
				t.Errorf("the error holds the password: %+v", e)
			}
			left, _ := os.ReadDir(m.options.Dir + "/mirrors")
			if len(left) != 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

func TestSomebodyElsesRepository(t *testing.T) {
	t.Parallel()
	guesttest.Root(t) // to give a repository away
	bare, _ := newRemote(t)
	if out, err := exec.Command("chown", "-R", "nobody", bare).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	m := newMirrors(t, Options{})
	_, err := m.Fetch(context.Background(), bare)
	if e := errand.AsError(err); e == nil || e.Kind != errand.Forbidden || !strings.Contains(e.Message, "git config --global --add safe.directory '"+bare+"'") {
		t.Errorf("got %v", err)
	}
}

// A host that a remote redirects to is not told the password.
func TestRedirectIsNotTrusted(t *testing.T) {
	t.Parallel()
	bare, _ := newRemote(t)
	told := make(chan string, 100)
	thief := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, pass, ok := r.BasicAuth(); ok {
			told <- pass
		}
		w.Header().Set("WWW-Authenticate", `Basic realm="give"`)
		http.Error(w, "give", http.StatusUnauthorized)
	}))
	defer thief.Close()
	web := newHTTPRemote(t, filepath.Dir(bare))
	web.before(func(w http.ResponseWriter, r *http.Request) bool {
		if _, _, ok := r.BasicAuth(); !ok {
			w.Header().Set("WWW-Authenticate", `Basic realm="git"`)
			http.Error(w, "who", http.StatusUnauthorized)
			return false
		}
		http.Redirect(w, r, thief.URL+r.URL.String(), http.StatusFound)
		return false
	})
	m := newMirrors(t, Options{Credential: func(string) (Credential, bool) { return Credential{Password: secret}, true }})
	if _, err := m.Fetch(context.Background(), web.url("remote.git")); errand.KindOf(err) != errand.Forbidden {
		t.Errorf("got %v", err)
	}
	if len(told) > 0 {
		t.Errorf("the other host was told %q", <-told)
	}
}
