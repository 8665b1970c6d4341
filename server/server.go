// Package server is Errand over HTTP: Cursor's v1, what Errand adds to it, and
// the streams.
//
// A request passes one door (security headers, host and origin, key, rate) and
// then one route; a route reads its form, asks the runner and gives a form back.
// Kinds of errors become statuses in one place. Streams are pulled from the
// journal by their own reader, so a slow one holds up nobody but itself.
//
// Nothing is decided here that the command line or another face would have to
// decide again: that is the runner's.
package server

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/api"
	"github.com/errand-dev/errand/auth"
	"github.com/errand-dev/errand/dockerfile"
	"github.com/errand-dev/errand/environment/file"
	"github.com/errand-dev/errand/runner"
	"github.com/errand-dev/errand/server/files"
	"github.com/errand-dev/errand/server/preview"
	"github.com/errand-dev/errand/setup"
	"github.com/errand-dev/errand/store"
	"github.com/errand-dev/errand/vault"
)

// Options are for New. Runner, Keys, Setups, Links, Log and URL are needed.
type Options struct {
	Runner *runner.Runner
	Vault  *vault.Vault
	Keys   *auth.Keys
	Setups *setup.Setups
	Log    *slog.Logger
	// URL is how people reach the server, "http://127.0.0.1:7070".
	URL     string
	Version string // told by /v1/health and the OpenAPI document
	// Rate is how many requests a key may make in a minute; 0 is 60,000.
	Rate int
	// Panel serves what the API does not: the panel's pages and files. nil: there
	// is none.
	Panel http.Handler
	// Flags are what the server was told, for people to read.
	Flags []api.Flag
	// Heartbeat is how often a quiet stream shows that it lives; 0 is 15 s.
	Heartbeat time.Duration
	SSH       SSH
	Links     *files.Links
	// Linter gives what looks at Dockerfiles until ctx ends; nil, or what gives nil:
	// nothing does.
	Linter func(ctx context.Context) dockerfile.Linter
	// PreviewDomain is under which all host names lead here and are previews', HOST
	// or HOST:PORT. "" is none but *.localhost.
	PreviewDomain string
}

// SSH is where people reach machines by ssh. Its zero value is nowhere.
type SSH struct {
	Address string // HOST:PORT
	HostKey string // as in known_hosts, without the name
}

// Server is the handler of all that Errand serves over HTTP.
type Server struct {
	runner    *runner.Runner
	vault     *vault.Vault
	keys      *auth.Keys
	setups    *setup.Setups
	linter    func(context.Context) dockerfile.Linter
	log       *slog.Logger
	sshAt     SSH
	files     *files.Files
	url       string // without a slash at its end
	host      string // of url
	cookie    string // the name of the one that browsers get
	secure    bool   // url is https
	version   string
	started   time.Time
	heartbeat time.Duration
	rate      *rate
	feed      *feed
	previews  *preview.Previews
	frames    frames
	panel     http.Handler // nil: none
	flags     []api.Flag
	handler   http.Handler
	stop      func()          // closes stopped
	stopped   <-chan struct{} // streams and sockets end
}

// New gives the server. It starts nothing; requests that are under way end with
// their contexts. A URL that is none is an Invalid error.
func New(o Options) (*Server, error) {
	u, err := url.Parse(strings.TrimSuffix(o.URL, "/"))
	if err != nil || u.Host == "" {
		return nil, errand.Errorf(errand.Invalid, "validation_error", "%q is not a URL under which people reach the server. It looks like https://errand.example.com.", o.URL)
	}
	s := &Server{
		runner: o.Runner, vault: o.Vault, keys: o.Keys, setups: o.Setups, log: o.Log,
		url: u.String(), host: u.Host, cookie: cookieName(u), secure: u.Scheme == "https", version: o.Version, started: time.Now().UTC().Truncate(time.Second),
		heartbeat: o.Heartbeat, rate: newRate(o.Rate), frames: frames{known: map[frameKey][]byte{}}, panel: o.Panel, sshAt: o.SSH, flags: o.Flags, linter: o.Linter,
	}
	if s.linter == nil {
		s.linter = func(context.Context) dockerfile.Linter { return nil }
	}
	if s.heartbeat == 0 {
		s.heartbeat = 15 * time.Second
	}
	s.files = &files.Files{Runner: o.Runner, Links: o.Links, URL: s.url}
	if s.previews, err = preview.New(preview.Options{Runner: o.Runner, Keys: o.Keys, Log: o.Log, URL: s.url, Domain: o.PreviewDomain, Cookie: s.cookie}); err != nil {
		return nil, err
	}
	stopped := make(chan struct{})
	s.stopped, s.stop = stopped, sync.OnceFunc(func() { close(stopped) })
	s.feed = &feed{server: s, readers: map[chan []byte]bool{}}
	mux := http.NewServeMux()
	document, err := s.routes(mux)
	if err != nil {
		return nil, err
	}
	mux.HandleFunc("GET /openapi.json", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Write(document)
	})
	mux.HandleFunc("GET "+schemaPath, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/schema+json")
		w.Write(file.Schema())
	})
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Write([]byte("{\"status\":\"ok\"}\n"))
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		if s.ofPanel(r) {
			s.panel.ServeHTTP(w, r)
			return
		}
		s.refuse(w, r, errand.Errorf(errand.NotFound, "not_found", "There is no %s %.100s here. /openapi.json lists what there is.", r.Method, r.URL.Path))
	})
	s.handler = s.door(mux)
	return s, nil
}

// ServeHTTP serves one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.handler.ServeHTTP(w, r) }

// Stop ends all streams and sockets, which would otherwise go on for as long as
// their readers like, and those that are opened later. It does not wait for them.
// Other requests are served as before.
func (s *Server) Stop() { s.stop() }

// routes puts every route on mux and gives the OpenAPI document made from them.
func (s *Server) routes(mux *http.ServeMux) ([]byte, error) {
	r := newRouter(s, mux)
	s.agentRoutes(r)
	s.runRoutes(r)
	s.feedRoutes(r)
	s.accountRoutes(r)
	s.signInRoutes(r)
	s.journalRoutes(r)
	s.machineRoutes(r)
	s.fileRoutes(r)
	s.portRoutes(r)
	s.takeoverRoutes(r)
	s.terminalRoutes(r)
	s.historyRoutes(r)
	s.snapshotRoutes(r)
	s.environmentRoutes(r)
	s.buildRoutes(r)
	s.bootRoutes(r)
	s.secretRoutes(r)
	s.setupRoutes(r)
	s.sshRoutes(r)
	s.keyRoutes(r)
	s.settingsRoutes(r)
	s.usageRoutes(r)
	delete(r.api.OpenAPI().Components.Schemas.Map(), "ErrorModel") // huma's own form, which is never sent
	document, err := json.MarshalIndent(r.api.OpenAPI(), "", "  ")
	if err != nil {
		return nil, fmt.Errorf("writing the OpenAPI document: %w", err)
	}
	return append(document, '\n'), nil
}

// who makes a request.
type who struct {
	caller errand.Caller
	key    store.Key
	signIn string // the cookie that let them in; "" where the key itself did
	host   string // as which they reach the server
}

type whoKey struct{}

// whoIs gives who makes the request of ctx. Routes are behind the door, so there
// is always somebody.
func whoIs(ctx context.Context) who {
	w, _ := ctx.Value(whoKey{}).(who)
	return w
}

var _ huma.StatusError = (*refusal)(nil)
