package main_test

import (
	"bytes"
	"database/sql"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestPanelSettings drives the panel's settings in a real browser: keys, models
// that answer and that do not, what was used with exact figures, notices, and the
// panel as an app: without its server, after an upgrade, after sleep.
func TestPanelSettings(t *testing.T) {
	t.Parallel()
	models, err := filepath.Abs("testdata/panel_models.json")
	if err != nil {
		t.Fatal(err)
	}
	p := openPanel(t, "testdata/panel_settings.json")
	p.in.kill()
	spentBefore(t, p.in.data)
	p.in.start("--listen", strings.TrimPrefix(p.address, "http://"), "--models", models, "--model", "priced", "--idle", "2s")
	f := newFront(t, p.address)
	p.address = f.URL
	repo := remote(t, map[string]string{"README.md": "# App\n", "main.go": "package main\n"})
	p.drive("settings.mjs", repo, func(asked string) bool {
		switch asked {
		case "down":
			f.set(true, 0)
		case "up":
			f.set(false, 0)
		case "upgrade":
			f.set(false, 1)
		default:
			return false
		}
		return true
	})
}

// spentBefore writes what was used in the 29 days before this one into the database
// of a server that does not run. settings.mjs knows how much it is.
func spentBefore(t *testing.T, data string) {
	t.Helper()
	db, err := sql.Open("sqlite", filepath.Join(data, "errand.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	today := time.Now().Unix() / 86400
	for ago := range int64(30) {
		for n, model := range []string{"claude-opus-5-5", "claude-sonnet-5-5", "gpt-6.2-sol"} {
			if ago == 0 || (ago+int64(n))%6 == 0 {
				continue
			}
			tokens := (1 + (ago*7+int64(n)*3)%11) * 100_000
			_, err := db.ExecContext(t.Context(), `INSERT INTO usage VALUES ($1, $2, $3, $4, $5, 0, 0, 0, 0, $6, $7)`,
				today-ago, model, "https://git.example/team/"+[]string{"app", "site"}[ago%2]+".git", []string{"grace@example.com", "alan@example.com"}[(ago+int64(n))%2],
				tokens, tokens*2000, (1+ago%4)*1_800_000)
			if err != nil {
				t.Fatal(err)
			}
		}
	}
}

// front stands before the server as a proxy would. It can be down, and make the
// panel another version of itself: its first script has another name then, and the
// one that it had is gone.
type front struct {
	*httptest.Server
	t       *testing.T
	script  string // the first script's real name
	mu      sync.Mutex
	down    bool
	version int
}

func newFront(t *testing.T, address string) *front {
	f := &front{t: t, script: regexp.MustCompile(`/assets/(index-[^"]*\.js)"`).FindStringSubmatch(fetch(t, address))[1]}
	target, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Header.Del("Accept-Encoding")
			if r.Out.Header.Get("Origin") != "" {
				r.Out.Header.Set("Origin", address)
			}
		},
		ModifyResponse: f.rename,
		ErrorHandler:   func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	}
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		down, name := f.now()
		if down {
			panic(http.ErrAbortHandler)
		}
		switch path := strings.TrimPrefix(r.URL.Path, "/assets/"); {
		case path == name:
			r.URL.Path = "/assets/" + f.script
		case path == f.script || strings.HasPrefix(path, "version-"):
			http.NotFound(w, r)
			return
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(f.Close)
	return f
}

// now says whether it is down, and what the first script is called.
func (f *front) now() (bool, string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.version == 0 {
		return f.down, f.script
	}
	return f.down, fmt.Sprintf("version-%d.js", f.version)
}

// set changes it, and cuts every connection as a server that is started again does.
func (f *front) set(down bool, later int) {
	f.mu.Lock()
	f.down = down
	f.version += later
	f.mu.Unlock()
	f.CloseClientConnections()
}

func (f *front) rename(resp *http.Response) error {
	kind := resp.Header.Get("Content-Type")
	if !strings.HasPrefix(kind, "text/html") && !strings.HasPrefix(kind, "text/javascript") {
		return nil
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	_, name := f.now()
	body = bytes.ReplaceAll(body, []byte(f.script), []byte(name))
	body = bytes.Replace(body, []byte("const VERSION = '"), []byte("const VERSION = '"+name), 1) // of the service worker
	resp.Body = io.NopCloser(bytes.NewReader(body))
	resp.ContentLength = int64(len(body))
	resp.Header.Set("Content-Length", strconv.Itoa(len(body)))
	resp.Header.Del("Etag")
	resp.Header.Del("Last-Modified")
	return nil
}
