package git

import (
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// httpRemote is a real git http-backend with a user and a password.
type httpRemote struct {
	server *httptest.Server
	user   string // "" lets everybody in
	pass   string
	// before, if set, sees each request first; false means that it answered.
	before func(http.ResponseWriter, *http.Request) bool
}

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
		Stderr:     os.Stderr,
	}
	h := &httpRemote{}
	h.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if h.before != nil && !h.before(w, r) {
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
