package web

import (
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/errand-dev/errand/guest/guesttest"
)

// TestPanelsParts runs the tests of what the panel is made of, without a browser.
func TestPanelsParts(t *testing.T) {
	npm, err := exec.LookPath("npm")
	if err != nil {
		guesttest.Lacking(t, "this test needs npm")
	}
	if _, err := os.Stat(filepath.Join("panel", "node_modules", "vite")); err != nil {
		guesttest.Lacking(t, "this test needs web/panel/node_modules: run make panel")
	}
	cmd := exec.CommandContext(t.Context(), npm, "test", "--silent")
	cmd.Dir = "panel"
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if !strings.Contains(string(out), "# fail 0") || strings.Contains(string(out), "# pass 0") {
		t.Errorf("no test ran:\n%s", out)
	}
}

func TestPanel(t *testing.T) {
	files := fstest.MapFS{
		"index.html":           {Data: []byte("page")},
		"index.html.gz":        {Data: []byte("page, small")},
		"assets/a-1.js":        {Data: []byte("script")},
		"assets/a-1.js.br":     {Data: []byte("script, smaller")},
		"assets/a-1.js.gz":     {Data: []byte("script, small")},
		"manifest.webmanifest": {Data: []byte("{}")},
		"sw.js":                {Data: []byte("worker")},
	}
	for _, tt := range []struct {
		path, accept     string
		status           int
		body, kind, keep string
		encoding         string
	}{
		{"/", "", 200, "page", "text/html; charset=utf-8", "no-cache", ""},
		{"/agents/bc-1", "gzip", 200, "page, small", "text/html; charset=utf-8", "no-cache", "gzip"},
		{"/assets/a-1.js", "gzip, br", 200, "script, smaller", "text/javascript; charset=utf-8", "public, max-age=31536000, immutable", "br"},
		{"/assets/a-1.js", "", 200, "script", "text/javascript; charset=utf-8", "public, max-age=31536000, immutable", ""},
		{"/assets/a-0.js", "", 404, "", "", "", ""},
		{"/../../etc/passwd", "", 400, "", "", "", ""},
		{"/sw.js", "", 200, "worker", "text/javascript; charset=utf-8", "no-cache", ""}, // else an upgrade would not be seen
		{"/manifest.webmanifest", "", 200, "{}", "application/manifest+json", "no-cache", ""},
	} {
		r := httptest.NewRequest("GET", "http://x/", nil)
		r.URL.Path = tt.path
		r.Header.Set("Accept-Encoding", tt.accept)
		w := httptest.NewRecorder()
		handler(files).ServeHTTP(w, r)
		if w.Code != tt.status {
			t.Errorf("%s: status %d", tt.path, w.Code)
		}
		if tt.status != 200 {
			continue
		}
		h := w.Header()
		if w.Body.String() != tt.body || h.Get("Content-Type") != tt.kind || h.Get("Cache-Control") != tt.keep || h.Get("Content-Encoding") != tt.encoding {
			t.Errorf("%s: %q %v", tt.path, w.Body, h)
		}
		if csp := h.Get("Content-Security-Policy"); !strings.Contains(csp, "script-src 'self';") {
			t.Errorf("%s: policy %q", tt.path, csp)
		}
	}
	w := httptest.NewRecorder()
	handler(files).ServeHTTP(w, httptest.NewRequest("POST", "http://x/", nil))
	if w.Code != 405 {
		t.Errorf("POST: %d", w.Code)
	}
}

// TestUnbuilt: a program without its panel says how to get it.
func TestUnbuilt(t *testing.T) {
	w := httptest.NewRecorder()
	handler(fstest.MapFS{}).ServeHTTP(w, httptest.NewRequest("GET", "http://x/", nil))
	if w.Code != 200 || !strings.Contains(w.Body.String(), "make panel") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}
