// Package web serves the panel: the pages in which people start agents, watch
// and answer them in a browser.
//
// The panel is a program of its own, in TypeScript, under web/panel. It talks to
// the server through the public API alone, by a client made from the server's
// OpenAPI document; nothing here knows an agent. `make panel` builds it into
// web/dist, which is compiled in: files named by their content, kept by browsers
// for ever, compressed once, when they are built. A program that was built
// without it serves a page that says how to build it.
package web

import (
	"embed"
	"io/fs"
	"net/http"
	"path"
	"strings"
)

//go:embed all:dist
var dist embed.FS

// policy is the panel's Content-Security-Policy. Styles may stand in a page, as
// terminals and diffs write theirs; scripts may not.
const policy = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self'; " +
	"connect-src 'self'; manifest-src 'self'; worker-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

const page = "index.html"

const unbuilt = `<!doctype html><meta charset="utf-8"><title>Errand</title>
<p>This server was built without its panel. Build it with <code>make panel build</code> (it takes Node 20 and npm), and start it again.
<p>Everything else works: <code>errand --help</code>, <a href="/openapi.json">the API</a>.
`

// Handler serves the panel that was compiled in.
func Handler() http.Handler {
	files, err := fs.Sub(dist, "dist")
	if err != nil {
		panic(err) // the name is a constant
	}
	return handler(files)
}

// handler serves the panel in files. Every path that is no file's is the page's:
// what it shows is decided in the browser.
func handler(files fs.FS) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			h.Set("Allow", "GET, HEAD")
			http.Error(w, "The panel is only read.", http.StatusMethodNotAllowed)
			return
		}
		name := strings.TrimPrefix(path.Clean(r.URL.Path), "/")
		inAssets := strings.HasPrefix(name, "assets/")
		if _, err := fs.Stat(files, name); err != nil || name == "." {
			if inAssets {
				http.NotFound(w, r) // a page's file from before an update
				return
			}
			name = page
		}
		h.Set("Cache-Control", "no-cache")
		if inAssets {
			h.Set("Cache-Control", "public, max-age=31536000, immutable")
		}
		serve(w, r, files, name)
	})
}

// encodings are the compressed forms that are made beside a file, best first.
var encodings = []struct{ name, suffix string }{{"br", ".br"}, {"gzip", ".gz"}}

func serve(w http.ResponseWriter, r *http.Request, files fs.FS, name string) {
	h := w.Header()
	if _, err := fs.Stat(files, name); err != nil {
		h.Set("Content-Type", "text/html; charset=utf-8")
		_, _ = w.Write([]byte(unbuilt)) // the reader may be gone
		return
	}
	h.Set("Vary", "Accept-Encoding")
	h.Set("Content-Type", typeOf(name))
	accepted := r.Header.Get("Accept-Encoding")
	for _, e := range encodings {
		if _, err := fs.Stat(files, name+e.suffix); err == nil && strings.Contains(accepted, e.name) {
			h.Set("Content-Encoding", e.name)
			name += e.suffix
			break
		}
	}
	http.ServeFileFS(w, r, files, name)
}

// typeOf gives what a file is. The host's own list, which net/http would ask,
// differs from host to host.
func typeOf(name string) string {
	switch path.Ext(name) {
	case ".html":
		return "text/html; charset=utf-8"
	case ".js":
		return "text/javascript; charset=utf-8"
	case ".css":
		return "text/css; charset=utf-8"
	case ".svg":
		return "image/svg+xml"
	case ".png":
		return "image/png"
	case ".woff2":
		return "font/woff2"
	case ".wasm":
		return "application/wasm"
	case ".webmanifest":
		return "application/manifest+json"
	case ".json":
		return "application/json"
	}
	return "application/octet-stream"
}
